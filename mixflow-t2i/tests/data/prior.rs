//! Images of a class beside those of one instance of it.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use image::{Rgb, RgbImage};
use mixflow::FlowMatching;
use mixflow::data::latents::StoragePrecision;
use mixflow::data::source::Options;
use mixflow::data::{Loader, LoaderConfig, Prior};
use mixflow::schedules::Linear;
use mixflow_t2i::recipe::TextRecipe;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::runs::{LATENTS, apart, autoencoder, encode, recipe, train};

const WEIGHT: f64 = 0.3;

/// Five images of one dog with their captions, and four of others.
fn dogs() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (folder, count) in [("own", 5), ("class", 4)] {
        fs::create_dir(root.path().join(folder)).unwrap();
        for number in 0..count {
            let pixel =
                |x: u32, y: u32| Rgb([11 * x + 20 * number, 9 * y, 7 * (x + y) * number].map(|value| value as u8));
            let path = root.path().join(folder).join(format!("{number}.png"));
            RgbImage::from_fn(16, 16, pixel).save(&path).unwrap();
            let caption = if folder == "own" { format!("my dog {number}") } else { "a dog".into() };
            fs::write(path.with_extension("txt"), caption).unwrap();
        }
    }
    root
}

fn with_prior(root: &Path, changes: &[&str]) -> Result<TextRecipe, mixflow::Error> {
    let prior = json!({ "path": root.join("class"), "caption": "a dog", "weight": WEIGHT });
    let data = json!({ "kind": "captions", "path": root.join("own"), "size": 16, "prior": prior });
    let own = [
        &format!("data={data}")[..],
        "network.prompts=6",
        "objective={}",
        "training.optimizer.learning_rate={\"kind\":\"constant\",\"rate\":0.002}",
        "training.optimizer.average=0.5",
    ];
    recipe(root, &[&own[..], changes].concat())
}

fn losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["loss"].as_f64()).collect()
}

#[test]
fn a_loss_is_that_of_the_instance_and_a_part_of_that_of_the_class() {
    let (root, device) = (dogs(), Device::flex());
    let recipe = with_prior(root.path(), &["training.steps=1", "training.batch=6"]).unwrap();
    let run = root.path().join("run");
    train(&recipe, &run, 1);

    // An untrained network predicts zero, so that the loss is that of its targets.
    let config = LoaderConfig { seed: recipe.seed, batch: 6, workers: 0, ..LoaderConfig::default() };
    let examples = Loader::new(recipe.open().unwrap(), config).unwrap().next().unwrap().unwrap();
    let images = Tensor::<4>::from_data(TensorData::new(examples.pixels, [6, 3, 16, 16]), &device);
    let (noised, ()) = FlowMatching::new(Linear).draw(images.clone(), (), 0, recipe.seed);
    let each: Vec<f64> = noised.losses(images.zeros_like()).into_data().iter().collect();
    let [instance, class] = [0, 1].map(|first| each.iter().skip(first).step_by(2).sum::<f64>() / 3.0);
    let found = losses(&run)[0];
    assert!((found - (instance + WEIGHT * class)).abs() < 1e-5, "{found}, {instance} and {class}");
}

#[test]
fn a_training_goes_on_where_it_stood_and_in_any_number_of_parts() {
    let root = dogs();
    let of = |steps: u64, more: &[&str]| {
        let steps = format!("training.steps={steps}");
        with_prior(root.path(), &[&[&steps[..], "data.flip=true"], more].concat()).unwrap()
    };
    let run = |recipe: &TextRecipe, name: &str| train(recipe, &root.path().join(name), 1).0;
    let whole = run(&of(6, &[]), "whole");
    run(&of(3, &[]), "parts");
    // The images of the class may have moved.
    let (class, moved) = (root.path().join("class"), root.path().join("moved"));
    fs::rename(&class, &moved).unwrap();
    assert!(run(&of(6, &[&format!("data.prior.path={}", json!(moved))]), "parts") == whole);
    fs::rename(&moved, &class).unwrap();
    let (split, beside) =
        (run(&of(6, &["training.accumulation=4"]), "split"), train(&of(6, &[]), &root.path().join("beside"), 2).0);
    let heavier = apart(&run(&of(6, &["data.prior.weight=3"]), "heavier"), &whole);
    let parts = apart(&split, &whole).max(apart(&beside, &whole));
    assert!(parts < 1e-4 && heavier > 10.0 * parts, "{parts}, {heavier}");
}

#[test]
fn latents_of_a_class_are_learned_beside_those_of_an_instance() {
    let root = dogs();
    let autoencoder = autoencoder(root.path());
    let text = r#"network.text={"kind":"words","width":64,"tokens":8}"#;
    let changes = [&LATENTS[..], &[&autoencoder, text]].concat();
    let expected = train(&with_prior(root.path(), &changes).unwrap(), &root.path().join("images"), 1).0;

    let (file, cache) = (root.path().join("autoencoder.safetensors"), root.path().join("cache"));
    let both = root.path().join("both");
    fs::create_dir(&both).unwrap();
    for folder in ["own", "class"] {
        fs::rename(root.path().join(folder), both.join(folder)).unwrap();
    }
    encode(&both, &file, &cache, StoragePrecision::F32, &Options::default());
    let prior = json!({ "caption": "a dog", "weight": WEIGHT });
    let data = json!({ "kind": "latents", "path": cache, "posterior": "mean", "prior": prior });
    let stored = with_prior(root.path(), &[&LATENTS[..], &[&format!("data={data}"), text]].concat()).unwrap();
    let opened = stored.open().unwrap();
    assert_eq!((opened.len(), opened.prior()), (Some(9), Some(Prior { first: 5, weight: WEIGHT })));
    let found = train(&stored, &root.path().join("stored"), 1).0;
    assert!(apart(&found, &expected) < 1e-6, "{}", apart(&found, &expected));
    let path = format!("data.prior.path={}", json!(root.path()));
    let error = stored.with(&[path]).unwrap().open().unwrap_err().to_string();
    assert!(error.contains("data.prior has a path, and the data are latents: encode both kinds"), "{error}");
}

#[test]
fn what_does_not_go_with_a_class_is_refused_in_one_sentence() {
    let root = dogs();
    for (change, words) in [
        ("training.batch=5", "training.batch must be even, as half of a batch are images of data.prior, found 5"),
        (
            "objective.defar={\"beta\":0.1}",
            "data.prior weights flow matching image by image, and the loss of the recipe",
        ),
        ("data.prior.weights=2", "unknown key `weights`"),
    ] {
        let error = with_prior(root.path(), &[change]).unwrap_err().to_string();
        assert!(error.contains(words), "{change}: {error}");
    }
}

#[test]
fn images_in_several_sizes_are_learned_beside_those_of_a_class_in_the_same() {
    let root = dogs();
    let wide =
        |name| RgbImage::from_fn(32, 16, |x, y| Rgb([x as u8 * 7, y as u8 * 9, 50])).save(root.path().join(name));
    ["own/0.png", "own/1.png"].into_iter().for_each(|name| wide(name).unwrap());
    let of = |steps: u64| {
        let steps = format!("training.steps={steps}");
        with_prior(root.path(), &[&steps, "data.buckets={\"step\":4}", "training.batch=2"]).unwrap()
    };
    let error = of(6).open().unwrap_err().to_string();
    assert!(
        error.contains("data.prior has no image in the size of 2 other images, 12 x 20 (height x width)"),
        "{error}"
    );

    wide("class/0.png").unwrap();
    let run = |recipe: &TextRecipe, name: &str| train(recipe, &root.path().join(name), 1).0;
    let whole = run(&of(6), "whole");
    run(&of(3), "parts");
    assert!(run(&of(6), "parts") == whole && run(&of(3), "short") != whole);
}
