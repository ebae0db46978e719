//! Images of many shapes.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use mixflow::backbones::autoencoder::official_key;
use mixflow::backbones::weights::Weights;
use mixflow::data::latents::StoragePrecision;
use mixflow::data::source::Options;
use mixflow::data::{Dataset, Variation};
use mixflow::launch::{Finish, Launch};
use mixflow::plan::{Machine, Plan};
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::RunFolder;
use mixflow_t2i::recipe::TextRecipe;
use serde_json::{Value, json};

use crate::runs::{LATENTS, SHAPES, apart, autoencoder, encode, photographs, recipe, small_autoencoder, train};

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

#[test]
fn a_minit2i_learns_rectangles_of_pixels() {
    let (photographs, root) = (photographs(), tempfile::tempdir().unwrap());
    let network = json!({
        "transformer": {
            "kind": "mm-jit", "input_size": 16, "patch": 4, "channels": 3, "width": 24, "depth": 2, "preamble": 1, "heads": 2,
            "hidden": 32, "bottleneck": 16, "context_width": 8, "context_length": 8
        },
        "text": { "kind": "words", "width": 8, "tokens": 8 }, "prompts": 11
    });
    let changes = [
        &format!("network={network}"),
        "objective.prediction=data",
        "objective.floor=0.05",
        "training.optimizer.learning_rate={\"kind\":\"constant\",\"rate\":0.002}",
        "training.optimizer.average=0.5",
    ];
    let whole = recipe(photographs.path(), &changes).unwrap();
    let (expected, told) = train(&whole, &root.path().join("whole"), 1);
    assert!(told.iter().any(|line| line.starts_with("images are trained on in")), "{told:?}");
    let first = whole.with(&["training.steps=3".into()]).unwrap();
    train(&first, &root.path().join("parts"), 1);
    assert!(train(&whole, &root.path().join("parts"), 1).0 == expected);
    let squares = whole.with(&["data.buckets=null".into()]).unwrap();
    assert!(apart(&train(&squares, &root.path().join("squares"), 1).0, &expected) > 1e-3);
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
        encode(photographs.path(), &file, &root.path().join(name), precision, &Options::default());
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
            "holds embeddings of another encoder, or of one with other weights or settings, such as precision or tokens",
        ),
        (&other, "were made by KL autoencoder, weights of SHA-256"),
        ("network.transformer.input_size=16", "or encode images of another size"),
        ("network.transformer.patch=4", "the network takes sides that are multiples of 4, the data have"),
        ("network.transformer.table=4", "set network.transformer.table=8"),
    ] {
        let error = refused(&[change]).unwrap_err().to_string();
        assert!(error.contains(expected), "{change}: {error}");
    }
    // A run that has learned from embeddings of its own goes on with them, whatever came to lie beside its latents.
    let seven = r#"network.text={"kind":"words","width":64,"tokens":7}"#;
    let seven = recipe(photographs.path(), &[&changes[..], &[&data, seven]].concat()).unwrap();
    let (labels, own) = (seven.open().unwrap().classes().to_vec(), root.path().join("own"));
    let (latents, device) = (root.path().join("f32"), Device::flex());
    let told = || seven.network.stored_conditioner(&labels, &latents, &own, &device, &mut |_| Ok(())).map(drop);
    assert!(told().is_err());
    seven.network.conditioner(&labels, &own, &device, &mut |_| Ok(())).unwrap();
    told().unwrap();
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

#[test]
fn latents_have_the_shapes_of_their_images() {
    let (photographs, root) = (photographs(), tempfile::tempdir().unwrap());
    let recipe = recipe(photographs.path(), &[&LATENTS[..], &[&autoencoder(root.path())]].concat()).unwrap();
    let data = recipe.open().unwrap();
    let device = Device::flex();
    let config = recipe.autoencoder.as_ref().unwrap();
    let network = config.load(root.path(), &device).unwrap();
    let learned =
        recipe.learned(root.path(), "training", data.clone(), Some(&*network), &device, &mut |_| Ok(())).unwrap();
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
}
