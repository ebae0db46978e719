//! Losses that count a part of each image.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma};
use mixflow::data::MaskConfig;
use mixflow::data::latents::{Latents, StoragePrecision};
use mixflow::data::source::Options;
use mixflow::plan::{Machine, Plan};
use mixflow::recipe::NetworkSettings;
use mixflow_t2i::recipe::TextRecipe;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::runs::{LATENTS, SHAPES, apart, autoencoder, encode, photographs, recipe, train};

/// Masks of the photographs: their left third, their middle in grey.
fn masks() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, [width, height]) in SHAPES.into_iter().enumerate() {
        let level = |x: u32| {
            if 3 * x < width {
                255
            } else if 3 * x < 2 * width {
                90
            } else {
                0
            }
        };
        let mask = GrayImage::from_fn(width, height, |x, _| Luma([level(x)]));
        mask.save(folder.path().join(format!("{number:02}.png"))).unwrap();
    }
    folder
}

fn masked(photographs: &Path, masks: &Path, changes: &[&str]) -> TextRecipe {
    let mask = format!("data.mask={}", json!({ "folder": masks }));
    let fast = [
        "training.optimizer.learning_rate={\"kind\":\"constant\",\"rate\":0.002}",
        "training.optimizer.average=0.5",
        &mask,
    ];
    recipe(photographs, &[&fast[..], changes].concat()).unwrap()
}

fn losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["loss"].as_f64()).collect()
}

#[test]
fn a_masked_training_goes_on_where_it_stood_and_in_any_number_of_parts() {
    let (photographs, masks, root) = (photographs(), masks(), tempfile::tempdir().unwrap());
    let of = |steps: u64, more: &[&str]| {
        let steps =
            [format!("training.steps={steps}"), format!("training.checkpoint_every={steps}"), "data.flip=true".into()];
        let changes = [&steps.each_ref().map(String::as_str)[..], more].concat();
        masked(photographs.path(), masks.path(), &changes)
    };
    let run = |name: &str| root.path().join(name);
    let (whole, _) = train(&of(6, &[]), &run("whole"), 1);
    train(&of(2, &[]), &run("parts"), 1);
    assert!(train(&of(6, &[]), &run("parts"), 1).0 == whole);
    let (unmasked, _) = train(&of(6, &["data.mask=null"]), &run("unmasked"), 1);
    let other = apart(&unmasked, &whole);
    assert!(other > 1e-3, "{other}");
    for (name, more, devices) in [
        ("accumulated", &["training.accumulation=4"][..], 1),
        ("beside", &[], 2),
        ("both", &["training.accumulation=2"], 2),
    ] {
        let found = apart(&train(&of(6, more), &run(name), devices).0, &whole);
        assert!(found < other / 10.0, "{name}: {found}, {other}");
        let pairs: Vec<_> = losses(&run(name)).into_iter().zip(losses(&run("whole"))).collect();
        assert!(pairs.len() == 6 && pairs.iter().all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {pairs:?}");
    }
    // Another mask is another training; one that has moved is not.
    let moved = tempfile::tempdir().unwrap();
    for number in 0..SHAPES.len() {
        let name = format!("{number:02}.png");
        fs::copy(masks.path().join(&name), moved.path().join(&name)).unwrap();
    }
    let recipe = masked(
        photographs.path(),
        moved.path(),
        &["training.steps=6", "training.checkpoint_every=6", "data.flip=true"],
    );
    assert!(train(&recipe, &run("whole"), 1).0 == whole);
    let refused =
        mixflow::train::check_same_run(&run("whole").join("recipe.json"), &of(6, &["data.mask=alpha"]).to_value(), &[]);
    assert!(refused.unwrap_err().to_string().contains("data.mask"));
}

#[test]
fn a_masked_training_from_stored_latents_is_that_from_images() {
    let (photographs, masks, root) = (photographs(), masks(), tempfile::tempdir().unwrap());
    let text = r#"network.text={"kind":"words","width":64,"tokens":8}"#;
    let autoencoder = autoencoder(root.path());
    let changes = [&LATENTS[..], &[text, "training.batch=2"]].concat();
    let from_images = masked(photographs.path(), masks.path(), &[&changes[..], &[&autoencoder]].concat());
    let run = |name: &str| root.path().join(name);
    let (expected, _) = train(&from_images, &run("images"), 1);
    let file = root.path().join("autoencoder.safetensors");
    let options = Options { mask: Some(MaskConfig::Folder(masks.path().into())), ..Options::default() };
    encode(photographs.path(), &file, &run("cache"), StoragePrecision::F32, &options);
    assert!(Latents::open(&run("cache")).unwrap().manifest().to_string().contains(", with masks"));
    let data = json!({ "kind": "latents", "path": run("cache"), "posterior": "mean" });
    let of_cache = from_images.with(&[format!("data={data}"), "autoencoder=null".into()]).unwrap();
    let (found, _) = train(&of_cache, &run("of-cache"), 1);
    assert!(apart(&found, &expected) < 1e-6, "{}", apart(&found, &expected));
    let pairs: Vec<_> = losses(&run("of-cache")).into_iter().zip(losses(&run("images"))).collect();
    assert!(pairs.len() == 6 && pairs.iter().all(|(a, b)| (a - b).abs() < 1e-5), "{pairs:?}");
    let disk = |recipe: &TextRecipe| Plan::new(recipe, Machine::named("h200").unwrap()).unwrap().disk;
    // Latents of several sizes are not kept.
    let kept = |mask: &[String]| disk(&from_images.with(mask).unwrap());
    let [square, unmasked] = ["data.buckets=null", "data.mask=null"].map(String::from);
    assert_eq!(kept(&[]), kept(std::slice::from_ref(&unmasked)));
    let masks = kept(std::slice::from_ref(&square)) - kept(&[square, unmasked]);
    assert_eq!(masks, 4 * 8 * 8 * SHAPES.len() as u64);
    // Masks that are stored are for losses that take them.
    let defar = of_cache.with(&[r#"objective.defar={"beta":0.5}"#.into()]).unwrap().open().unwrap_err().to_string();
    assert!(
        defar.contains("the data have masks, and a mask weights a loss place by place, and objective.defar"),
        "{defar}"
    );
}

/// Every kind of network for text learns by masks, by pixels or latents.
#[test]
fn every_network_for_text_learns_by_masks() {
    let (photographs, masks, root) = (photographs(), masks(), tempfile::tempdir().unwrap());
    let minit2i = mixflow_t2i::recipe::read_text_recipe("names", &[]).unwrap().unwrap();
    let data = json!({ "kind": "captions", "path": photographs.path(), "size": minit2i.network.shape()[1],
        "mask": { "folder": masks.path() } });
    let minit2i = minit2i.with(&[
        format!("data={data}"),
        "network.prompts=11".into(),
        "training.steps=2".into(),
        "training.batch=4".into(),
        "post_training=null".into(),
        "validation=null".into(),
    ]);
    let minit2i = minit2i.unwrap();
    let flux = json!({
        "kind": "flux", "channels": 3, "input_size": 16, "width": 24, "heads": 2, "axes": [4, 4, 4], "depth": 1,
        "single_depth": 1, "context_width": 64, "pooled_width": 64
    });
    let flux = [r#"network.text={"kind":"words","width":64,"tokens":8}"#, &format!("network.transformer={flux}")];
    let of = |changes: &[&str]| masked(photographs.path(), masks.path(), changes);
    for (name, recipe) in [("minit2i", minit2i), ("mmdit", of(&[])), ("flux", of(&flux))] {
        let run = |mask: &str| root.path().join(format!("{name}-{mask}"));
        train(&recipe, &run("with"), 1);
        train(&recipe.with(&["data.mask=null".into()]).unwrap(), &run("without"), 1);
        let [with, without] = ["with", "without"].map(|mask| losses(&run(mask)));
        // A third counts, and a third of a third.
        let share = with[0] / without[0];
        assert!((0.25..0.7).contains(&share), "{name}: {share}");
    }
}
