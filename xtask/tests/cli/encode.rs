//! `encode`, by way of every source and precision.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use burn::tensor::Device;
use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use mixflow::backbones::autoencoder::{KlAutoencoderConfig, official_key};
use mixflow::backbones::encoder::EncoderConfig;
use mixflow::backbones::weights::Weights;
use mixflow::data::latents::{Latents, PosteriorMode, Verified};
use mixflow::data::{Dataset, Variation};
use mixflow_t2i::Words;
use mixflow_t2i::prompts::PromptTable;
use serde_json::json;

use crate::{Place, everything};

/// The pictures of `tests/fixtures/train-00000-of-00001.parquet`.
pub(crate) fn picture(number: u32) -> RgbImage {
    RgbImage::from_fn(20, 18, |x, y| Rgb([x * 12, y * 13, number * 40].map(|value| value as u8)))
}

/// Six pictures as a folder and as an archive, an autoencoder and an encoder with random weights.
pub(crate) fn place() -> Place {
    let place = Place::new();
    let mut archive = tar::Builder::new(File::create(place.path("train.tar")).unwrap());
    let mut add = |name: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    for number in 0..6 {
        let class = place.path("photos").join(["cats", "dogs"][number as usize % 2]);
        fs::create_dir_all(&class).unwrap();
        picture(number).save(class.join(format!("{number}.png"))).unwrap();
        let mut bytes = vec![];
        picture(number).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        add(format!("{number}.png"), &bytes);
        add(format!("{number}.cls"), (number % 2).to_string().as_bytes());
    }
    archive.finish().unwrap();
    fs::write(place.path("classes.txt"), "cats\ndogs\n").unwrap();

    let autoencoder =
        KlAutoencoderConfig { widths: vec![8, 16], depth: 1, groups: 4, ..KlAutoencoderConfig::stable_diffusion() };
    // Four patches of eight pixels each way.
    let encoder = EncoderConfig {
        patch: 8,
        input_size: 16,
        table_size: 16,
        width: 16,
        depth: 1,
        heads: 2,
        hidden: 32,
        ..EncoderConfig::dinov2_base_for_repa(16)
    };
    let device = Device::default();
    let weights = Weights::of(&autoencoder.init(0, &device), official_key);
    weights.write(place.path("vae.safetensors"), &[]).unwrap();
    encoder.init(1, &device).weights().write(place.path("encoder.safetensors"), &[]).unwrap();
    fs::write(place.path("vae.json"), serde_json::to_vec(&autoencoder).unwrap()).unwrap();
    fs::write(place.path("encoder.json"), serde_json::to_vec(&encoder).unwrap()).unwrap();
    place
}

pub(crate) const SD: [&str; 8] =
    ["--autoencoder", "sd", "--weights", "vae.safetensors", "--config", "vae.json", "--size", "16"];

pub(crate) fn encode(place: &Place, source: &str, to: &str, more: &[&str]) -> String {
    place.run(&[&["encode", source, "--to", to], &SD[..], more].concat())
}

/// Names, classes and numbers of all latents in a folder.
pub(crate) fn latents(folder: &Path) -> Vec<(String, String, Vec<f32>)> {
    let latents = Latents::open(folder).unwrap().for_training(PosteriorMode::Mean, false).unwrap();
    latents.verify(&Verified::default(), |_, _| ()).unwrap();
    let seen = Variation { seed: 0, position: 0, flip: false };
    let all = (0..latents.len().unwrap()).map(|index| {
        let example = latents.variant(index, seen).unwrap();
        (latents.name(index).unwrap(), latents.classes()[example.label].clone(), example.pixels)
    });
    all.collect()
}

/// The same without names, which say where an image comes from, in the order of the numbers.
fn unnamed(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let mut all: Vec<_> = latents(folder).into_iter().map(|(_, class, numbers)| (class, numbers)).collect();
    all.sort_by(|a, b| a.1[0].total_cmp(&b.1[0]));
    all
}

#[test]
fn an_archive_gives_the_latents_of_its_folder() {
    let place = place();
    let told = encode(&place, "photos", "by-folder", &[]);
    assert!(told.contains("6 latents of 4 x 8 x 8"), "{told}");
    encode(&place, "train.tar", "by-archive", &["--classes", "classes.txt"]);
    // One image at a time rounds like any other batch here: the same numbers.
    assert_eq!(unnamed(&place.path("by-folder")), unnamed(&place.path("by-archive")));
    assert_eq!(latents(&place.path("by-archive"))[3].1, "dogs");

    encode(&place, "train.tar", "numbered", &[]);
    assert_eq!(latents(&place.path("numbered"))[3].1, "1");
    fs::write(place.path("one.txt"), "cats\n").unwrap();
    let encode = [&["encode", "train.tar", "--to", "x"], &SD[..]].concat();
    place.refuse(&[&encode[..], &["--classes", "one.txt"]].concat(), &["train.tar", "class"]);
    place.refuse(&[&encode[..], &["--classes", "nowhere.txt"]].concat(), &["nowhere.txt"]);
    let folder = [&["encode", "photos", "--to", "x", "--classes", "classes.txt"], &SD[..]].concat();
    place.refuse(&folder, &["names its classes itself"]);
    let odd = [&["encode", "photos", "--to", "x"], &SD[..SD.len() - 1], &["15"]].concat();
    place.refuse(&odd, &["error: --size must be divisible by 2, found 15"]);
}

#[test]
fn half_precision_is_half_the_size_and_as_close_as_it_can_be() {
    let place = place();
    encode(&place, "photos", "f32", &[]);
    let whole = latents(&place.path("f32"));
    // A rounded number is off by half a unit of its last place: 11 and 8 bits.
    for (precision, relative) in [("f16", 1.0 / 2048.0), ("bf16", 1.0 / 256.0)] {
        encode(&place, "photos", precision, &["--precision", precision]);
        let halves = latents(&place.path(precision));
        let mut differ = false;
        for ((name, class, numbers), (other, kind, expected)) in halves.iter().zip(&whole) {
            assert_eq!((name, class), (other, kind));
            for (found, expected) in numbers.iter().zip(expected) {
                // Below the normal numbers of f16 the distance of two is fixed.
                let close = (found - expected).abs() <= relative * expected.abs() + 6e-8;
                assert!(close, "{precision}: {found} for {expected}");
                differ |= found != expected;
            }
        }
        assert!(differ, "{precision} rounds");
        let tensors = |folder: &str| place.json(&format!("{folder}/manifest.json"))["contents"]["precision"].clone();
        assert_eq!((tensors(precision), tensors("f32")), (precision.into(), "f32".into()));
    }
}

#[test]
fn features_stand_beside_the_latents_and_train_a_network() {
    let place = place();
    let features = ["--features", "encoder.json", "--encoder-weights", "encoder.safetensors", "--flip"];
    encode(
        &place,
        "train.tar",
        "latents",
        &[&features[..], &["--classes", "classes.txt", "--precision", "bf16"]].concat(),
    );
    let stored = Latents::open(&place.path("latents")).unwrap();
    assert_eq!(stored.features(), [[4, 16]]);
    assert_eq!(stored.example(0).unwrap().features[0].len(), 4 * 16);

    let recipe = r#"{
        "name": "aligned",
        "data": {"kind": "latents", "path": "latents", "flip": true},
        "network": {"kind": "repa", "input_size": 8, "patch": 4, "channels": 4, "width": 16, "depth": 2, "heads": 2,
            "hidden": 32, "classes": 2, "encoder_depth": 1, "projectors": [16], "projector_hidden": 16},
        "objective": {"alignment": {}},
        "training": {"steps": 2, "batch": 4},
        "sampling": {"solver": {"kind": "euler"}, "grid": {"steps": 2}}
    }"#;
    fs::write(place.path("aligned.json"), recipe).unwrap();
    place.run(&["train", "aligned.json", "--out", "run"]);
    let logged = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert_eq!(logged.lines().count(), 2, "{logged}");

    let lacking = [&["encode", "photos", "--to", "x", "--features", "nowhere.json"], &SD[..]].concat();
    place.refuse(&[&lacking[..], &["--encoder-weights", "encoder.safetensors"]].concat(), &["nowhere.json"]);
}

/// What `datasets` writes: `image` as a struct of bytes and path, `label` as an integer.
fn parquet() -> String {
    format!("{}/tests/fixtures/train-00000-of-00001.parquet", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_parquet_file_gives_the_latents_of_its_folder() {
    let place = place();
    encode(&place, "photos", "by-folder", &[]);
    encode(&place, &parquet(), "by-parquet", &["--classes", "classes.txt"]);
    assert_eq!(unnamed(&place.path("by-folder")), unnamed(&place.path("by-parquet")));
    assert_eq!(latents(&place.path("by-parquet"))[3].0, "train-00000-of-00001.parquet/3");
}

#[test]
fn columns_and_classes_of_hugging_face_files_are_found_or_named() {
    let place = place();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/parquet/hugging_face.parquet");
    encode(&place, file, "found", &[]);
    let classes: Vec<_> = latents(&place.path("found")).into_iter().map(|(_, class, _)| class).collect();
    assert_eq!(classes, ["cat", "owl", "cat", "cat"]);
    encode(&place, file, "named", &["--image-column", "img", "--label-column", "split"]);
    assert_eq!(latents(&place.path("named"))[1].1, "b");
    let other = [&["encode", file, "--to", "x"], &SD[..], &["--label-column", "sort"]].concat();
    place.refuse(&other, &["lacks the column sort, and has img, fine_label, split, width", "--label-column"]);
    for (text, words) in [("cats\n\ndogs", "no name in line 2"), ("cats\ncats\n", "in line 1 and in line 2")] {
        fs::write(place.path("odd.txt"), text).unwrap();
        place.refuse(&[&["encode", "train.tar", "--to", "x"], &SD[..], &["--classes", "odd.txt"]].concat(), &[words]);
    }
    fs::write(place.path("windows.txt"), "\u{feff}cats\r\ndogs\r\n").unwrap();
    encode(&place, "train.tar", "windows", &["--classes", "windows.txt"]);
    assert_eq!(latents(&place.path("windows"))[0].1, "cats");
}

#[test]
fn an_autoencoder_and_a_text_encoder_may_be_of_the_hub() {
    let place = place();
    place.cache("vae", &[("vae.safetensors", &place.path("vae.safetensors"))]);
    encode(&place, "photos", "local", &[]);
    let hub = SD.map(|word| if word == "vae.safetensors" { "hf://org/vae/vae.safetensors" } else { word });
    place.run(&[&["encode", "photos", "--to", "hub"], &hub[..]].concat());
    assert!(latents(&place.path("hub")) == latents(&place.path("local")));
    assert_eq!(place.json("hub/manifest.json"), place.json("local/manifest.json"));
    for number in 0..6 {
        let text = place.path("photos").join(["cats", "dogs"][number % 2]).join(format!("{number}.txt"));
        fs::write(text, "an animal").unwrap();
    }
    // Nothing is fetched for what is not there, or is nonsense.
    let far = SD.map(|word| if word == "vae.safetensors" { "hf://org/none/vae.safetensors" } else { word });
    place.refuse(&[&["encode", "nowhere", "--to", "none"], &far[..]].concat(), &["nowhere"]);
    let nonsense = ["--captions", "--text-encoder", "{\"kind\":\"letters\"}"];
    place
        .refuse(&[&["encode", "photos", "--to", "none"], &far[..], &nonsense].concat(), &["--text-encoder", "letters"]);
    let encoder = r#"{"kind":"flan-t5","folder":"hf://org/none","tokens":4}"#;
    let captions = [&["encode", "photos", "--to", "text"], &SD[..], &["--captions", "--text-encoder", encoder]];
    place.refuse(&captions.concat(), &["org/none", "HF_HUB_OFFLINE"]);
}

#[test]
fn captioned_images_of_many_shapes_are_stored_with_embeddings_and_trained_on() {
    let place = place();
    for number in 0..6 {
        let image = place.path("photos").join(["cats", "dogs"][number % 2]).join(format!("{number}.txt"));
        fs::write(image, format!("animal {}", number % 4)).unwrap();
    }
    let wide = RgbImage::from_fn(60, 24, |x, y| Rgb([x as u8, y as u8, 9]));
    wide.save(place.path("photos/wide.png")).unwrap();
    fs::write(place.path("photos/wide.txt"), "a  wide one on wheels").unwrap();
    let words = r#"{"kind":"words","width":64,"tokens":4}"#;
    let captions = ["--captions", "--buckets", "4", "--precision", "f16", "--text-encoder"];
    let made = place.call(&[&["encode", "photos", "--to", "cache"], &SD[..], &captions, &[words]].concat());
    let [said, told] = [made.stdout, made.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(said.contains("7 latents of 4 x 8 x 8 or less in cache"), "{said}");
    let cut = "1 of 5 prompts is longer than the encoders read; the first: words reads 4 tokens and does not see the end of \
               prompt 1: `wheels`";
    assert!(told.contains(cut), "{told}");
    assert_eq!(latents(&place.path("cache")).last().unwrap().1, "animal 3");
    fs::write(place.path("text.json"), format!("\u{feff}{words}")).unwrap();
    let again = encode(&place, "photos", "cache", &[&captions[..], &["text.json"]].concat());
    assert!(again.contains("7 latents") && again.contains("none of them new"), "{again}");

    let autoencoder = json!({ "kind": "kl", "network": place.json("vae.json"), "weights": "vae.safetensors" });
    let autoencoder = format!("autoencoder={autoencoder}");
    let own = [
        &autoencoder[..],
        "data={\"kind\":\"latents\",\"path\":\"cache\"}",
        "network.prompts=5",
        "network.transformer.input_size=8",
        "network.transformer.channels=4",
        "network.transformer.patch=2",
        "network.transformer.table=8",
        "network.transformer.width=24",
        "network.transformer.heads=2",
        "network.transformer.depth=1",
        "training.steps=3",
        "training.batch=2",
        "post_training=null",
    ];
    let set: Vec<&str> = own.iter().flat_map(|set| ["--set", set]).collect();
    place.run(&[&["train", "words", "--out", "run"][..], &set].concat());
    assert!(place.path("run/model.safetensors").is_file());

    // A run of the cache as it was draws by its captions what it drew, once there are others between them.
    let draw = |file: &str| {
        place.run(&["sample", "run", "--labels", "#0,animal 3", "--guidance", "2", "--out", file]);
        fs::read(place.path(file)).unwrap()
    };
    let before = draw("before.png");
    fs::write(place.path("one.jsonl"), "{\"prompt\": \"animal 2\"}\n").unwrap();
    let laid_out = ["sample", "run", "--prompts", "one.jsonl", "--layout", "geneval2", "--out", "laid-out"];
    place.run(&laid_out);
    let vae = File::options().append(true).open(place.path("vae.safetensors")).unwrap();
    vae.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    place.refuse(&laid_out, &["begun with another autoencoder"]);
    let classes = |folder: &str| Latents::open(&place.path(folder)).unwrap().classes().to_vec();
    let old = classes("cache");
    let table = || everything(&place.path("cache/prompts"));
    let small = table();
    for (name, width, caption) in [("tall", 24, "a tall one"), ("same", 60, "animal 2"), ("last", 40, "zebra")] {
        RgbImage::from_fn(width, 36, |x, y| Rgb([x as u8, 9, y as u8]))
            .save(place.path(format!("photos/{name}.png")))
            .unwrap();
        fs::write(place.path(format!("photos/{name}.txt")), caption).unwrap();
    }
    let grown = encode(&place, "photos", "cache", &[&captions[..], &[words]].concat());
    assert!(grown.contains("10 latents of 4 x 8 x 8 or less, 3 of them new"), "{grown}");
    assert_eq!(classes("cache"), [&old[..], &["a tall one".into(), "zebra".into()]].concat());
    // Killed when the latents had grown: the next call goes on with the table, or a training.
    let grown = table();
    let killed = || {
        fs::remove_dir_all(place.path("cache/prompts")).unwrap();
        fs::create_dir(place.path("cache/prompts")).unwrap();
        small.iter().for_each(|(path, bytes)| fs::write(path, bytes.as_ref().unwrap()).unwrap());
    };
    killed();
    let again = encode(&place, "photos", "cache", &[&captions[..], &[words]].concat());
    assert!(again.contains("none of them new") && table() == grown, "{again}");
    // What was made at once is the same but for the order.
    encode(&place, "photos", "whole", &[&captions[..], &[words]].concat());
    let by_name = |folder: &str| {
        let mut all = latents(&place.path(folder));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    assert!(by_name("cache") == by_name("whole"));
    let told = |folder: &str, caption: &String| {
        let words = Words { width: 64, tokens: 4, places: false };
        let classes = classes(folder);
        let table = PromptTable::prepare(&place.path(folder).join("prompts"), &classes, &words, |_| Ok(())).unwrap();
        let number = classes.iter().position(|class| class == caption).unwrap_or(classes.len());
        let rows = table.rows(&[number], &Device::default());
        [rows.tokens.into_data(), rows.pooled.into_data()]
    };
    let none = String::new();
    assert!(classes("whole").iter().chain([&none]).all(|caption| told("cache", caption) == told("whole", caption)));
    assert!(draw("after.png") == before);
    let more = own.map(|set| if set == "network.prompts=5" { "network.prompts=7" } else { set });
    let set: Vec<&str> = more.iter().flat_map(|set| ["--set", set]).collect();
    killed();
    place.run(&[&["train", "words", "--out", "more"][..], &set].concat());
    assert!(table() == grown);

    let encode = [&["encode", "photos", "--to", "cache"], &SD[..]].concat();
    let refuse = |more: &[&str], words: &[&str]| place.refuse(&[&encode[..], more].concat(), words);
    refuse(&[&captions[..], &[&words.replace('4', "5")]].concat(), &["holds embeddings of another encoder"]);
    refuse(&["--captions", "--buckets", "8", "--precision", "f16"], &["another `buckets`", "{\"step\":4}"]);
    refuse(&["--captions", "--buckets", "3"], &["--buckets must have a step divisible by 2, found 3"]);
    refuse(
        &["--captions", "--buckets", "4", "--bucket-sizes", "32"],
        &["--bucket-sizes must be from 1 to --size pixels, found 32"],
    );
    refuse(&[&captions[..], &["{\"kind\":\"letters\"}"]].concat(), &["--text-encoder", "letters"]);
    refuse(
        &[&captions[..], &[&words.replace("64", "4000000000000")]].concat(),
        &["--text-encoder: width must be from 1 to 65536, found 4000000000000"],
    );
    fs::write(place.path("photos/wide.txt"), "a wide one\nit is wide\n").unwrap();
    let lines = ["--captions", "--buckets", "4", "--precision", "f16", "--caption-lines"];
    refuse(&lines, &["begun with one caption of each image, where some have several now: leave out `--caption-lines`"]);
    self::encode(&place, "photos", "lines", &["--captions", "--caption-lines"]);
    let whole = [&["encode", "photos", "--to", "lines", "--captions"], &SD[..]].concat();
    place.refuse(
        &whole,
        &["begun with several captions of some images, where each has one now: give `--caption-lines`"],
    );
    let lines = Latents::open(&place.path("lines")).unwrap();
    let animals = ["animal 0", "animal 1", "animal 2", "animal 3"];
    assert_eq!(lines.classes(), [&["a tall one", "a wide one"][..], &animals, &["it is wide", "zebra"]].concat());
    fs::remove_file(place.path("photos/wide.txt")).unwrap();
    refuse(&["--captions"], &["wide.txt", "are not there"]);
}

#[test]
fn masks_stand_beside_the_latents_and_weight_a_training() {
    let place = place();
    for class in ["cats", "dogs"] {
        fs::create_dir_all(place.path("masks").join(class)).unwrap();
    }
    for number in 0..6u32 {
        // Of the square that is cut, the left half.
        let mask = GrayImage::from_fn(20, 18, |x, _| Luma([if x < 10 { 255 } else { 0 }]));
        mask.save(place.path("masks").join(["cats", "dogs"][number as usize % 2]).join(format!("{number}.png")))
            .unwrap();
    }
    encode(&place, "photos", "plain", &["--flip"]);
    encode(&place, "photos", "masked", &["--flip", "--mask", "masks"]);
    assert_eq!(latents(&place.path("plain")), latents(&place.path("masked")));
    let masked = Latents::open(&place.path("masked")).unwrap().for_training(PosteriorMode::Mean, true).unwrap();
    for (position, index) in (0..16).zip((0..6).cycle()) {
        let variation = Variation { seed: 0, position, flip: true };
        let mask = masked.variant(index, variation).unwrap().mask.unwrap();
        // Of eight places along a side, the fourth and fifth are beside the edge.
        let row: Vec<f32> =
            if variation.mirrored() { mask[..8].iter().rev().copied().collect() } else { mask[..8].into() };
        assert!(row[..3] == [1.0; 3] && row[5..] == [0.0; 3], "{row:?}");
    }
    // An archive has alpha alone, and none of it here.
    let opaque = [&["encode", "train.tar", "--to", "opaque"], &SD[..], &["--mask", "alpha"]].concat();
    let told = String::from_utf8_lossy(&place.call(&opaque).stderr).into_owned();
    assert!(told.contains("6 images are without transparency"), "{told}");

    let own = [
        "network.input_size=8",
        "network.channels=4",
        "network.classes=2",
        "network.patch=2",
        "network.width=24",
        "network.heads=2",
        "network.depth=1",
        "training.steps=2",
        "training.batch=2",
        "post_training=null",
    ];
    let own: Vec<&str> = own.iter().flat_map(|set| ["--set", set]).collect();
    let train = |latents: &str, out: &str| {
        let data = format!("data={{\"kind\":\"latents\",\"path\":\"{latents}\",\"flip\":true}}");
        place.run(&[&["train", "shapes", "--out", out, "--set", &data][..], &own].concat());
        let log = fs::read_to_string(place.path(out).join("metrics.jsonl")).unwrap();
        let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        first["loss"].as_f64().unwrap()
    };
    let share = train("masked", "by-masks") / train("plain", "by-all");
    assert!((0.3..0.7).contains(&share), "{share}");

    let command = |mask: &'static str, source: &'static str, to: &'static str| {
        [&["encode", source, "--to", to], &SD[..], &["--flip", "--mask", mask]].concat()
    };
    place.refuse(&command("masks", "photos", "plain"), &["were begun with another `masked`, null, not true"]);
    place.refuse(&command("masks", "train.tar", "other"), &["masks in files are for a directory of images"]);
    place.refuse(&command("photos/cats", "photos", "other"), &["lie among their images: move them beside"]);
    place.refuse(&command("mask", "photos", "other"), &["cannot read `mask`; expected a directory of masks"]);
    // A mask that is another now is seen as an image is.
    GrayImage::new(20, 18).save(place.path("masks/cats/2.png")).unwrap();
    place.refuse(&command("masks", "photos", "masked"), &["hold another image or mask called `cats/2.png`"]);
    fs::remove_file(place.path("masks/cats/2.png")).unwrap();
    place.refuse(&command("masks", "photos", "other"), &["cats/2.png` are not there"]);
}
