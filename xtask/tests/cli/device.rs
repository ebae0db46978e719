//! The device that is named, and the one that is used.

use std::fs;
use std::process::Command;

use crate::Place;
use crate::start::{COMPARISON, place, recipe};

/// What an error says of a device that is asked for by a flag or by the variable.
fn fault(arguments: &[&str], variable: Option<&str>) -> String {
    let (place, mut command) = (Place::new(), Command::new(env!("CARGO_BIN_EXE_mixflow")));
    command.args(arguments).current_dir(place.path("")).env_remove("BURN_DEVICE");
    let output = command.envs(variable.map(|name| ("BURN_DEVICE", name))).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
    told
}

#[test]
fn a_device_that_is_none_is_told_by_every_command_that_computes() {
    for arguments in [
        &["train"][..],
        &["compare", "--from", "x"],
        &["sample", "x", "--out", "x.png"],
        &["sample", "x", "--prompt", "a star", "--out", "x.png"],
        &["eval", "x"],
        &["slow-flow", "x"],
        &["encode", "x", "--to", "y", "--autoencoder", "sd", "--weights", "x.pt"],
        &["selftest"],
        &["bench"],
        &["bench", "--case", "tiny-train"],
        &["bench", "--memory", "1"],
        &["publish", "x", "--to", "org/name"],
    ] {
        let told = fault(arguments, Some("abacus"));
        assert!(told.starts_with("error: BURN_DEVICE=abacus: expected flex, the CPU"), "{arguments:?}: {told}");
        let named = |name: &'static str| fault(&[arguments, &["--device", name]].concat(), Some("flex"));
        let told = named("abacus:1");
        assert!(told.starts_with("error: --device abacus:1: expected flex, the CPU"), "{arguments:?}: {told}");
        if !cfg!(feature = "cuda") {
            let sentence =
                "error: --device cuda: this program was built without it: build it with the feature `cuda`\n";
            assert_eq!(named("cuda"), sentence, "{arguments:?}");
        }
    }
    let told = fault(&["plan", "--device", "abacus"], None);
    assert!(told.contains("--device abacus: expected flex") && told.contains("or one of a100, h100"), "{told}");
    assert!(fault(&["plan"], Some("abacus")).contains("BURN_DEVICE=abacus"));
}

#[test]
fn a_run_on_a_device_that_is_named_is_the_same() {
    let place = Place::new();
    fs::write(place.path("tiny.json"), recipe().to_string()).unwrap();
    let train = |out: &str, more: &[&str]| place.run(&[&["train", "tiny.json", "--out", out][..], more].concat());
    train("usual", &["--set", "training.steps=4"]);
    train("named", &["--device", "flex", "--set", "training.steps=4"]);
    // A run goes on with another device than it began with, as far as this machine has others.
    train("resumed", &["--device", "flex:0"]);
    train("resumed", &["--device", "CPU", "--resume", "--set", "training.steps=4"]);
    let read = |name: &str| fs::read(place.path(name)).unwrap();
    for run in ["named", "resumed"] {
        assert!(read(&format!("{run}/model.safetensors")) == read("usual/model.safetensors"), "{run}");
        for command in [&["sample", run, "--out", "named.png"][..], &["sample", "usual", "--out", "usual.png"]] {
            place.run(&[command, &["--device", "cpu", "--force"]].concat());
        }
        assert!(read("named.png") == read("usual.png"), "{run}");
    }
}

/// `COMPARISON` has two trainings beside the first; the recipe's batch is of four.
#[test]
fn a_training_is_shared_by_the_devices_that_are_named() {
    let place = Place::new();
    fs::write(place.path("tiny.json"), recipe().to_string()).unwrap();
    let batch = recipe()["training"]["batch"].as_u64().unwrap();
    let train = ["train", "tiny.json", "--set", COMPARISON, "--out", "shared", "--device"];
    let odd = vec!["flex"; batch as usize + 1].join(",");
    let words = format!("times the number of devices, found {batch}, 1 and {}", batch + 1);
    place.refuse(&[&train[..], &[&odd]].concat(), &[&words]);
    place.refuse(&[&train[..], &["flex,abacus"]].concat(), &["--device flex,abacus: abacus:0: expected flex"]);
    assert!(!place.path("shared").exists(), "nothing was begun");
    place.run(&[&train[..], &["flex,flex", "--set", "training.precision=bf16"]].concat());
    let notes = place.json("shared/results.json")["report"]["notes"].to_string();
    assert!(notes.contains("The networks multiplied in bf16 while they were trained."), "{notes}");
}

#[test]
fn results_name_the_device_that_was_used() {
    let place = place();
    place.run(&["eval", "first", "--images", "20", "--device", "flex"]);
    let told = place.json("first/eval.json")["device"].to_string();
    assert!(told.contains("flex (CPU)"), "{told}");
    place.run(&["train", "tiny.json", "--set", COMPARISON, "--out", "compared", "--device", "flex"]);
    assert_eq!(place.json("compared/results.json")["report"]["environment"]["backend"].to_string(), told);
    let told = place.run(&["plan", "digits", "--device", "4xh100"]);
    assert!(told.contains("memory in training on each device") && told.contains("times on 4 x h100"), "{told}");
    place.refuse(&["plan", "digits", "--device", "5xh100"], &["times the number of devices"]);
    place.refuse(&["plan", "digits", "--device", "0xh100"], &["--device 0xh100", "one device or more"]);
    place.refuse(&["plan", "digits", "--set", "network.classes=3"], &["3 classes", "the data has 10"]);
    place.refuse(&["plan", "digits", "--set", "post_training.images=5000"], &["post_training.images", "5000"]);
    let told = place.run(&["plan", "tiny.json", "--device", "flex"]);
    assert!(told.contains("on flex"), "{told}");
}

#[test]
fn the_cpu_agrees_with_itself() {
    let told = Place::new().run(&["selftest", "--device", "flex"]);
    assert!(told.contains("flex (CPU), against the CPU"), "{told}");
    let rows: Vec<&str> = told.lines().filter(|line| line.contains("e-") || line.contains("0.0e0")).collect();
    let networks = ["SiT  ", "SiT with projectors (REPA)", "DiT  ", "DiT^DH", "LightningDiT", "MMDiT", "MM-JiT"];
    for network in networks {
        assert_eq!(rows.iter().filter(|row| row.starts_with(network)).count(), 7, "{network}: {told}");
    }
    assert!(rows.iter().all(|row| row.ends_with("  agrees")), "{told}");
    assert!(told.ends_with(&format!("\n{0} of {0} agree\n", rows.len())), "{told}");
}

/// A case of the suite for GPUs computes anywhere.
#[test]
fn a_case_of_the_suite_for_gpus_is_measured() {
    let place = Place::new();
    let case = ["bench", "--device", "flex", "--case", "sit-s-256-sample", "--batch", "1", "--steps", "2"];
    let told = place.run(&[&case[..], &["--precision", "f32"]].concat());
    let measured: serde_json::Value = serde_json::from_str(&told).unwrap();
    // 6,055,673,856 multiplications with addition of an image in matrix products.
    assert_eq!((&measured["batch"], &measured["operations"]), (&1.into(), &12_111_347_712.0.into()));
    assert!(measured["seconds"].as_f64().unwrap() > 0.0);
}
