mod captions;
mod grown;

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::data::source::{Directory, Source, SourceEntry, SourceImage, SourceImages};
use crate::data::{Examples, Loader, LoaderConfig, OnBroken};

fn bright(number: u64) -> u8 {
    number as u8 + 100
}

/// Flat images, whose brightness is their number; numbers divisible by 7 are broken where `broken`.
#[derive(Debug)]
struct Flat {
    count: u64,
    broken: bool,
    classes: Vec<String>,
}

impl Flat {
    fn new(count: u64, broken: bool) -> Self {
        Self { count, broken, classes: ["even", "odd"].map(str::to_owned).into() }
    }
}

impl Source for Flat {
    fn len(&self) -> u64 {
        self.count
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self) -> String {
        "flat images".into()
    }

    fn samples(&self, start: u64) -> Result<SourceImages<'_>, Error> {
        Ok(Box::new((start..self.count).map(|number| {
            let mut png = io::Cursor::new(Vec::new());
            // The left column is dark, so that mirroring shows.
            let image = RgbImage::from_fn(4, 4, |x, _| Rgb([if x == 0 { 0 } else { bright(number) }; 3]));
            image.write_to(&mut png, ImageFormat::Png).unwrap();
            let mut bytes = png.into_inner();
            if self.broken && number.is_multiple_of(7) {
                bytes.truncate(30);
            }
            Ok(SourceImage { name: format!("images/ä{number}.png"), class: number as usize % 2, bytes, mask: None })
        })))
    }
}

fn contents() -> Contents {
    let origin = |name: &str| Origin { name: name.into(), sha256: "00".repeat(32) };
    Contents {
        shape: [2, 2, 2],
        precision: StoragePrecision::F32,
        deviation: true,
        flipped: true,
        normalised: true,
        image_size: 4,
        buckets: None,
        masked: false,
        several_captions: false,
        classes: vec!["even".into(), "odd".into()],
        autoencoder: origin("trivial"),
        features: vec![StoredFeatures { tokens: 3, width: 2, encoder: origin("first pixels") }],
        source: "flat images".into(),
        shard_examples: 10,
    }
}

/// The latent is the first eight pixels, the deviation a tenth of the batch's size, features the first six pixels.
fn trivial(images: ImageBatch) -> EncodedBatch {
    let [count, channels, height, width] = images.shape;
    let rows = || images.pixels.chunks(channels * height * width);
    let first = |numbers: usize| rows().flat_map(move |row| row[..numbers].to_vec()).collect::<Vec<_>>();
    EncodedBatch {
        mean: first(8),
        deviation: Some(vec![count as f32 / 10.0; 8 * count]),
        features: vec![first(6)],
        mask: None,
    }
}

const SKIP: EncodeConfig = EncodeConfig { batch: 4, on_broken: OnBroken::Skip };

/// Encodes up to `most` batches.
fn encode(folder: &Path, contents: Contents, source: &dyn Source, most: usize) -> Result<EncodeOutcome, crate::Error> {
    let (stop, mut done) = (AtomicBool::new(most == 0), 0);
    let writer = Writer::open(folder, contents)?;
    encode_dataset(source, SKIP, writer, &stop, vec![trivial], |event| {
        done += usize::from(matches!(event, Encoding::Encoded(_)));
        stop.store(done == most, Ordering::Relaxed);
    })
}

fn encoded(contents: Contents, count: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let outcome = encode(folder.path(), contents, &Flat::new(count, false), usize::MAX).unwrap();
    assert!(matches!(outcome, EncodeOutcome::Finished(_)));
    folder
}

fn verify(latents: &Latents) -> Result<Verified, Error> {
    latents.verify(&Verified::default(), |_, _| ())
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_encoded_is_read_back() {
    let folder = encoded(contents(), 25);
    let latents = Latents::open(folder.path()).unwrap();
    verify(&latents).unwrap();
    assert_eq!((latents.len(), latents.shape(), latents.features()), (Some(25), [2, 2, 2], vec![[3, 2]]));
    for index in 0..25 {
        let Example { pixels, label, features, .. } = latents.example(index).unwrap();
        let bright = f32::from(bright(index)) / 127.5 - 1.0;
        let expected = [-1.0, bright, bright, bright, -1.0, bright, bright, bright];
        assert!(pixels.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6));
        assert_eq!((label as u64, &features[0][..]), (index % 2, &pixels[..6]));
        assert_eq!(latents.name(index).unwrap(), format!("images/ä{index}.png"));
    }
    let names: Vec<_> = files(folder.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["manifest.json", "shard-00000.safetensors", "shard-00001.safetensors", "shard-00002.safetensors"]
    );
    // Any reader of the format understands a shard.
    let bytes = fs::read(folder.path().join("shard-00002.safetensors")).unwrap();
    let shard = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(shard.tensor("mean_flipped").unwrap().shape(), [5, 2, 2, 2]);
}

/// Stops after every possible number of batches, and leaves what a killed process leaves.
#[test]
fn an_interrupted_encode_ends_as_an_uninterrupted_one() {
    let source = Flat::new(41, true);
    let whole = tempfile::tempdir().unwrap();
    let EncodeOutcome::Finished(manifest) = encode(whole.path(), contents(), &source, usize::MAX).unwrap() else {
        panic!()
    };
    assert_eq!((manifest.examples(), manifest.read, manifest.broken.len()), (35, 41, 6));
    let expected = files(whole.path());
    for most in 0..11 {
        let folder = tempfile::tempdir().unwrap();
        let outcome = encode(folder.path(), contents(), &source, most).unwrap();
        assert_eq!(matches!(outcome, EncodeOutcome::Interrupted), most < 11, "{most}");
        fs::write(folder.path().join(".shard-00001.safetensors.1.tmp"), "half").unwrap();
        fs::write(folder.path().join("shard-00003.safetensors"), "renamed, but not noted").unwrap();
        while matches!(encode(folder.path(), contents(), &source, 3).unwrap(), EncodeOutcome::Interrupted) {}
        assert!(files(folder.path()) == expected, "stopped after {most}");
    }
    // Once more changes nothing.
    assert!(matches!(encode(whole.path(), contents(), &source, usize::MAX).unwrap(), EncodeOutcome::Finished(_)));
    assert!(files(whole.path()) == expected);
}

#[test]
fn a_broken_image_is_named_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = Flat::new(9, true);
    let refuse = EncodeConfig { on_broken: OnBroken::Refuse, ..SKIP };
    let writer = Writer::open(folder.path(), contents()).unwrap();
    let error = encode_dataset(&source, refuse, writer, &AtomicBool::new(false), vec![trivial], |_| {}).unwrap_err();
    assert!(error.to_string().contains("ä0.png"), "{error}");
    let EncodeOutcome::Finished(manifest) = encode(folder.path(), contents(), &source, 9).unwrap() else { panic!() };
    assert_eq!(manifest.broken, ["images/ä0.png", "images/ä7.png"]);
    assert_eq!(Latents::open(folder.path()).unwrap().name(0).unwrap(), "images/ä1.png");
    let empty = tempfile::tempdir().unwrap();
    assert!(encode(empty.path(), contents(), &Flat::new(1, true), 9).unwrap_err().to_string().contains("none of 1"));
}

#[test]
fn what_is_left_out_is_told_with_its_reason() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("images");
    fs::create_dir_all(images.join("a")).unwrap();
    for name in ["0.png", "1.png"] {
        RgbImage::from_pixel(2, 2, Rgb([9; 3])).save(images.join("a").join(name)).unwrap();
    }
    fs::write(images.join("a/2.png"), "<html>").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere.png", images.join("a/3.png")).unwrap();
    let source = Directory::open(&images).unwrap();
    let contents = Contents { classes: source.classes().to_vec(), ..contents() };
    let writer = Writer::open(&root.path().join("latents"), contents).unwrap();
    let mut lines = vec![];
    let progress = |event| {
        if let Encoding::Remark(line) = event {
            lines.push(line);
        }
    };
    encode_dataset(&source, SKIP, writer, &AtomicBool::new(false), vec![trivial], progress).unwrap();
    let broken = if cfg!(unix) { "2 images are" } else { "1 image is" };
    assert_eq!(lines[0], format!("{broken} broken and left out:"));
    assert!(lines[1].starts_with("  a/2.png: ") && lines[1].contains("web page"), "{lines:?}");
    assert!(cfg!(not(unix)) || lines[2].starts_with("  a/3.png: it cannot be read"), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("2 images are smaller than the size asked for"), "{lines:?}");
}

#[test]
fn a_folder_of_other_contents_is_refused_by_name() {
    let folder = encoded(contents(), 11);
    let other = Contents { autoencoder: Origin { name: "another".into(), sha256: String::new() }, ..contents() };
    let error = Writer::open(folder.path(), other).unwrap_err().to_string();
    assert!(error.contains("`autoencoder`"), "{error}");
    fs::write(folder.path().join("shard-00000.safetensors"), "").unwrap();
    let error = Writer::open(folder.path(), contents()).unwrap_err().to_string();
    assert!(error.contains("has 0 bytes of"), "{error}");
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), Contents { flipped: false, ..contents() }).unwrap();
    let image = [Image {
        entry: SourceEntry { name: "a.png".into(), class: 0, captions: vec![], stamp: None },
        sha256: [0; 32],
    }];
    let encoded = |number| EncodedBatch {
        mean: vec![number; 8],
        deviation: Some(vec![0.0; 8]),
        features: vec![vec![0.0; 6]],
        mask: None,
    };
    let error = writer.push(&image, &encoded(f32::NAN), None).unwrap_err().to_string();
    assert!(error.contains("latent of `a.png`: the encoder makes NaN of it"), "{error}");
    let half = Contents { flipped: false, precision: StoragePrecision::F16, ..contents() };
    let mut writer = Writer::open(&folder.path().join("half"), half).unwrap();
    // The largest number of 16 bits is 65504; from 65520 on numbers are rounded to infinity.
    writer.push(&image, &encoded(65_519.0), None).unwrap();
    let error = writer.push(&image, &encoded(65_520.0), None).unwrap_err().to_string();
    assert!(error.contains("65520 is too large for F16; store bf16 or f32"), "{error}");
}

#[test]
fn shards_are_read_once_and_then_known() {
    let folder = encoded(contents(), 35);
    let latents = Latents::open(folder.path()).unwrap();
    let mut told = vec![];
    let verified = latents.verify(&Verified::default(), |done, all| told.push((done, all))).unwrap();
    let bytes = latents.manifest().bytes();
    assert!(told.len() == 4 && told[0].0 < bytes / 2 && told[3] == (bytes, bytes), "{told:?}");
    let note = folder.path().join("note.json");
    assert_eq!(Verified::read(&note), Verified::default());
    verified.write(&note).unwrap();
    assert_eq!(Verified::read(&note), verified);

    // Two shards exchanged: each is whole and of the right size, and neither is what the manifest calls so.
    let [first, second] = [1, 2].map(|number| folder.path().join(format!("shard-0000{number}.safetensors")));
    let [one, two] = [&first, &second].map(|path| fs::read(path).unwrap());
    fs::write(&first, &two).unwrap();
    fs::write(&second, &one).unwrap();
    let swapped = Latents::open(folder.path()).unwrap();
    let error = swapped.verify(&verified, |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("shard-00001") && error.contains("restore it from a copy"), "{error}");
    fs::write(&first, &one).unwrap();
    fs::write(&second, &two).unwrap();
    // Other times, the same bytes: read again and found whole.
    let again = Latents::open(folder.path()).unwrap().verify(&verified, |_, _| ()).unwrap();
    assert_ne!(again, verified);
    // What is known with its size and times is believed, here wrongly, so it was not read.
    let name = "shard-00001.safetensors";
    let hash = &latents.manifest().shards[1].sha256;
    fs::write(&first, &two).unwrap();
    let stamp = crate::files::digest::stamp(&first).unwrap();
    let note_text = format!("{{\"{name}\": {{\"sha256\": \"{hash}\", \"stamp\": \"{stamp}\"}}}}");
    fs::write(&note, note_text).unwrap();
    Latents::open(folder.path()).unwrap().verify(&Verified::read(&note), |_, _| ()).unwrap();
}

fn batches(latents: Latents, workers: usize, step: u64, count: usize) -> Vec<Examples> {
    let config = LoaderConfig { seed: 3, batch: 6, step, flip: true, workers };
    Loader::new(Arc::new(latents), config).unwrap().take(count).map(Result::unwrap).collect()
}

#[test]
fn batches_do_not_depend_on_readers_or_restarts() {
    let folder = encoded(contents(), 25);
    let open = || Latents::open(folder.path()).unwrap();
    let expected = batches(open(), 0, 0, 20);
    assert_eq!(expected[0].features[0].len(), 6 * 3 * 2);
    for workers in [1, 2, 4, 8] {
        assert!(batches(open(), workers, 0, 20) == expected, "{workers} readers");
        assert!(batches(open(), workers, 13, 7) == expected[13..], "{workers} readers");
    }
}

#[test]
fn training_draws_from_the_posterior_of_either_twin() {
    let folder = encoded(contents(), 1);
    let latents = Latents::open(folder.path()).unwrap();
    let mean = latents.example(0).unwrap();
    let variation = |position| Variation { seed: 5, position, flip: false };
    let draws: Vec<_> = (0..4000).map(|position| latents.variant(0, variation(position)).unwrap().pixels).collect();
    assert_ne!(draws[0], draws[1]);
    let deviations = || draws.iter().flat_map(|draw| draw.iter().zip(&mean.pixels)).map(|(a, b)| f64::from(a - b));
    // The batch had one image, so the deviation is 0.1; five standard errors of 32,000 numbers.
    let (sum, squares) = (deviations().sum::<f64>() / 32e3, deviations().map(|d| d * d).sum::<f64>() / 32e3);
    assert!(sum.abs() < 5.0 * 0.1 / 32e3f64.sqrt(), "{sum}");
    assert!((squares / 0.01 - 1.0).abs() < 5.0 * (2.0 / 32e3f64).sqrt(), "{squares}");

    let means = Latents::open(folder.path()).unwrap().for_training(PosteriorMode::Mean, true).unwrap();
    let seen = |position| means.variant(0, Variation { seed: 5, position, flip: true }).unwrap();
    let twin: Vec<f32> = mean.pixels.chunks(4).flat_map(|row| row.iter().rev().copied()).collect();
    assert_ne!(mean.pixels, twin);
    let (mut plain, mut mirrored) = (0, 0);
    for position in 0..400 {
        let example = seen(position);
        assert_eq!(example.features[0], example.pixels[..6], "features are those of the twin that is seen");
        plain += u32::from(example.pixels == mean.pixels);
        mirrored += u32::from(example.pixels == twin);
    }
    assert!(plain + mirrored == 400 && plain.abs_diff(200) < 50, "{plain} plain, {mirrored} mirrored");
}

#[test]
fn what_training_cannot_use_is_refused() {
    let folder = encoded(Contents { flipped: false, ..contents() }, 3);
    let open = || Latents::open(folder.path()).unwrap();
    assert!(open().for_training(PosteriorMode::Sample, true).unwrap_err().to_string().contains("no mirrored twins"));
    assert!((0..9).any(|position| open().variant(0, Variation { seed: 0, position, flip: true }).is_err()));
    let folder = encoded(Contents { normalised: false, ..contents() }, 3);
    let error = Latents::open(folder.path()).unwrap().for_training(PosteriorMode::Sample, false).unwrap_err();
    assert!(error.to_string().contains("not normalised"), "{error}");
}

#[test]
fn half_precision_halves_the_files() {
    let sizes = [StoragePrecision::F32, StoragePrecision::F16, StoragePrecision::Bf16].map(|precision| {
        let folder = encoded(Contents { precision, ..contents() }, 10);
        let example = Latents::open(folder.path()).unwrap().example(9).unwrap();
        assert!((example.pixels[1] - (109.0 / 127.5 - 1.0)).abs() < 4e-3, "{precision:?}");
        fs::metadata(folder.path().join("shard-00000.safetensors")).unwrap().len() as usize
    });
    // Two twins of ten latents, deviations and features have 440 numbers.
    assert!(sizes[0].abs_diff(sizes[1]).abs_diff(880) < 100 && sizes[1].abs_diff(sizes[2]) < 100, "{sizes:?}");
}

#[test]
fn damage_is_an_error_with_a_path() {
    let folder = encoded(contents(), 10);
    let path = folder.path().join("shard-00000.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = Latents::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("shard-00000") && error.contains("bytes of"), "{error}");
    }
    let mut flipped = whole.clone();
    // The last letter of the names, before ten hashes.
    let letter = whole.len() - 32 * 10 - 1;
    flipped[letter] ^= 0xff;
    fs::write(&path, &flipped).unwrap();
    let latents = Latents::open(folder.path()).unwrap();
    assert!(verify(&latents).unwrap_err().to_string().contains("was written; restore it"));
    assert!(latents.name(9).unwrap_err().to_string().contains("the name of 9"));
    // Another file under the name of one that is read changes nothing for its reader.
    let (before, other) = (latents.example(9).unwrap(), folder.path().join("other"));
    fs::write(&other, &whole[..whole.len() / 2]).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(latents.example(9).unwrap().pixels, before.pixels);
    fs::write(&path, &whole).unwrap();

    let manifest = folder.path().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let open = |from: &str, text: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        fs::write(&manifest, text.replace(from, to)).unwrap();
        Latents::open(folder.path()).err().map_or_else(String::new, |error| error.to_string())
    };
    for (from, to, word) in [
        ("\"format\": 2", "\"format\": 3", "format 3"),
        ("\"odd\"", "\"odd\", \"more\"", "changed after it was written"),
        ("\"trivial\"", "\"better\"", "changed after it was written"),
        ("\"examples\": 10", "\"examples\": 9", "changed after it was written"),
    ] {
        let error = open(from, &text, to);
        assert!(error.contains(word), "{to}: {error}");
    }
    assert_eq!(open("{", &text, "{ "), "");
    // One of format 1 has no checksum.
    let text = text.replace("\"format\": 2", "\"format\": 1");
    for (from, to, word) in [
        ("\"examples\": 10", "\"examples\": 9", "the manifest says F32 [9, 2, 2, 2]"),
        ("\"examples\": 10", "\"examples\": 0", "0 examples"),
        ("\"examples\": 10", "\"examples\": 4000000000", "4000000000 examples"),
        ("shard-00000", "../secret", "../secret"),
        ("\"deviation\": true", "\"deviation\": false", "tensors, expected 8"),
        ("\"tokens\": 3", "\"tokens\": 6000000000000000000", "6000000000000000000"),
        ("\"f32\"", "\"f16\"", "the manifest says F16"),
    ] {
        let error = open(from, &text, to);
        assert!(error.contains(word), "{to}: {error}");
    }
    assert_eq!(open("\"odd\"", &text, "\"odd\", \"more\""), "");
    fs::remove_file(&manifest).unwrap();
    assert!(Latents::open(folder.path()).unwrap_err().to_string().contains("finish encoding"));
}

#[test]
fn latents_of_the_same_images_by_other_settings_are_other_data() {
    let whole = encoded(contents(), 12);
    let halves = encoded(Contents { precision: StoragePrecision::F16, ..contents() }, 12);
    let [whole, halves] = [&whole, &halves].map(|folder| Latents::open(folder.path()).unwrap().fingerprint().unwrap());
    assert_eq!((whole.class_examples.clone(), &whole.names), (vec![6, 6], &halves.names));
    assert_ne!(whole.content, halves.content);
    let fewer = Latents::open(encoded(contents(), 11).path()).unwrap().fingerprint().unwrap();
    assert_eq!(fewer.class_examples, [6, 5]);
}
