//! Networks whose training has not ended.

use std::fs;

use serde_json::json;

use crate::Place;

/// A run of four steps with checkpoints after two and four.
fn place() -> Place {
    let place = Place::new();
    let recipe = json!({
        "name": "tiny",
        "data": { "kind": "digits", "size": 8 },
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 24, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        },
        "training": { "steps": 4, "batch": 8, "checkpoint_every": 2, "optimizer": { "average": 0.5 } },
        "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 2 } },
    });
    fs::write(place.path("tiny.json"), recipe.to_string()).unwrap();
    place.run(&["train", "tiny.json", "--out", "run"]);
    place
}

const LAST: &str = "run/checkpoints/step-00000004";
const COMPARISON: &str =
    "post_training={\"steps\":1,\"gamma\":0.8,\"seeds\":1,\"images\":20,\"lambdas\":[1.0],\"slow_flow\":false}";

#[test]
fn checkpoints_are_sampled_measured_and_compared() {
    let place = place();
    let sample = |from: &str, out: &str| {
        let told = place.run(&["sample", from, "--count", "4", "--out", out]);
        (told, fs::read(place.path(out)).unwrap())
    };
    let (_, finished) = sample("run", "finished.npz");
    let (told, last) = sample(LAST, "last.npz");
    assert!(told.contains("step-00000004/average.safetensors"), "{told}");
    assert_eq!(last, finished);
    assert_ne!(sample("run/checkpoints/step-00000002", "earlier.npz").1, finished);

    place.run(&["eval", "run", "--images", "20"]);
    place.run(&["eval", LAST, "--images", "20"]);
    let [of_run, of_last] = ["run/eval.json", "run/eval-step-00000004.json"].map(|file| place.json(file));
    assert_eq!(of_run["evaluation"], of_last["evaluation"]);
    assert!(of_last["weights"]["file"].as_str().unwrap().contains("step-00000004"), "{of_last}");
    // The checkpoint is as it was.
    assert!(!place.path(LAST).join("eval.json").exists());

    let table = |told: String| told.lines().skip(1).map(String::from).collect::<Vec<_>>();
    let [of_run, of_last] = ["run", LAST].map(|from| table(place.run(&["slow-flow", from, "--images", "10"])));
    assert_eq!(of_run, of_last);
    place.run(&["compare", "tiny.json", "--set", COMPARISON, "--from", LAST, "--out", "compared"]);
    let report = &place.json("compared/results.json")["report"];
    assert_eq!(report["slow_flow"], json!([]));
}

#[test]
fn weights_that_lie_beside_each_other_have_results_of_their_own() {
    let place = place();
    place.run(&["eval", "run", "--images", "20"]);
    let of_four = place.json("run/eval.json");
    place.run(&["train", "tiny.json", "--out", "run", "--resume", "--set", "training.steps=6"]);
    fs::copy(place.path("run/model.safetensors"), place.path("run/other.safetensors")).unwrap();
    place.run(&["eval", "run", "--images", "20"]);
    let (of_six, listed) = (fs::read(place.path("run/eval.json")).unwrap(), place.run(&["runs", "run", "--json"]));
    for file in ["run/model-step-00000004.safetensors", "run/other.safetensors"] {
        place.run(&["eval", file, "--images", "20"]);
    }
    assert_eq!(fs::read(place.path("run/eval.json")).unwrap(), of_six);
    assert_eq!(place.run(&["runs", "run", "--json"]), listed);
    assert_eq!(place.json("run/eval-step-00000004.json")["evaluation"], of_four["evaluation"]);
    assert_eq!(place.json("run/eval-other.json")["evaluation"], place.json("run/eval.json")["evaluation"]);
    assert_ne!(of_four["evaluation"], place.json("run/eval.json")["evaluation"]);
}

#[test]
fn of_a_run_that_has_not_ended_the_newest_checkpoint_is_taken_and_said() {
    let place = place();
    let draw = ["sample", "run", "--count", "4", "--out"];
    place.run(&[&draw[..], &["finished.npz"]].concat());
    fs::remove_file(place.path("run/model.safetensors")).unwrap();
    let output = place.call(&[&draw[..], &["last.npz"]].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains(&format!("taking the checkpoint {LAST}")), "{told}");
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert_eq!(bytes("last.npz"), bytes("finished.npz"));
    // So it can be compared and guide, too.
    place.run(&["compare", "tiny.json", "--set", COMPARISON, "--from", "run", "--out", "compared"]);
    let start = place.json("compared/start.json");
    assert_eq!(start["part"], "average");
    place.run(&["sample", LAST, "--guide", "run", "--guidance", "2", "--count", "2", "--out", "guided.npz"]);
    // Of an arm of a comparison as of a run.
    fs::remove_file(place.path("compared/mixflow-0/model.safetensors")).unwrap();
    let told = place.run(&["sample", "compared", "--arm", "mixflow-0", "--count", "2", "--out", "arm.npz"]);
    assert!(told.contains("compared/mixflow-0/checkpoints/step-00000001"), "{told}");
    place.refuse(&["sample", LAST, "--arm", "mixflow-0", "--out", "x.npz"], &["--arm", "is a checkpoint"]);
    place.refuse(&["sample", "run/checkpoints", "--out", "x.npz"], &["run/checkpoints", "no network"]);
}
