//! Lists for people and for scripts, and what scripts tell by.

use std::fs;

use serde_json::Value;

use crate::Place;
use crate::start::{COMPARISON, place};

fn json(told: &str) -> Value {
    serde_json::from_str(told).unwrap()
}

#[test]
fn runs_are_listed_as_they_stand() {
    let place = place();
    assert_eq!(place.run(&["runs"]).trim_end(), "no runs in runs");
    assert_eq!(json(&place.run(&["runs", "--json"])), json("[]"));
    place.refuse(&["runs", "elsewhere"], &["elsewhere"]);
    place.refuse(&["check"], &["checks mixflow itself: run it in the folder of its sources"]);
    place.run(&["train", "tiny.json", "--out", "runs/alone"]);
    place.run(&["train", "tiny.json", "--set", COMPARISON, "--out", "runs/compared"]);
    place.run(&["eval", "runs/alone", "--images", "20"]);
    place.run(&["train", "tiny.json", "--out", "runs/torn"]);
    for checkpoint in fs::read_dir(place.path("runs/torn/checkpoints")).unwrap() {
        fs::write(checkpoint.unwrap().path().join("state.json"), "{").unwrap();
    }
    fs::remove_file(place.path("runs/torn/model.safetensors")).unwrap();
    fs::create_dir(place.path("runs/wrong")).unwrap();
    fs::write(place.path("runs/wrong/recipe.json"), r#"{ "name": "a", "training": { "steps": 2 } }"#).unwrap();
    let told = place.run(&["runs"]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    for (line, words) in lines.iter().zip([
        &["runs/alone ", "finished", "2 of 2 steps", "loss ", "Fréchet distance "][..],
        &["runs/compared ", "finished", "6 of 6 steps", "Fréchet distance ", " ("],
        &["runs/torn ", "damaged", "2 of 2 steps", "state.json"],
        &["runs/wrong ", "damaged", "recipe.json", "is missing"],
    ]) {
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
    let runs = json(&place.run(&["runs", "--json"]));
    assert_eq!(runs[0]["state"]["is"], "finished");
    assert_eq!((&runs[1]["taken"], &runs[1]["asked"]), (&6.into(), &6.into()));
    assert!(runs[2]["state"]["because"].as_str().unwrap().contains("state.json"), "{runs}");
    // A name that a terminal would act on is JSON's text still.
    fs::rename(place.path("runs/torn"), place.path("runs/torn\u{200f}")).unwrap();
    assert_eq!(json(&place.run(&["runs", "--json"]))[2]["folder"], "runs/torn\u{200f}");
    // The best of a comparison is the smallest of its distances.
    let measured = runs[1]["measured"].as_array().unwrap();
    assert_eq!(measured.len(), 4, "{runs}");
    assert!(measured.windows(2).all(|pair| pair[0][2].as_f64() <= pair[1][2].as_f64()), "{runs}");
}

#[test]
fn recipes_are_listed_with_what_they_take() {
    let place = Place::new();
    let told = place.run(&["recipes", "--device", "h100"]);
    for words in ["digits ", "32 x 32 handwritten digits", "paper/sit-xl-2-256 ", " days", "words ", "rae-decoder-xl"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    for words in ["4 x 4 latents of handwritten digits", "128 x 128 latents of images with captions"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("latents of latents"), "{told}");
    let rivals = told.lines().find(|line| line.starts_with("rivals ")).unwrap();
    assert!(rivals.ends_with("24 post-trainings of 100 of 8 kinds, 5 other ways to sample"), "{rivals}");
    let recipes = json(&place.run(&["recipes", "--device", "h100", "--json"]));
    let plan = json(&place.run(&["plan", "--device", "h100", "--json"]));
    let parts = plan["parts"].as_array().unwrap().iter().map(|part| part["seconds"].as_f64().unwrap());
    let (listed, planned) = (recipes[0]["seconds"].as_f64().unwrap(), parts.sum::<f64>());
    assert!((listed / planned - 1.0).abs() < 1e-9, "{listed} {planned}");
    place.refuse(&["recipes", "--device", "abacus"], &["--device abacus"]);
}

#[test]
fn what_eval_finds_is_printed_as_it_is_written() {
    let place = place();
    let told = json(&place.run(&["eval", "first", "--images", "20", "--json"]));
    assert_eq!(told, place.json("first/eval.json"));
    assert_eq!(json(&place.run(&["plan", "tiny.json", "--device", "h100", "--json"]))["machine"]["name"], "h100");
}

/// That of Ctrl-C is tested with trackers, which it stops too.
#[test]
fn exit_codes_are_those_of_the_help() {
    let place = Place::new();
    for (arguments, code) in [
        (&["recipes", "--device", "h100"][..], 0),
        (&["plan", "nothing"], 1),
        (&["plan", "--wrong"], 2),
        (&["no"], 2),
        // Flags that do not go together.
        (&["eval", "run", "--shard", "1/2"], 2),
        (&["eval", "run", "--shard", "1/2", "--parts", "parts", "--out", "x.json"], 2),
        (&["eval", "run", "--shard", "1/2", "--parts", "parts", "--json"], 2),
        (&["sample", "run", "--prompt", "a", "--labels", "1", "--out", "x.png"], 2),
        (&["sample", "run", "--prompts", "a", "--shard", "1/2", "--out", "x"], 2),
        (&["sample", "run", "--prompts", "a", "--guide", "b", "--out", "x.png"], 2),
        (&["sample", "run", "--prompts", "a", "--layout", "dpg", "--count", "1", "--out", "x"], 2),
        (&["bench", "--latents", "--steps", "3"], 2),
        (&["bench", "--memory", "3", "--case", "tiny-train"], 2),
    ] {
        assert_eq!(place.call(arguments).status.code(), Some(code), "{arguments:?}");
    }
    let help = place.run(&["--help"]);
    for words in ["0 if all was done", "1 for an error", "2 for a wrong command line", "130 if it was stopped"] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{help}");
    }
}

#[test]
fn shells_complete_every_command() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.run(&["completions", shell]);
        for words in ["slow-flow", "tensorboard", "mixflow"] {
            assert!(script.contains(words), "{shell}: {words}");
        }
    }
}
