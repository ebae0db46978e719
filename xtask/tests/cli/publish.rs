//! Networks that others published, and our own.

use std::fs;

use serde_json::json;

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
