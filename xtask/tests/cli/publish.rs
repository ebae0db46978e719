//! Networks that others published, and our own.

use std::fs;

use serde_json::{Value, json};

use crate::guide::guided;

#[test]
fn a_published_folder_is_one_to_sample_from() {
    let place = guided();
    place.run(&["train", "strong.json", "--set", "post_training=null", "--out", "run"]);
    place.run(&["sample", "run", "--count", "4", "--out", "run.npz"]);
    // The recipe as config.json, which names the guide as it lies beside.
    fs::create_dir(place.path("published")).unwrap();
    let mut config = place.json("run/recipe.json");
    config["sampling"]["guide"]["weights"] = json!("guide.safetensors");
    fs::write(place.path("published/config.json"), config.to_string()).unwrap();
    fs::rename(place.path("run/model.safetensors"), place.path("published/model.safetensors")).unwrap();
    fs::rename(place.path("weak/model.safetensors"), place.path("published/guide.safetensors")).unwrap();
    let told = place.run(&["sample", "published", "--count", "4", "--out", "published.npz"]);
    assert!(told.contains("8 network evaluations"), "{told}");
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert_eq!(bytes("published.npz"), bytes("run.npz"));
    fs::remove_file(place.path("published/guide.safetensors")).unwrap();
    place.refuse(&["sample", "published", "--out", "none.npz"], &["guide.safetensors"]);
}

#[test]
fn a_dry_run_writes_the_folder_and_lists_it() {
    let place = guided();
    place.refuse(&["publish", "weak", "--to", "org"], &["with its owner"]);
    place.refuse(&["publish", "nothing", "--to", "org/name", "--dry-run"], &["is no folder"]);
    let told = place.run(&["publish", "weak", "--to", "org/name", "--license", "mit", "--dry-run"]);
    for name in ["README.md", "config.json", "model.safetensors", "samples.png"] {
        let size = fs::metadata(place.path("weak/published").join(name)).unwrap().len();
        assert!(told.contains(&format!("{size:>14}  {name}\n")), "{told}");
    }
    place.run(&["sample", "weak/published", "--count", "4", "--out", "published.npz"]);
    place.run(&["sample", "weak", "--count", "4", "--out", "run.npz"]);
    assert_eq!(fs::read(place.path("published.npz")).unwrap(), fs::read(place.path("run.npz")).unwrap());
    place.refuse(&["publish", "weak", "--to", "org/name", "--dry-run"], &["is not empty"]);
    let told = place.run(&["publish", "weak", "--to", "org/name", "--no-samples", "--dry-run", "other", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let size = |name: &str| fs::metadata(place.path("other").join(name)).unwrap().len();
    let files = ["README.md", "config.json", "model.safetensors"].map(|name| (name.to_string(), json!(size(name))));
    assert_eq!(told["files"], Value::Object(files.into_iter().collect()));
    assert_eq!(
        (&told["repository"], &told["folder"], &told["left_out"]),
        (&json!("org/name"), &json!("other"), &json!([]))
    );
}
