//! Networks that are told prompts.

use std::fs;
use std::path::Path;

use mixflow::backbones::weights::Weights;
use mixflow::recipe::NetworkSettings;
use mixflow_hub::{Choice, Publication, Written};
use mixflow_t2i::TextNetworkConfig;
use mixflow_t2i::recipe::read_text_recipe;
use serde_json::json;

use super::plain;
use crate::shared::repository;

/// What `cargo xtask train` leaves of a small MiniT2I of one prompt, with other values for some keys, but its record of the data.
fn train(run: &Path, changes: &[&str]) {
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
    let changes: Vec<String> = small.iter().chain(changes).map(|change| (*change).into()).collect();
    let recipe = read_text_recipe("minit2i", &changes).unwrap().unwrap();
    fs::create_dir_all(run).unwrap();
    fs::write(run.join("recipe.json"), recipe.to_value().to_string()).unwrap();
    let network = recipe.network.init(0, &Default::default());
    Weights::of(&network, recipe.network.official_key()).write(run.join("model.safetensors"), &[]).unwrap();
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

#[test]
fn a_card_says_where_the_text_encoder_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &[r#"network.text={"kind":"flan-t5","folder":"/models/flan-t5-large","tokens":4}"#]);
    let (_, card) = published(folder.path(), plain());
    let words =
        "read by `flan-t5`, which is not in this repository: its files are expected in a folder `flan-t5-large`";
    assert!(card.contains(words) && !card.contains("/models"), "{card}");
}
