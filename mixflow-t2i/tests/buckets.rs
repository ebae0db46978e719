//! Trainings on captioned images of many shapes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use image::{Rgb, RgbImage};
use mixflow::LatentEncoder;
use mixflow::backbones::autoencoder::{KlAutoencoderConfig, official_key};
use mixflow::backbones::weights::Weights;
use mixflow::compare::Progress;
use mixflow::data::latents::{EncodeConfig, StoragePrecision, Writer, encode_dataset};
use mixflow::data::source;
use mixflow::data::{BucketConfig, Dataset, OnBroken, StorageConfig, Variation};
use mixflow::launch::{Finish, Launch};
use mixflow::plan::{Machine, Plan};
use mixflow::recipe::Recipe;
use mixflow::train::RunFolder;
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::recipe::{TextRecipe, read_text_recipe};
use mixflow_t2i::{MmDitConfig, TransformerConfig, Words};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Widths and heights.
const SHAPES: [[u32; 2]; 11] =
    [[16, 16], [40, 20], [20, 40], [33, 31], [48, 24], [18, 17], [12, 48], [64, 32], [21, 19], [96, 4], [32, 16]];

/// What a small network of latents of half the sides is.
const LATENTS: [&str; 3] =
    ["network.transformer.input_size=8", "network.transformer.patch=2", "network.transformer.channels=4"];

/// So many captioned images.
fn photographs() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, [width, height]) in SHAPES.into_iter().enumerate() {
        let number = number as u32;
        let pixel = |x: u32, y: u32| Rgb([9 * x + number, 7 * y, 5 * (x + y) * number].map(|value| value as u8));
        let path = folder.path().join(format!("{number:02}.png"));
        RgbImage::from_fn(width, height, pixel).save(&path).unwrap();
        fs::write(path.with_extension("txt"), format!("picture {number}")).unwrap();
    }
    folder
}

/// A small network that learns them, by pixels.
fn recipe(photographs: &Path, changes: &[&str]) -> Result<TextRecipe, mixflow::Error> {
    let data = json!({ "kind": "captions", "path": photographs, "size": 16, "buckets": { "step": 4 } });
    let small = [
        &format!("data={data}")[..],
        "network.prompts=11",
        "network.transformer.input_size=16",
        "network.transformer.patch=4",
        "network.transformer.table=8",
        "network.transformer.width=24",
        "network.transformer.depth=2",
        "network.transformer.heads=2",
        "training.steps=6",
        "training.batch=4",
        "post_training=null",
        "sampling.grid.steps=2",
    ];
    let changes: Vec<String> = small.iter().chain(changes).map(|change| (*change).into()).collect();
    let words = read_text_recipe("words", &changes);
    Ok(words
        .map_err(|error| match error {
            mixflow_t2i::Error::Mixflow(error) => error,
            other => panic!("{other}"),
        })?
        .expect("it is for text"))
}

/// Trains in a folder, continuing what is there, on so many devices; the averaged weights.
fn train(recipe: &TextRecipe, folder: &Path, devices: usize) -> (Vec<u8>, Vec<String>) {
    let (stop, device) = (AtomicBool::new(false), Device::flex());
    let beside = vec![Device::flex(); devices - 1];
    let run = match folder.join("recipe.json").is_file() {
        true => RunFolder::resume(folder, recipe.to_value(), &[]).unwrap(),
        false => RunFolder::begin(folder, recipe.to_value()).unwrap(),
    };
    let mut told = vec![];
    let mut tell = |event: Progress<'_>| {
        if let Progress::Note(note) = event {
            told.push(note);
        }
    };
    let launch = Launch { beside: &beside, ..Launch::new(recipe, &device, &stop) };
    let Some(Finish::Trained(file)) = launch.check(run, &mut tell).unwrap().run(&mut tell).unwrap() else {
        panic!("nobody asked to stop")
    };
    (fs::read(file).unwrap(), told)
}

/// The largest difference of two files of weights.
fn apart(one: &[u8], other: &[u8]) -> f32 {
    let [one, other] = [one, other].map(|file| SafeTensors::deserialize(file).unwrap());
    let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>();
    let of = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
        let (a, b) = (numbers(tensor.data()), numbers(other.tensor(&name).unwrap().data()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    one.tensors().into_iter().map(of).fold(0.0, f32::max)
}

#[test]
fn a_training_on_many_shapes_goes_on_where_it_stood_and_on_other_devices() {
    let (photographs, root) = (photographs(), tempfile::tempdir().unwrap());
    // Fast, so that other images make other weights after a few steps.
    let changes = [
        "training.accumulation=2",
        "training.optimizer.learning_rate={\"kind\":\"constant\",\"rate\":0.002}",
        "training.optimizer.average=0.5",
        "data.flip=true",
        "validation.every=6",
        "validation.images=2",
    ];
    let of = |steps: u64| {
        let steps = [format!("training.steps={steps}"), format!("training.checkpoint_every={steps}")];
        recipe(photographs.path(), &[&changes[..], &steps.each_ref().map(String::as_str)].concat()).unwrap()
    };
    let run = root.path().join("whole");
    let (whole, told) = train(&of(6), &run, 1);
    assert!(told.iter().any(|line| line.starts_with("images are trained on in")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("training.batch=4")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("loses more than a quarter") && line.ends_with("09.png")), "{told:?}");
    // Pictures are of the network's size, two of them and doubled, with what is between.
    let drawn = image::open(run.join("validation/step-00000006.png")).unwrap();
    assert!((32..40).contains(&drawn.height()), "{} x {}", drawn.width(), drawn.height());

    let parts = root.path().join("parts");
    train(&of(2), &parts, 1);
    assert!(train(&of(6), &parts, 1).0 == whole);
    // Squares are another training; on two devices it is the same but for the order in which gradients are added.
    let squares = of(6).with(&["data.buckets=null".into()]).unwrap();
    let squares = apart(&train(&squares, &root.path().join("squares"), 1).0, &whole);
    let beside = apart(&train(&of(6), &root.path().join("beside"), 2).0, &whole);
    assert!(squares > 1e-3 && beside < squares / 10.0, "{squares}, {beside}");
}

/// Encodes captioned images into a folder: latents, and embeddings of the captions.
fn encode(photographs: &Path, autoencoder: &Path, to: &Path, precision: StoragePrecision) {
    let device = Device::flex();
    let encoder = LatentEncoder::kl(&small_autoencoder(), autoencoder, 16, &device).unwrap();
    let options = source::Options { captions: true, ..source::Options::default() };
    let images = source::open(&[photographs.into()], &options).unwrap();
    let buckets = Some(BucketConfig { step: 4, sizes: vec![] });
    let storage = StorageConfig { precision, flipped: false, shard_examples: 4, buckets };
    let writer = Writer::open(to, encoder.contents(&*images, storage)).unwrap();
    let config = EncodeConfig { batch: 3, on_broken: OnBroken::Refuse };
    let encoders = vec![|images| encoder.encode(images)];
    encode_dataset(&*images, config, writer, &AtomicBool::new(false), encoders, |_| {}).unwrap();
    let words = Words { width: 64, tokens: 8, places: false };
    PromptTable::prepare(&to.join("prompts"), images.classes(), &words, |_| {}).unwrap();
}

#[test]
fn a_training_from_stored_latents_and_embeddings_is_that_from_images_and_captions() {
    let (photographs, root) = (photographs(), tempfile::tempdir().unwrap());
    let text = r#"network.text={"kind":"words","width":64,"tokens":8}"#;
    let changes = [&LATENTS[..], &[text]].concat();
    let autoencoder = autoencoder(root.path());
    let from_images = recipe(photographs.path(), &[&changes[..], &[&autoencoder]].concat()).unwrap();
    let (expected, _) = train(&from_images, &root.path().join("images"), 1);
    let losses = |run: &str| {
        let text = fs::read_to_string(root.path().join(run).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line["loss"].as_f64()).collect::<Vec<_>>()
    };

    let file = root.path().join("autoencoder.safetensors");
    for (precision, name, tolerance) in [(StoragePrecision::F32, "f32", 1e-6), (StoragePrecision::F16, "f16", 2e-3)] {
        encode(photographs.path(), &file, &root.path().join(name), precision);
        let data = json!({ "kind": "latents", "path": root.path().join(name), "posterior": "mean" });
        let stored = format!("data={data}");
        let from_cache = recipe(photographs.path(), &[&changes[..], &[&stored]].concat()).unwrap();
        let run = format!("of-{name}");
        let (found, _) = train(&from_cache, &root.path().join(&run), 1);
        assert!(apart(&found, &expected) < tolerance as f32, "{name}: {}", apart(&found, &expected));
        let pairs: Vec<_> = losses(&run).into_iter().zip(losses("images")).collect();
        assert!(pairs.len() == 6 && pairs.iter().all(|(a, b)| (a - b).abs() < tolerance), "{name}: {pairs:?}");
        // The captions were read once, by `encode`; the run knows whose embeddings it learned.
        let own = fs::read_dir(root.path().join(&run).join("prompts")).unwrap();
        assert_eq!(own.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["prompts.json"]);
    }

    // What does not belong together is refused in a sentence.
    let data = json!({ "kind": "latents", "path": root.path().join("f32"), "posterior": "mean" });
    let data = format!("data={data}");
    let refused = |more: &[&str]| {
        let recipe = recipe(photographs.path(), &[&changes[..], &[&data], more].concat())?;
        let (stop, device, folder) = (AtomicBool::new(false), Device::flex(), tempfile::tempdir().unwrap());
        let run = RunFolder::begin(&folder.path().join("run"), recipe.to_value())?;
        Launch::new(&recipe, &device, &stop).check(run, &mut |_| {})?.run(&mut |_| {}).map(drop)
    };
    let other = root.path().join("other.safetensors");
    Weights::of(&small_autoencoder().init(4, &Device::flex()), official_key).write(&other, &[]).unwrap();
    let other = autoencoder.replace("autoencoder.safetensors", "other.safetensors");
    for (change, expected) in [
        (
            r#"network.text={"kind":"words","width":64,"tokens":7}"#,
            "holds embeddings of another encoder, or of one with other weights",
        ),
        (&other, "were made by KL autoencoder, weights of SHA-256"),
        ("network.transformer.input_size=16", "or encode images of another size"),
        ("network.transformer.patch=4", "the network takes sides that are multiples of 4, the data have"),
        ("network.transformer.table=4", "set network.transformer.table=8"),
    ] {
        let error = refused(&[change]).unwrap_err().to_string();
        assert!(error.contains(expected), "{change}: {error}");
    }
    let sit = json!({
        "kind": "sit", "input_size": 8, "patch": 2, "channels": 4, "width": 24, "depth": 1, "heads": 2, "hidden": 32,
        "classes": 11
    });
    let classes = [data.clone(), format!("network={sit}"), "post_training=null".into()];
    let error = Recipe::read("shapes", &classes).unwrap().open().unwrap_err().to_string();
    assert!(error.contains("the data are of several sizes, and a SiT has places for 8 x 8 alone"), "{error}");

    // A cache that is cut is found before a step is taken.
    for (file, words) in [("shard-00001.safetensors", "are damaged"), ("prompts/00000.safetensors", "is damaged")] {
        let path = root.path().join("f32").join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        let error = refused(&[]).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(words), "{error}");
        fs::write(&path, &bytes).unwrap();
    }
}

/// Latents of four channels and half the sides.
fn small_autoencoder() -> KlAutoencoderConfig {
    let sizes =
        KlAutoencoderConfig { latent_channels: 4, widths: vec![8, 8], ..KlAutoencoderConfig::stable_diffusion_3() };
    KlAutoencoderConfig { depth: 1, groups: 4, ..sizes }
}

/// The file of a small autoencoder, and what a recipe says of it.
fn autoencoder(folder: &Path) -> String {
    let network = small_autoencoder();
    let file = folder.join("autoencoder.safetensors");
    let untrained = network.init(3, &Device::flex());
    Weights::of(&untrained, official_key).write(&file, &[]).unwrap();
    format!("autoencoder={}", json!({ "kind": "kl", "network": network, "weights": file }))
}

#[test]
fn latents_have_the_shapes_of_their_images() {
    let (photographs, root) = (photographs(), tempfile::tempdir().unwrap());
    let recipe = recipe(photographs.path(), &[&LATENTS[..], &[&autoencoder(root.path())]].concat()).unwrap();
    let data = recipe.open().unwrap();
    let device = Device::flex();
    let config = recipe.autoencoder.as_ref().unwrap();
    let network = config.load(root.path(), &device).unwrap();
    let learned = recipe.learned(root.path(), "training", data.clone(), Some(&*network), &device).unwrap();
    assert_eq!(learned.shape(), [4, 8, 8]);
    mixflow::testing::check_dataset(&*data);
    for index in 0..data.len().unwrap() {
        let [_, height, width] = data.buckets()[data.bucket(index)];
        assert_eq!(learned.buckets()[learned.bucket(index)], [4, height / 2, width / 2]);
        let seen = Variation { seed: 0, position: index, flip: false };
        assert_eq!(learned.variant(index, seen).unwrap().pixels.len(), height * width);
    }
    let (first, _) = train(&recipe, &root.path().join("one"), 1);
    assert!(first == train(&recipe, &root.path().join("other"), 1).0);
}

#[test]
fn a_comparison_measures_squares_of_the_networks_size() {
    let (photographs, root) = (photographs(), tempfile::tempdir().unwrap());
    // All of one class and twice, so that some are held out and others are left.
    for number in 0..SHAPES.len() {
        let image = photographs.path().join(format!("{number:02}.png"));
        fs::copy(&image, image.with_file_name(format!("{number:02}-again.png"))).unwrap();
        for name in [format!("{number:02}.txt"), format!("{number:02}-again.txt")] {
            fs::write(photographs.path().join(name), "a picture").unwrap();
        }
    }
    let post = json!({ "steps": 2, "images": 8, "seeds": 1, "gamma": 0.5 });
    let changes = ["network.prompts=1", "training.steps=2", &format!("post_training={post}")];
    let recipe = recipe(photographs.path(), &changes).unwrap();
    let (stop, device) = (AtomicBool::new(false), Device::flex());
    let run = RunFolder::begin(&root.path().join("run"), recipe.to_value()).unwrap();
    let finish = Launch::new(&recipe, &device, &stop).check(run, &mut |_| {}).unwrap().run(&mut |_| {}).unwrap();
    assert!(matches!(finish, Some(Finish::Compared(..))));
}

#[test]
fn sizes_are_priced_as_the_square_which_is_the_largest() {
    let photographs = photographs();
    let with = recipe(photographs.path(), &[]).unwrap();
    let without = with.with(&["data.buckets=null".into()]).unwrap();
    let machine = Machine::named("h200").unwrap();
    let memory = |recipe: &TextRecipe| Plan::new(recipe, machine.clone()).unwrap().memory;
    assert_eq!(memory(&with), memory(&without));
    let data: Arc<dyn Dataset> = with.open().unwrap();
    assert!(data.buckets().len() > 3 && data.buckets().iter().all(|[_, height, width]| height * width <= 256));
}

#[test]
fn what_does_not_take_rectangles_is_refused_in_one_sentence() {
    let (photographs, root) = (photographs(), tempfile::tempdir().unwrap());
    let autoencoder = autoencoder(root.path());
    let compared = r#"post_training={"steps":2,"images":8,"gamma":0.5}"#;
    for (changes, words) in [
        (&["data.buckets.step=6"][..], "data.buckets.step must be a multiple of 4 pixels, by which network and"),
        (&["data.buckets.step=2"], "data.buckets.step must be a multiple of 4 pixels"),
        (&["data.buckets.steps=8"], "unknown key `steps`"),
        (&["data.buckets=true"], "data.buckets"),
        (
            &[
                r#"data.buckets={"step":4,"sizes":[8,16]}"#,
                r#"objective.timesteps={"kind":"shifted","shift":{"tokens":64},"base":{"kind":"uniform"}}"#,
            ],
            "objective.timesteps shifts times for a number of tokens that images of 8 pixels do not have: give a factor",
        ),
        (
            &[&LATENTS[..], &[&autoencoder, compared]].concat(),
            "post_training.slow_flow compares latents of one size, and data.buckets has several: set it to false",
        ),
        (
            &[&LATENTS[..], &[&autoencoder, "data.flip=true"]].concat(),
            "data.flip mirrors images, but an autoencoder's latents are made beforehand",
        ),
    ] {
        let error = recipe(photographs.path(), changes).unwrap_err().to_string();
        assert!(error.contains(words), "{changes:?}: {error}");
    }
    for (changes, words) in [
        (
            &["network.transformer.table=4"][..],
            "the network has places for 16 numbers along a side, the data have 32: set network.transformer.table=8, or",
        ),
        (&["data.buckets.step=0"], "buckets.step must be from 1 pixel to the smallest size, found 0"),
        (&["data.buckets.step=64"], "buckets.step must be from 1 pixel to the smallest size, found 64"),
        (&["data.buckets.sizes=[32]"], "buckets.sizes must be from 1 to data.size pixels, found 32"),
    ] {
        let error = recipe(photographs.path(), changes).and_then(|recipe| recipe.open()).unwrap_err().to_string();
        assert!(error.contains(words), "{changes:?}: {error}");
    }
    let data = json!({ "kind": "folder", "path": photographs.path(), "size": 32, "buckets": { "step": 4 } });
    let error = Recipe::read("shapes", &[format!("data={data}")]).unwrap_err().to_string();
    assert!(
        error.contains("data.buckets are for networks that take any rectangle, and a SiT has places for"),
        "{error}"
    );
    assert!(TransformerConfig::from(MmDitConfig::stable_diffusion_3_5_medium()).sides().is_some());
}
