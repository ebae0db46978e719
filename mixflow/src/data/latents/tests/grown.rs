//! Sources that change between two encodings into one folder.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::*;
use crate::Shard;
use crate::data::CaptionFormat;
use crate::data::source::{Directory, PartOf, Renumbered, WebDataset};

/// Flat images by name, class and brightness, which count how often they are read.
#[derive(Clone, Debug)]
struct Named {
    images: Vec<(&'static str, usize, u8)>,
    stamps: Option<u32>,
    reads: Cell<u64>,
}

impl Named {
    fn new(images: &[(&'static str, usize, u8)]) -> Self {
        Self { images: images.into(), stamps: Some(0), reads: Cell::new(0) }
    }
}

fn png(brightness: u8) -> Vec<u8> {
    let mut png = io::Cursor::new(Vec::new());
    RgbImage::from_pixel(4, 4, Rgb([brightness; 3])).write_to(&mut png, ImageFormat::Png).unwrap();
    png.into_inner()
}

impl Source for Named {
    fn len(&self) -> u64 {
        self.images.len() as u64
    }

    fn classes(&self) -> &[String] {
        unreachable!("the contents have them")
    }

    fn describe(&self) -> String {
        "the test".into()
    }

    fn entries(&self) -> Result<Vec<SourceEntry>, Error> {
        let entry = |&(name, class, _): &(&str, usize, u8)| SourceEntry {
            name: name.into(),
            class,
            captions: vec![],
            stamp: self.stamps.map(|stamp| stamp.to_string()),
        };
        Ok(self.images.iter().map(entry).collect())
    }

    fn samples(&self, start: u64) -> Result<SourceImages<'_>, Error> {
        Ok(Box::new(self.images[start as usize..].iter().map(|&(name, class, brightness)| {
            self.reads.set(self.reads.get() + 1);
            Ok(SourceImage { name: name.into(), class, bytes: png(brightness), mask: None })
        })))
    }
}

fn three() -> Contents {
    Contents { shard_examples: 3, ..contents() }
}

/// Brightness of every image, by the second number of its latent, and its class, by name.
fn stored(folder: &Path) -> BTreeMap<String, (u8, usize)> {
    let latents = Latents::open(folder).unwrap();
    verify(&latents).unwrap();
    let count = latents.len().unwrap();
    let one = |index| {
        let Example { pixels, label, .. } = latents.example(index).unwrap();
        assert_eq!(latents.label(index).unwrap(), label);
        (latents.name(index).unwrap(), (((pixels[1] + 1.0) * 127.5).round() as u8, label))
    };
    let all: BTreeMap<_, _> = (0..count).map(one).collect();
    assert_eq!(all.len() as u64, count, "every image stands there once");
    all
}

fn finish(folder: &Path, source: &dyn Source) {
    let outcome = encode(folder, three(), source, usize::MAX).unwrap();
    assert!(matches!(outcome, EncodeOutcome::Finished(_)));
}

fn refuse(folder: &Path, source: &dyn Source, words: &[&str]) {
    let before = files(folder);
    let error = encode(folder, three(), source, usize::MAX).unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    assert!(files(folder) == before, "{words:?}");
}

const FIRST: [(&str, usize, u8); 5] = [("b", 0, 10), ("d", 1, 20), ("f", 0, 30), ("h", 1, 40), ("j", 0, 50)];
/// New images before, between and behind the first ones.
const GROWN: [(&str, usize, u8); 9] = [
    ("a", 1, 60),
    ("b", 0, 10),
    ("c", 1, 70),
    ("d", 1, 20),
    ("f", 0, 30),
    ("g", 0, 80),
    ("h", 1, 40),
    ("j", 0, 50),
    ("k", 0, 90),
];

fn expected(images: &[(&str, usize, u8)]) -> BTreeMap<String, (u8, usize)> {
    images.iter().map(|&(name, class, brightness)| (name.into(), (brightness, class))).collect()
}

#[test]
fn finished_latents_stay_whole_while_images_are_added() {
    for most in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        finish(folder.path(), &Named::new(&FIRST));
        let old = files(folder.path());
        assert!(matches!(
            encode(folder.path(), three(), &Named::new(&GROWN), most).unwrap(),
            EncodeOutcome::Interrupted
        ));
        // As after a kill between two files.
        fs::write(folder.path().join(".shard-00002.safetensors.1.tmp"), "half").unwrap();
        assert_eq!(stored(folder.path()), expected(&FIRST), "stopped after {most}");
        let partial = fs::read(folder.path().join("partial.json"));
        finish(folder.path(), &Named::new(&GROWN));
        assert_eq!(stored(folder.path()), expected(&GROWN), "stopped after {most}");
        let new = files(folder.path());
        assert!(old.iter().filter(|(name, _)| name != "manifest.json").all(|file| new.contains(file)));
        assert!(new.iter().all(|(name, _)| name == "manifest.json" || name.starts_with("shard-")));
        // Once more changes nothing, also after a kill before the last file was removed.
        if let Ok(partial) = partial {
            fs::write(folder.path().join("partial.json"), partial).unwrap();
        }
        finish(folder.path(), &Named::new(&GROWN));
        assert!(files(folder.path()) == new);
    }
}

#[test]
fn a_stopped_encoding_continues_by_names() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(encode(folder.path(), three(), &Named::new(&FIRST), 1).unwrap(), EncodeOutcome::Interrupted));
    finish(folder.path(), &Named::new(&GROWN));
    assert_eq!(stored(folder.path()), expected(&GROWN));
}

#[test]
fn what_is_encoded_must_be_there_still_and_be_the_same() {
    for most in [1, usize::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let _ = encode(folder.path(), three(), &Named::new(&FIRST), most).unwrap();
        let changed = |change: &dyn Fn(&mut Named)| {
            let mut source = Named::new(&FIRST);
            source.stamps = Some(1);
            change(&mut source);
            source
        };
        let path = folder.path();
        refuse(
            path,
            &changed(&|source| source.images.retain(|image| image.0 != "d")),
            &["hold `d`", "the test does not have"],
        );
        refuse(path, &changed(&|source| source.images[1].0 = "e"), &["hold `d`", "put it back"]);
        refuse(path, &changed(&|source| source.images[1].1 = 0), &["`d` as `odd`", "`even` now"]);
        refuse(path, &changed(&|source| source.images[1].2 = 21), &["another image called `d`"]);
    }
}

#[test]
fn unchanged_images_are_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let reads = |stamps| {
        let source = Named { stamps, ..Named::new(&FIRST) };
        finish(folder.path(), &source);
        source.reads.get()
    };
    // Read for encoding; not at all; read for comparing, once; not at all; without stamps always.
    assert_eq!([Some(0), Some(0), Some(1), Some(1), None, None].map(reads), [5, 0, 5, 0, 5, 5]);
}

#[test]
fn two_images_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    refuse(folder.path(), &Named::new(&[("a", 0, 1), ("b", 0, 2), ("a", 1, 3)]), &["two called `a`"]);
}

#[test]
fn a_repaired_image_is_encoded_and_a_broken_one_listed_once() {
    let folder = tempfile::tempdir().unwrap();
    finish(folder.path(), &Flat::new(9, true));
    let manifest = |folder: &Path| Latents::open(folder).unwrap().manifest().clone();
    assert_eq!((manifest(folder.path()).broken.len(), manifest(folder.path()).read), (2, 9));
    finish(folder.path(), &Flat::new(9, true));
    assert_eq!((manifest(folder.path()).broken.len(), manifest(folder.path()).read), (2, 9));
    finish(folder.path(), &Flat::new(9, false));
    let repaired = manifest(folder.path());
    assert_eq!((repaired.broken.len(), repaired.read, repaired.examples()), (0, 9, 9));
}

/// Images of 4 x 4 pixels in a folder of two classes.
fn write_images(root: &Path, images: &[(&str, u8)]) {
    for (name, brightness) in images {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(*brightness)).unwrap();
    }
}

#[test]
fn folders_may_grow_and_move_but_not_change() {
    let root = tempfile::tempdir().unwrap();
    let [photos, moved, latents] = ["photos", "moved", "latents"].map(|name| root.path().join(name));
    write_images(&photos, &[("even/1.png", 1), ("even/3.png", 3), ("odd/2.png", 2), ("odd/4.png", 4)]);
    finish(&latents, &Directory::open(&photos).unwrap());
    fs::rename(&photos, &moved).unwrap();
    write_images(&moved, &[("even/0.png", 100), ("zebra/9.png", 9)]);
    let source = Directory::open(&moved).unwrap();
    let contents = Contents { classes: source.classes().to_vec(), source: source.describe(), ..three() };
    assert!(matches!(encode(&latents, contents, &source, usize::MAX).unwrap(), EncodeOutcome::Finished(_)));
    let found = stored(&latents);
    assert_eq!((found["even/0.png"], found["odd/2.png"], found["zebra/9.png"]), ((100, 0), (2, 1), (9, 2)));
    assert_eq!(Latents::open(&latents).unwrap().classes(), ["even", "odd", "zebra"]);

    // Of the same size, under the same name.
    assert_eq!(png(5).len(), png(3).len());
    write_images(&moved, &[("even/3.png", 5)]);
    let contents = |source: &Directory| Contents { classes: source.classes().to_vec(), ..three() };
    let source = Directory::open(&moved).unwrap();
    let error = encode(&latents, contents(&source), &source, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("another image called `even/3.png`"), "{error}");
    // A class before the others moves their numbers.
    write_images(&moved, &[("even/3.png", 3), ("ant/1.png", 7)]);
    let source = Directory::open(&moved).unwrap();
    let error = encode(&latents, contents(&source), &source, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("other classes, of which number 0 is `even`, not `ant`"), "{error}");
    assert_eq!(stored(&latents), found);
}

/// Encodes up to `most` batches of images with captions, as whoever adds to a folder does, and returns whether that was all.
fn encode_captions(photos: &Path, latents: &Path, most: usize) -> bool {
    let source = Box::new(Directory::captioned(photos, CaptionFormat::Whole).unwrap());
    let source = Renumbered::new(source, known_classes(latents).unwrap());
    let contents = Contents { classes: source.classes().to_vec(), source: source.describe(), ..three() };
    matches!(encode(latents, contents, &source, most).unwrap(), EncodeOutcome::Finished(_))
}

/// Brightness and caption of every image by name.
fn captions_of(latents: &Path) -> BTreeMap<String, (u8, String)> {
    let captions = Latents::open(latents).unwrap().classes().to_vec();
    stored(latents).into_iter().map(|(name, (bright, class))| (name, (bright, captions[class].clone()))).collect()
}

fn write_captioned(photos: &Path, images: &[(&str, u8, &str)]) {
    for (name, brightness, caption) in images {
        write_images(photos, &[(&format!("{name}.png"), *brightness)]);
        fs::write(photos.join(name).with_extension("txt"), caption).unwrap();
    }
}

fn captioned(images: &[(&str, u8, &str)]) -> BTreeMap<String, (u8, String)> {
    images.iter().map(|(name, bright, caption)| (format!("{name}.png"), (*bright, (*caption).into()))).collect()
}

#[test]
fn captions_may_be_new_anywhere_and_keep_the_numbers_that_they_have() {
    let old = [("b", 1, "a cat"), ("d", 2, "a zebra"), ("f", 3, "a cat"), ("h", 4, "a dog"), ("j", 5, "a dog")];
    let new = [("a", 6, "an ant"), ("c", 7, "a cat"), ("e", 8, "a bird"), ("g", 9, "the end"), ("i", 10, "a bird")];
    let all = [old, new].concat();
    for most in 0..2 {
        let root = tempfile::tempdir().unwrap();
        let [photos, latents, whole] = ["photos", "latents", "whole"].map(|name| root.path().join(name));
        write_captioned(&photos, &old);
        assert!(encode_captions(&photos, &latents, usize::MAX));
        write_captioned(&photos, &new);
        // Stopped between any two batches it holds what it held, and goes on.
        assert!(!encode_captions(&photos, &latents, most), "{most}");
        assert_eq!(captions_of(&latents), captioned(&old), "{most}");
        // Also with more.
        write_captioned(&photos, &[("k", 11, "a crow")]);
        while !encode_captions(&photos, &latents, 1) {}
        let all = captioned(&[&all[..], &[("k", 11, "a crow")]].concat());
        assert_eq!(captions_of(&latents), all, "{most}");
        assert!(encode_captions(&photos, &whole, usize::MAX));
        assert_eq!(captions_of(&whole), all);
        let classes = Latents::open(&latents).unwrap().classes().to_vec();
        assert_eq!(classes[..3], ["a cat", "a dog", "a zebra"]);
        let mut sorted = classes;
        sorted.sort();
        assert_eq!(sorted, Latents::open(&whole).unwrap().classes());
        // What is there must still be told the same.
        fs::write(photos.join("d.txt"), "a horse").unwrap();
        let source = Renumbered::new(
            Box::new(Directory::captioned(&photos, CaptionFormat::Whole).unwrap()),
            known_classes(&latents).unwrap(),
        );
        let contents = Contents { classes: source.classes().to_vec(), ..three() };
        let error = encode(&latents, contents, &source, usize::MAX).unwrap_err().to_string();
        assert!(error.contains("hold `d.png` as `a zebra`, but it is `a horse` now"), "{error}");
    }
}

/// Where new captions are ordered behind the old ones, and the last shard was full.
#[test]
fn captions_that_come_last_make_the_files_of_one_encoding() {
    let root = tempfile::tempdir().unwrap();
    let [photos, latents, whole] = ["photos", "latents", "whole"].map(|name| root.path().join(name));
    write_captioned(&photos, &[("1", 1, "a"), ("2", 2, "b"), ("3", 3, "b")]);
    assert!(encode_captions(&photos, &latents, usize::MAX));
    write_captioned(&photos, &[("0", 4, "c"), ("4", 5, "d"), ("5", 6, "d"), ("6", 7, "e")]);
    assert!(encode_captions(&photos, &latents, usize::MAX) && encode_captions(&photos, &whole, usize::MAX));
    assert!(files(&latents) == files(&whole));
}

#[test]
fn captions_of_parts_are_numbered_as_these_have_them() {
    let root = tempfile::tempdir().unwrap();
    let [photos, latents] = ["photos", "latents"].map(|name| root.path().join(name));
    let old = [("b", 1, "a cat"), ("d", 2, "a zebra"), ("f", 3, "a dog")];
    write_captioned(&photos, &old);
    assert_eq!(known_classes(&latents).unwrap(), Vec::<String>::new());
    let open = || {
        Renumbered::new(
            Box::new(Directory::captioned(&photos, CaptionFormat::Whole).unwrap()),
            known_classes(&latents).unwrap(),
        )
    };
    let contents = |source: &Renumbered| Contents { classes: source.classes().to_vec(), ..three() };
    for (part, images) in Shard::all(2).unwrap().into_iter().zip([0..1, 1..3]) {
        let source = open();
        let folder = latents.join(part.name());
        fs::create_dir_all(&folder).unwrap();
        let outcome = encode(&folder, contents(&source), &PartOf::new(&source, images), usize::MAX).unwrap();
        assert!(matches!(outcome, EncodeOutcome::Finished(_)));
    }
    write_captioned(&photos, &[("a", 4, "a bird")]);
    let source = open();
    assert_eq!(join_parts(&latents, &contents(&source)).unwrap(), 2);
    assert!(matches!(encode(&latents, contents(&source), &source, usize::MAX).unwrap(), EncodeOutcome::Finished(_)));
    assert_eq!(captions_of(&latents), captioned(&[&old[..], &[("a", 4, "a bird")]].concat()));
}

/// Writes an archive of flat images with their classes.
fn write_archive(path: &Path, images: &[(&str, usize, u8)]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (key, class, brightness) in images {
        for (ending, bytes) in [("png", png(*brightness)), ("cls", class.to_string().into_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, format!("{key}.{ending}"), &bytes[..]).unwrap();
        }
    }
    archive.finish().unwrap();
}

#[test]
fn archives_may_grow_but_not_change() {
    let root = tempfile::tempdir().unwrap();
    let [archive, latents] = ["a.tar", "latents"].map(|name| root.path().join(name));
    let open = || WebDataset::open(std::slice::from_ref(&archive), Some(three().classes)).unwrap();
    write_archive(&archive, &FIRST);
    finish(&latents, &open());
    write_archive(&archive, &GROWN);
    finish(&latents, &open());
    let named = GROWN.iter().map(|&(key, class, bright)| (format!("a.tar/{key}.png"), (bright, class))).collect();
    assert_eq!(stored(&latents), named);
    let mut changed = GROWN;
    changed[4].2 = 31;
    write_archive(&archive, &changed);
    refuse(&latents, &open(), &["another image called `a.tar/f.png`"]);
}
