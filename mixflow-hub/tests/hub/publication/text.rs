//! Networks that are told prompts.

use std::fs;
use std::path::Path;

use mixflow::backbones::lora::{Adapter, LoraConfig};
use mixflow::backbones::weights::Weights;
use mixflow::recipe::NetworkSettings;
use mixflow_hub::{Choice, Publication, Written};
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::{TextNetworkConfig, TextRecipe};
use serde_json::json;

use super::{names, plain};
use crate::shared::repository;

/// What `cargo xtask train` leaves of a small MiniT2I of one prompt, with other values for some keys, but its record of the data.
fn train(run: &Path, changes: &[&str]) -> TextRecipe {
    let small = [
        "data.size=8",
        "network.prompts=1",
        "network.transformer.input_size=8",
        "network.transformer.patch=4",
        "network.transformer.width=16",
        "network.transformer.depth=1",
        "network.transformer.heads=2",
        "network.transformer.hidden=16",
        "sampling.grid.steps=2",
        "post_training=null",
    ];
    train_as(run, "minit2i", &[&small, changes].concat())
}

/// The same of a small `MmDit`, which takes any rectangle.
fn train_mmdit(run: &Path, changes: &[&str]) -> TextRecipe {
    let small = [
        "data.size=8",
        "network.prompts=1",
        "network.transformer.input_size=8",
        "network.transformer.patch=2",
        "network.transformer.width=16",
        "network.transformer.depth=1",
        "network.transformer.heads=2",
        "post_training=null",
    ];
    train_as(run, "words", &[&small, changes].concat())
}

fn train_as(run: &Path, name: &str, changes: &[&str]) -> TextRecipe {
    let changes: Vec<String> = changes.iter().map(|change| (*change).into()).collect();
    let recipe = read_text_recipe(name, &changes).unwrap().unwrap();
    fs::create_dir_all(run).unwrap();
    fs::write(run.join("recipe.json"), recipe.to_value().to_string()).unwrap();
    let network = recipe.network.init(0, &Default::default());
    Weights::of(&network, recipe.network.official_key()).write(run.join("model.safetensors"), &[]).unwrap();
    recipe
}

/// What is published of a run, and its card.
fn published(run: &Path, choice: Choice) -> (Written, String) {
    let (folder, device) = (tempfile::tempdir().unwrap(), Default::default());
    let publication = Publication::<TextNetworkConfig>::of_network(run, choice, &device).unwrap();
    let written = publication.write(folder.path(), &repository(), "main", |_| {}).unwrap();
    (written, fs::read_to_string(folder.path().join("README.md")).unwrap())
}

#[test]
fn a_card_shows_prompts_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    train(run, &[]);
    // From before a run recorded its data.
    let (written, card) = published(run, Choice::default());
    assert_eq!(written.left_out, ["there is no picture: the run has not recorded its prompts"]);
    assert!(card.contains("sample hf://org/sit --prompt \"a lighthouse at night\" --out"), "{card}");
    assert!(!run.join("prompts").exists());

    let record = json!({ "examples": 1, "classes": ["a <b> sign: $5\nin `red`"] });
    fs::write(run.join("data.json"), record.to_string()).unwrap();
    let (_, card) = published(run, Choice::default());
    for words in [
        "\n“a \\<b\\> sign: $5 in \\`red\\`” with ",
        "images(&[\"a <b> sign: $5\\nin `red`\"], 0)?",
        "sample hf://org/sit --prompt 'a <b> sign: $5\nin `red`' --out",
        ", in the words of one prompt, ",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    assert!(!card.contains("which is not in this repository"), "{card}");
}

/// Of a run on stored latents its folder has a note alone of whose embeddings it learned.
#[test]
fn captions_that_lie_beside_latents_are_not_encoded_again() {
    let folder = tempfile::tempdir().unwrap();
    let [run, latents] = ["run", "latents"].map(|name| folder.path().join(name));
    fs::create_dir(&latents).unwrap();
    let data = format!("data={}", json!({ "kind": "latents", "path": latents }));
    let recipe = train(&run, &[&data, "network.prompts=600"]);
    let captions: Vec<String> = (0..600).map(|number| format!("picture {number}")).collect();
    fs::write(run.join("data.json"), json!({ "examples": 600, "classes": captions }).to_string()).unwrap();
    let encoder = recipe.network.encoder(&Default::default()).unwrap();
    PromptTable::prepare(&latents.join("prompts"), &captions, &*encoder, |_| Ok(())).unwrap();
    PromptTable::record_encoder(&encoder.identity().unwrap(), &captions, &run.join("prompts")).unwrap();
    let (written, _) = published(&run, Choice::default());
    assert!(names(&written).contains(&"samples.png"), "{:?}", written.left_out);
    assert_eq!(crate::shared::names(&run.join("prompts")), ["prompts.json"]);
}

#[test]
fn a_card_says_where_the_text_encoder_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &[r#"network.text={"kind":"flan-t5","folder":"/models/flan-t5-large","tokens":4}"#]);
    let (_, card) = published(folder.path(), plain());
    let words =
        "read by `flan-t5`, which is not in this repository: its files are expected in a folder `flan-t5-large`";
    assert!(card.contains(words) && !card.contains("/models"), "{card}");
}

/// Sizes of latents say nothing of those of images, nor one size of several.
#[test]
fn a_card_says_the_sizes_of_what_was_trained_in_buckets() {
    let folder = tempfile::tempdir().unwrap();
    for (buckets, sizes) in [
        ("null", "It makes images of 8 × 8 like those it was trained on, of"),
        (r#"{"step":4}"#, "It makes images of about as many pixels as 8 × 8, in ratios of sides like those"),
        (r#"{"step":4,"sizes":[4,8]}"#, "as many pixels as 4 × 4 or 8 × 8, in ratios of sides like those"),
    ] {
        train_mmdit(
            folder.path(),
            &[&format!(r#"data={{"kind":"captions","path":"/data","size":8,"buckets":{buckets}}}"#)],
        );
        let (_, card) = published(folder.path(), plain());
        assert!(card.contains(sizes), "{sizes}: {card}");
    }
}

/// Networks of `diffusers`, whose pipelines add these adapters to them, by what they are told and what they predict.
#[test]
fn adapters_of_networks_of_diffusers_are_loaded_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let sd3 = r#"{"kind":"stable-diffusion-3","folder":"/models/base"}"#;
    let reversed = r#"objective.schedule={"kind":"linear","reversed":true}"#;
    for (text, objective, is_of_diffusers) in [
        (sd3, reversed, true),
        (sd3, r#"objective.schedule={"kind":"linear"}"#, false),
        // Another transformer's encoders.
        (r#"{"kind":"flux-1","folder":"/models/base","tokens":4}"#, reversed, false),
        (r#"{"kind":"words","width":64,"tokens":4}"#, reversed, false),
    ] {
        let text = &format!("network.text={text}");
        let recipe = train_mmdit(run, &[text, objective, r#"adapter={"kind":"lora","rank":1}"#]);
        let network = recipe.adapted(recipe.network.init(0, &Default::default())).unwrap();
        let lora = LoraConfig { rank: 1, ..LoraConfig::default() };
        let adapter = Adapter::of(&network, recipe.network.official_key(), &lora);
        adapter.write(run.join("pytorch_lora_weights.safetensors")).unwrap();
        let choice = Choice { adapter: true, base_models: vec!["org/base".parse().unwrap()], ..plain() };
        let (_, card) = published(run, choice);
        for words in ["library_name: diffusers\n", "template:diffusion-lora", "pipeline.load_lora_weights(\"org/sit\""]
        {
            assert_eq!(card.contains(words), is_of_diffusers, "{text}, {words}: {card}");
        }
    }
}
