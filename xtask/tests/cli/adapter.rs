//! Adapters: trained, resumed, compared, and added to the weights that they are for.

use std::fs;

use crate::Place;
use crate::start::{COMPARISON, place};

const FILE: &str = "pytorch_lora_weights.safetensors";
const ADAPTER: &str =
    r#"adapter={"kind":"lora","rank":2,"alpha":4,"targets":["attn.qkv","final_layer.linear"],"dropout":0.25}"#;
const RATE: &str = r#"training.optimizer={"learning_rate":{"kind":"constant","rate":0.02},"average":0.5}"#;

fn images(place: &Place, arguments: &[&str]) -> Vec<u8> {
    place.run(&[&["sample", "--seed", "0", "--count", "4", "--out", "images.npz", "--force"], arguments].concat());
    fs::read(place.path("images.npz")).unwrap()
}

#[test]
fn an_adapter_is_trained_beside_weights_that_stay() {
    let place = place();
    let train = ["train", "tiny.json", "--set", ADAPTER, "--set", RATE];
    let whole = [&train[..], &["--set", "training.steps=3", "--from", "first", "--out", "whole"]].concat();
    place.run(&whole);

    // What it learned, added to what it started from, is what it wrote.
    let adapter = format!("whole/{FILE}");
    let merged = images(&place, &["whole"]);
    let added = images(&place, &["first", "--adapter", &adapter]);
    assert_eq!(added, merged);
    assert_ne!(images(&place, &["first"]), merged);
    assert_eq!(images(&place, &["first", "--adapter", "whole"]), merged);
    // Twice a half rounds otherwise than the whole.
    let half = format!("{adapter}=0.5");
    let halves = images(&place, &["first", "--adapter", &half, "--adapter", &half]);
    assert!(halves.iter().zip(&merged).all(|(a, b)| a.abs_diff(*b) <= 1) && halves.len() == merged.len());
    assert_eq!(images(&place, &["first", "--adapter", &format!("{adapter}=0")]), images(&place, &["first"]));

    // Without what it drops it learns something else.
    place.run(
        &[&train[..], &["--set", "adapter.dropout=0", "--set", "training.steps=3", "--from", "first", "--out", "all"]]
            .concat(),
    );
    assert_ne!(images(&place, &["all"]), merged);

    // `A` of 2 × 24 and `B` of 72 × 2 or 16 × 2, in 32 bits: everything else stays where it is.
    let checkpoint = place.path("whole/checkpoints/step-00000003/weights.safetensors");
    let (numbers, size) = (2 * (24 + 72 + 24 + 16), fs::metadata(checkpoint).unwrap().len());
    assert!((4 * numbers..4 * numbers + 2_000).contains(&size), "{size} bytes");

    // It can be published alone, for a network that others have.
    let publish = ["publish", "whole", "--to", "org/name", "--adapter-only", "--no-samples", "--dry-run", "public"];
    place.refuse(&publish, &["name the base model"]);
    let told = place.run(&[&publish[..], &["--base-model", "org/first"]].concat());
    assert!(told.contains(FILE) && !told.contains("model.safetensors"), "{told}");
    assert_eq!(images(&place, &["first", "--adapter", "public"]), merged);

    // Of the last step there is the adapter alone, and of that only what a training needs.
    let last = ["publish", "whole", "--to", "org/name", "--last", "--no-samples", "--dry-run", "last"];
    place.refuse(&last, &["are in its checkpoint only, but", "holds an adapter without its network"]);
    assert!(!place.path("last").exists());

    // It stops and goes on to the same bits, from the same weights.
    let parts = [&train[..], &["--out", "parts"]].concat();
    place.run(&[&parts[..], &["--set", "training.steps=1", "--from", "first"]].concat());
    let more = [&parts[..], &["--set", "training.steps=3", "--resume"]].concat();
    place.refuse(&more, &["adapter is for weights that are there already", "--from"]);
    place.refuse(&[&more[..], &["--from", "second"]].concat(), &["other weights"]);
    place.run(&[&more[..], &["--from", "first"]].concat());
    let written = |run: &str, file: &str| fs::read(place.path(run).join(file)).unwrap();
    for file in [FILE, "model.safetensors"] {
        assert!(written("whole", file) == written("parts", file), "{file} differs");
    }
    let alone = ["holds an adapter without its network", "`train --resume`", "--from"];
    place.refuse(&["sample", "whole/checkpoints/step-00000003", "--out", "x.png"], &alone);
    // So it is of a run that was stopped.
    for run in ["model.safetensors", FILE] {
        fs::remove_file(place.path("parts").join(run)).unwrap();
    }
    place.refuse(&["sample", "parts", "--out", "x.png"], &alone);
}

#[test]
fn the_arms_of_a_comparison_are_adapters_of_one_start() {
    let place = place();
    place.run(&[
        "train",
        "tiny.json",
        "--set",
        ADAPTER,
        "--set",
        RATE,
        "--set",
        COMPARISON,
        "--from",
        "first",
        "--out",
        "compared",
    ]);
    let start = images(&place, &["first"]);
    let page = fs::read_to_string(place.path("compared/report.html")).unwrap();
    assert!(page.contains("Each arm trains a low-rank adapter of rank 2 at attn.qkv, final_layer.linear"));
    for arm in ["standard-0", "mixflow-0"] {
        let adapter = format!("compared/{arm}/{FILE}");
        let merged = images(&place, &["compared", "--arm", arm]);
        assert_eq!(images(&place, &["first", "--adapter", &adapter]), merged, "{arm}");
        assert_ne!(merged, start, "{arm}");
    }
    // Without given weights the start is trained whole.
    place.run(&["train", "tiny.json", "--set", ADAPTER, "--set", COMPARISON, "--out", "alone"]);
    assert!(!place.path("alone/pretraining").join(FILE).exists());
    assert!(place.path("alone/mixflow-0").join(FILE).exists());
}

#[test]
fn adapters_that_cannot_be_are_refused_before_anything_is_written() {
    let place = place();
    let train = |adapter: &str| {
        let adapter = format!("adapter={adapter}");
        let command = ["train", "tiny.json", "--from", "first", "--out", "run", "--set"];
        command.iter().map(|word| (*word).to_owned()).chain([adapter]).collect::<Vec<_>>()
    };
    for (adapter, words) in [
        (r#"{"kind":"lora","rank":0}"#, "adapter.rank must be at least 1, found 0"),
        (r#"{"kind":"lora","alpha":-1}"#, "adapter.alpha must be above 0, found -1"),
        (r#"{"kind":"lora","dropout":1}"#, "adapter.dropout must be in [0, 1), found 1"),
        (r#"{"kind":"lora","ranks":4}"#, "unknown key `ranks`, perhaps `rank`"),
        (r#"{"kind":"dora"}"#, "dora"),
        (r#"{"kind":"lora","targets":["to_q"]}"#, "adapter.targets have `to_q`, which is no layer"),
    ] {
        let command = train(adapter);
        place.refuse(&command.iter().map(String::as_str).collect::<Vec<_>>(), &[words]);
        assert!(!place.path("run").exists(), "{adapter}");
    }
    place.refuse(&["train", "tiny.json", "--set", ADAPTER, "--out", "run"], &["adapter is for weights", "--from"]);
    place.refuse(
        &["sample", "first", "--adapter", "first/model.safetensors", "--out", "x.png"],
        &["is no low-rank adapter", "lora_A.weight"],
    );
    place.refuse(&["sample", "first", "--adapter", "nothing.safetensors", "--out", "x.png"], &["nothing.safetensors"]);
    place.refuse(&["sample", "first", "--adapter", "lr=1/a", "--out", "x.png"], &["lr=1/a"]);
    place.refuse(
        &["sample", "first", "--adapter", "second", "--out", "x.png"],
        &["second is a folder without an adapter: expected pytorch_lora_weights.safetensors or adapter_model"],
    );
}
