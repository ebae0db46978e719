//! Measures of networks that read captions.

use std::collections::BTreeSet;

use burn::tensor::Device;
use image::{Rgb, RgbImage};
use mixflow::compare::{lag_labels, parts};
use mixflow::data::Dataset;
use mixflow::evaluation::{Measures, evaluate, evaluated_labels};
use mixflow::recipe::NetworkSettings;
use mixflow_t2i::recipe::{TextRecipe, read_text_recipe};
use serde_json::json;

use crate::runs::recipe;

/// The recipe `names` of hearts alone, small, and how many there are: each has a name of its own.
fn hearts() -> (TextRecipe, usize) {
    let small = [
        r#"data={"kind":"emoji","size":8,"groups":["heart"],"captions":true}"#,
        "network.transformer.input_size=8",
        "network.transformer.patch=4",
        "network.transformer.width=16",
        "network.transformer.depth=2",
        "network.transformer.heads=2",
        "network.transformer.hidden=16",
        "sampling.grid.steps=2",
    ];
    let recipe = read_text_recipe("names", &small.map(String::from)).unwrap().unwrap();
    let names = recipe.data.open().unwrap().classes().len();
    (recipe.with(&[format!("network.prompts={names}")]).unwrap(), names)
}

#[test]
fn a_network_is_measured_where_every_image_has_a_caption_of_its_own() {
    let ((recipe, names), folder, device) = (hearts(), tempfile::tempdir().unwrap(), Device::default());
    let (data, count) = (recipe.open().unwrap(), names / 2);
    assert_eq!(data.len(), Some(names as u64));
    let told = recipe.network.conditioner(data.classes(), folder.path(), &device, &mut |_| Ok(())).unwrap();
    let network = recipe.network.init(0, &device);
    let generator = recipe.generator(&network, &*told);
    let found = evaluate(&recipe, &generator, count, &Measures::default(), None, &mut |_| {}).unwrap();
    assert_eq!(found.measurement.generated.rows, count);
    // Of the names that the network may have learned, each once.
    let (train, held_out) = recipe.parts(count).unwrap();
    let learned: BTreeSet<usize> = (0..train.len().unwrap()).map(|index| train.label(index).unwrap()).collect();
    let drawn: BTreeSet<usize> = evaluated_labels(&recipe, count, 0).unwrap().into_iter().collect();
    assert!(drawn.len() == count && drawn.is_subset(&learned), "{drawn:?}");
    let error = lag_labels(5, &train, &held_out).unwrap_err().to_string();
    assert!(error.contains("each image has a caption of its own"), "{error}");
}

#[test]
fn arms_are_compared_where_every_image_has_a_caption_of_its_own_but_not_by_slow_flow() {
    let (recipe, names) = hearts();
    let compared = |more: serde_json::Value| {
        let mut post = json!({ "steps": 1, "gamma": 0.8, "images": names / 2, "label_law": { "kind": "uniform" } });
        post.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let recipe = recipe.with(&[format!("post_training={post}")]).unwrap();
        parts(&recipe, recipe.post_training.as_ref().unwrap(), &Measures::default()).map(|(train, _)| train.len())
    };
    assert_eq!(compared(json!({ "slow_flow": false })).unwrap(), Some((names - names / 2) as u64));
    let error = compared(json!({})).unwrap_err().to_string();
    assert!(error.contains("post_training.slow_flow=false"), "{error}");
}

#[test]
fn arms_are_compared_where_a_caption_is_never_the_first() {
    let photographs = tempfile::tempdir().unwrap();
    for number in 0..20 {
        let path = photographs.path().join(format!("{number:02}.png"));
        RgbImage::from_pixel(16, 16, Rgb([number; 3])).save(&path).unwrap();
        std::fs::write(path.with_extension("txt"), "a cat\nmy cat").unwrap();
    }
    let data = json!({ "kind": "captions", "path": photographs.path(), "size": 16, "captions": "lines" });
    let post = json!({ "steps": 1, "gamma": 0.8, "images": 10 });
    let set = [format!("data={data}"), format!("post_training={post}"), "network.prompts=2".into()];
    let recipe = recipe(photographs.path(), &set.each_ref().map(String::as_str)).unwrap();
    let (train, held_out) = parts(&recipe, recipe.post_training.as_ref().unwrap(), &Measures::default()).unwrap();
    assert_eq!((train.len(), held_out.len()), (Some(10), Some(10)));
}
