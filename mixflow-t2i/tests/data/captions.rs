//! Images of several captions.

use std::fs;
use std::path::Path;

use mixflow::data::latents::{Latents, StoragePrecision};
use mixflow::data::source::Options;
use mixflow::data::{CaptionFormat, Dataset};
use mixflow_t2i::recipe::TextRecipe;
use serde_json::json;
use tempfile::TempDir;

use crate::runs::{LATENTS, SHAPES, apart, autoencoder, encode, photographs, recipe, train};

/// Photographs, each with a caption of its own and one that all have.
fn told() -> TempDir {
    let photographs = photographs();
    for number in 0..SHAPES.len() {
        let text = format!("picture {number}\n\n a  photograph\n");
        fs::write(photographs.path().join(format!("{number:02}.txt")), text).unwrap();
    }
    photographs
}

fn of(photographs: &Path, changes: &[&str]) -> TextRecipe {
    let fast = [
        "training.optimizer.learning_rate={\"kind\":\"constant\",\"rate\":0.002}",
        "training.optimizer.average=0.5",
        "data.captions=lines",
        "network.prompts=12",
    ];
    recipe(photographs, &[&fast[..], changes].concat()).unwrap()
}

#[test]
fn a_training_goes_on_with_the_captions_that_it_would_have_told() {
    let (photographs, root) = (told(), tempfile::tempdir().unwrap());
    let run = |name: &str| root.path().join(name);
    let steps = |count: u64| [format!("training.steps={count}"), format!("training.checkpoint_every={count}")];
    let train = |name: &str, count, more: &[&str], devices| {
        let steps = steps(count);
        let changes = [&steps.each_ref().map(String::as_str)[..], more].concat();
        train(&of(photographs.path(), &changes), &run(name), devices).0
    };
    let whole = train("whole", 6, &[], 1);
    train("parts", 2, &["training.workers=3"], 1);
    assert!(train("parts", 6, &["training.workers=0"], 1) == whole);
    let beside = apart(&train("beside", 6, &["training.accumulation=2"], 2), &whole);
    // One caption an image is another training.
    let one = apart(&train("one", 6, &["data.captions=whole", "network.prompts=11"], 1), &whole);
    assert!(one > 1e-3 && beside < one / 10.0, "{one}, {beside}");
    let refused = of(photographs.path(), &["network.prompts=11"]).open().unwrap_err().to_string();
    assert!(refused.contains("the data has 12; set network.prompts=12"), "{refused}");
}

#[test]
fn a_training_from_stored_latents_tells_the_same_captions() {
    let (photographs, root) = (told(), tempfile::tempdir().unwrap());
    let run = |name: &str| root.path().join(name);
    let text = r#"network.text={"kind":"words","width":64,"tokens":8}"#;
    let autoencoder = autoencoder(root.path());
    let from_images = of(photographs.path(), &[&LATENTS[..], &[text, &autoencoder]].concat());
    let (expected, _) = train(&from_images, &run("images"), 1);
    let options = Options { caption_format: CaptionFormat::Lines, ..Options::default() };
    for _ in 0..2 {
        let weights = root.path().join("autoencoder.safetensors");
        encode(photographs.path(), &weights, &run("cache"), StoragePrecision::F32, &options);
    }
    let latents = Latents::open(&run("cache")).unwrap();
    assert_eq!(latents.classes().len(), 12);
    assert!((0..11).all(|index| {
        latents.variant(index, mixflow::data::Variation { seed: 0, position: 0, flip: false }).unwrap().captions.len()
            == 2
    }));
    // All of them are in the table of embeddings.
    let table: serde_json::Value =
        serde_json::from_slice(&fs::read(run("cache").join("prompts/prompts.json")).unwrap()).unwrap();
    assert_eq!(table["prompts"], 12);
    let data = json!({ "kind": "latents", "path": run("cache"), "posterior": "mean" });
    let of_cache = from_images.with(&[format!("data={data}"), "autoencoder=null".into()]).unwrap();
    let (found, _) = train(&of_cache, &run("of-cache"), 1);
    assert!(apart(&found, &expected) < 1e-6, "{}", apart(&found, &expected));
}
