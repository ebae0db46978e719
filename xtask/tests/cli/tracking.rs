//! Trainings in `TensorBoard` and Weights & Biases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::{Place, names};

const FLAGS: [&str; 2] = ["--tensorboard", "--wandb"];

fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("tiny.json"), recipe().to_string()).unwrap();
    place
}

fn recipe() -> Value {
    json!({
        "name": "tiny",
        "data": { "kind": "digits", "size": 8 },
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 24, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        },
        "training": { "steps": 4, "batch": 8, "checkpoint_every": 2 },
        "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 2 } },
    })
}

fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixflow"));
    for name in ["WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL"] {
        command.env_remove(name);
    }
    // Whoever runs the tests may have a key.
    command.env("NETRC", place.path("no netrc"));
    command.args(arguments).current_dir(place.path(""));
    command
}

fn train(place: &Place, more: &[&str]) -> String {
    let output = command(place, &[&["train", "tiny.json", "--out", "run"], more].concat()).output().unwrap();
    told(output)
}

/// What a command says beside its results.
#[track_caller]
fn told(output: Output) -> String {
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    told
}

/// The log of the only Weights & Biases run of a training.
#[track_caller]
fn log(training: &Path) -> PathBuf {
    let runs = names(&training.join("wandb"));
    assert_eq!(runs.len(), 1, "{runs:?}");
    let run = training.join("wandb").join(&runs[0]);
    run.join(names(&run).into_iter().find(|name| name.ends_with(".wandb")).unwrap())
}

fn has(file: &Path, part: &[u8]) -> bool {
    fs::read(file).unwrap().windows(part.len()).any(|window| window == part)
}

#[test]
fn a_training_is_told_and_goes_on_in_the_same_runs() {
    let place = place();
    let told = train(&place, &FLAGS);
    assert!(!told.contains("warning"), "{told}");
    let (board, log) = (place.path("run/tensorboard"), log(&place.path("run")));
    let events = names(&board);
    assert_eq!(events.len(), 1, "{events:?}");
    for file in [&board.join(&events[0]), &log] {
        assert!(has(file, b"gradient_norm") && has(file, b"\"digits\""), "{}", file.display());
        assert!(has(file, b"weights/final_layer.linear.weight"), "{}", file.display());
    }
    // Field 18 of a record, exit code 0: all steps are done.
    assert!(has(&log, b"\x92\x01\x04\x08\0\x10"));
    let length = fs::metadata(&log).unwrap().len();
    train(&place, &[&FLAGS[..], &["--resume", "--set", "training.steps=8"]].concat());
    assert_eq!(names(&board).len(), 2);
    assert!(fs::metadata(&log).unwrap().len() > length + 300);
    // Without the flags nothing is told.
    train(&place, &["--resume", "--set", "training.steps=9"]);
    assert_eq!(names(&board).len(), 2);
}

#[test]
fn a_comparison_is_a_run_for_each_training_and_one_for_its_results() {
    let place = place();
    let post = "post_training={\"steps\":2,\"gamma\":0.8,\"seeds\":1,\"images\":20,\"lambdas\":[1.0]}";
    let told = train(&place, &[&FLAGS[..], &["--set", post]].concat());
    assert!(!told.contains("warning"), "{told}");
    let board = place.path("run/tensorboard");
    let found = names(&board);
    assert!(found[0].starts_with("events.out.tfevents") && found[1..] == ["mixflow-0", "pretraining", "standard-0"]);
    assert!(
        has(&board.join(&found[0]), b"samples/MixFlow")
            && has(&board.join(&found[0]), b"MixFlow/pixel_frechet_distance")
    );
    for arm in &found[1..] {
        let events = names(&board.join(arm));
        assert!(events.len() == 1 && has(&board.join(arm).join(&events[0]), b"loss"), "{events:?}");
        let log = log(&place.path("run").join(arm));
        assert!(has(&log, format!("tiny/{arm}").as_bytes()) && has(&log, b"\x92\x01\x04\x08\0\x10"));
    }
    let log = log(&place.path("run"));
    assert!(
        has(&log, b"samples/MixFlow")
            && has(&log, b"MixFlow/pixel_frechet_distance")
            && has(&log, b"media/images/samples_data")
    );
}

#[test]
fn a_tracker_that_fails_is_a_warning_and_a_wrong_setting_an_error() {
    let place = place();
    let arguments = ["train", "tiny.json", "--out", "run", "--wandb"];
    let output = command(&place, &arguments).env("WANDB_MODE", "sometimes").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("must be online, offline or disabled"), "{told}");
    assert!(!place.path("run").exists());

    fs::create_dir(place.path("run")).unwrap();
    fs::write(place.path("run/tensorboard"), "in the way").unwrap();
    // Nobody listens at the discard port.
    let server = [("WANDB_API_KEY", "5ecre7"), ("WANDB_BASE_URL", "http://127.0.0.1:9")];
    let output = command(&place, &[&arguments[..], &["--tensorboard"]].concat()).envs(server).output().unwrap();
    let told = self::told(output);
    for words in ["the run goes on without this tracker", "cannot reach 127.0.0.1:9", "`wandb sync "] {
        assert_eq!(told.matches(words).count(), 1, "{words}: {told}");
    }
    assert!(!told.contains("5ecre7") && place.path("run/model.safetensors").exists());
    assert!(has(&log(&place.path("run")), b"gradient_norm"));
}

#[cfg(unix)]
#[test]
fn a_training_that_is_stopped_is_told_as_one() {
    let place = place();
    let arguments = ["train", "tiny.json", "--out", "run", "--set", "training.steps=1000000", "--wandb"];
    let mut child = command(&place, &arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !place.path("run/checkpoints").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(kill.success() && output.status.code() == Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    // Exit code 255, as of the official client where it is stopped so.
    assert!(has(&log(&place.path("run")), b"\x92\x01\x05\x08\xff\x01\x10"));
}
