//! The training of a decoder alone.

use std::fs;

use mixflow::recipe::DecoderRecipe;
use serde_json::{Value, json};

use crate::{Place, names};

/// A decoder that learns in a moment, with the file of its encoder.
fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("decoder.json"), recipe().to_string()).unwrap();
    let recipe = DecoderRecipe::from_value(recipe()).unwrap();
    let encoder = recipe.encoder.init(7, &Default::default());
    encoder.weights().write(place.path("encoder.safetensors"), &[]).unwrap();
    place
}

fn recipe() -> Value {
    json!({
        "kind": "rae-decoder", "name": "tiny",
        "data": { "kind": "shapes", "size": 32 },
        "encoder": {
            "architecture": "dinov2", "channels": 3, "input_size": 28, "table_size": 28, "patch": 14, "width": 16, "depth": 1,
            "heads": 2, "hidden": 32, "registers": 4, "normalisation": "image-net"
        },
        "encoder_weights": "encoder.safetensors",
        "decoder": {
            "features": 16, "grid": 2, "patch": 16, "channels": 3, "width": 16, "depth": 1, "heads": 2, "hidden": 32
        },
        "training": {
            "steps": 3, "batch": 4, "noise": 0.8, "seed": 1, "checkpoint_every": 2,
            "optimizer": { "learning_rate": { "kind": "constant", "rate": 0.001 }, "average": 0.5 }
        }
    })
}

#[test]
fn what_it_costs_is_planned() {
    let place = place();
    let told = place.run(&["plan", "decoder.json", "--device", "h100"]);
    for words in ["of the frozen encoder", "training of 12 images", "not counted: activations"] {
        assert!(told.contains(words), "{told}");
    }
    place.refuse(&["plan", "decoder.json", "--device", "abacus"], &["--device abacus", "h100"]);
    place.refuse(&["compare", "decoder.json", "--from", "x"], &["for `train` and `plan` alone"]);
}

#[test]
fn it_starts_from_another_one_and_says_so() {
    let place = place();
    place.run(&["train", "decoder.json", "--out", "first"]);
    place.run(&["train", "decoder.json", "--out", "run", "--from", "first/decoder.safetensors"]);
    assert_eq!(place.json("run/start.json")["files"][0]["file"], "decoder.safetensors");
    assert!(!place.path("first/start.json").exists());
    let decoder = |run: &str| fs::read(place.path(run).join("decoder.safetensors")).unwrap();
    assert_ne!(decoder("run"), decoder("first"));
    let more = ["train", "decoder.json", "--out", "run", "--resume", "--set", "training.steps=4"];
    place.refuse(&[&more[..], &["--from", "run/decoder.safetensors"]].concat(), &["other weights"]);
    place.run(&more);
}

#[test]
fn it_goes_on_with_the_encoder_that_it_began_with_wherever_that_lies() {
    let place = place();
    let encoder = place.path("encoder.safetensors");
    place.run(&["train", "decoder.json", "--out", "whole"]);
    place.run(&["train", "decoder.json", "--out", "run", "--set", "training.steps=2"]);
    let moved = place.path("moved.safetensors");
    fs::rename(&encoder, &moved).unwrap();
    let other = DecoderRecipe::from_value(recipe()).unwrap().encoder.init(8, &Default::default());
    other.weights().write(&encoder, &[]).unwrap();
    let resume = ["train", "decoder.json", "--out", "run", "--resume"];
    place.refuse(&resume, &["the run began with encoder.safetensors of SHA-256", "encoder.safetensors is now"]);
    place.run(&[&resume[..], &["--set", "encoder_weights=moved.safetensors"]].concat());
    let decoder = |run: &str| fs::read(place.path(run).join("decoder.safetensors")).unwrap();
    assert!(decoder("run") == decoder("whole"));
}

#[test]
fn its_training_is_told() {
    let place = place();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mixflow"));
    for name in ["WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL"] {
        command.env_remove(name);
    }
    let command = command.args(["train", "decoder.json", "--out", "run", "--tensorboard", "--wandb"]);
    let output = command.env("NETRC", place.path("no netrc")).current_dir(place.path("")).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !told.contains("warning"), "{told}");
    let has =
        |file: &std::path::Path, part: &[u8]| fs::read(file).unwrap().windows(part.len()).any(|found| found == part);
    let board = place.path("run/tensorboard");
    let events = names(&board);
    assert_eq!(events.len(), 1, "{events:?}");
    let wandb = place.path("run/wandb");
    let runs = names(&wandb);
    assert_eq!(runs.len(), 1, "{runs:?}");
    let run = wandb.join(&runs[0]);
    let log = run.join(names(&run).into_iter().find(|name| name.ends_with(".wandb")).unwrap());
    for file in [board.join(&events[0]), log.clone()] {
        for part in [&b"loss"[..], b"gradient_norm", b"rae-decoder"] {
            assert!(has(&file, part), "{}: {}", file.display(), String::from_utf8_lossy(part));
        }
    }
    // Exit code 0: all steps are done.
    assert!(has(&log, b"\x92\x01\x04\x08\0\x10"));
}
