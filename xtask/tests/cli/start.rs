//! Trainings that start from given weights.

use mixflow::files::WeightsFile;
use serde_json::{Value, json};

use crate::Place;

/// A recipe of a network that learns in a moment.
pub(crate) fn recipe() -> Value {
    json!({
        "name": "tiny",
        "data": { "kind": "digits", "size": 8 },
        "network": {
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 24, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        },
        "training": { "steps": 2, "batch": 8, "checkpoint_every": 1 },
        "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 2 } },
    })
}

pub(crate) fn place() -> Place {
    let place = Place::new();
    std::fs::write(place.path("tiny.json"), recipe().to_string()).unwrap();
    for (seed, run) in [("1", "first"), ("2", "second")] {
        place.run(&["train", "tiny.json", "--set", &format!("seed={seed}"), "--out", run]);
    }
    place
}

pub(crate) const COMPARISON: &str =
    "post_training={\"steps\":2,\"gamma\":0.8,\"seeds\":1,\"images\":20,\"lambdas\":[1.0]}";

#[test]
fn what_a_run_started_from_is_written_down_and_must_stay_the_same() {
    let place = place();
    assert!(!place.path("first/start.json").exists());
    place.run(&["train", "tiny.json", "--from", "first", "--out", "run"]);
    let start = place.json("run/start.json");
    assert_eq!(start["files"][0]["file"], "model.safetensors");
    assert!(start["files"][0]["sha256"].as_str().unwrap().len() == 64 && start.get("repository").is_none());
    // It is no part of the recipe, and checkpoints go on without it, but not from another.
    let more = ["train", "tiny.json", "--out", "run", "--resume", "--set", "training.steps=3"];
    place.run(&more);
    place.run(&[&more[..], &["--from", "first/model.safetensors"]].concat());
    place.refuse(&[&more[..], &["--from", "second"]].concat(), &["started from model.safetensors", "other weights"]);
    assert_eq!(place.json("run/start.json"), start);

    // A comparison would train first without it.
    let compare = ["train", "tiny.json", "--out", "compared", "--set", COMPARISON];
    place.run(&[&compare[..], &["--from", "first/checkpoints/step-00000002"]].concat());
    assert_eq!(place.json("compared/start.json")["part"], "average");
    place.refuse(&[&compare[..], &["--resume"]].concat(), &["it is given none", "the same --from"]);
}

/// A folder of two classes of tiny images.
fn two_classes(place: &Place) {
    for class in ["cat", "dog"] {
        let folder = place.path("images").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for index in 0..12u8 {
            let image = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([(x as u8 * 9) ^ (y as u8 * 7) ^ index]));
            image.save(folder.join(format!("{index}.png"))).unwrap();
        }
    }
}

#[test]
fn a_network_for_other_classes_is_fine_tuned_from_rows_that_are_named() {
    let place = Place::new();
    std::fs::write(place.path("tiny.json"), recipe().to_string()).unwrap();
    let coloured = ["train", "tiny.json", "--set", "network.channels=3"];
    place.run(&[&coloured[..], &["--set", "data.channels=3", "--out", "first"]].concat());
    two_classes(&place);
    let data = "data={\"kind\":\"folder\",\"path\":\"images\",\"size\":8}";
    let train = [&coloured[..], &["--set", data, "--from", "first"]].concat();
    // Each message leads to the next step, and the last step works.
    place.refuse(&[&train[..], &["--out", "run"]].concat(), &["set network.classes=2"]);
    let train = [&train[..], &["--set", "network.classes=2", "--out", "run"]].concat();
    place.refuse(&train, &["11 labels", "the network has 3", "--class-rows"]);
    place.refuse(&[&train[..], &["--class-rows", "cow=1"]].concat(), &["cow is no class; there are cat, dog"]);
    place.refuse(&[&train[..], &["--class-rows", "cat=10"]].concat(), &["it knows 10 classes", "no row 10"]);
    assert!(!place.path("run").exists());
    let mapped = [&train[..], &["--class-rows", "cat=3"]].concat();
    place.run(&mapped);
    assert_eq!(place.json("run/start.json")["class_rows"], json!([{ "of": 3 }, "null"]));

    // Continued, it is the same training: with the same rows, or from its checkpoint, but not with others.
    let more = [&mapped[..], &["--resume", "--set", "training.steps=3"]].concat();
    place.run(&more);
    let other = [&train[..], &["--class-rows", "cat=4", "--resume", "--set", "training.steps=3"]].concat();
    place.refuse(&other, &["its classes are given other rows", "the same --from and --class-rows"]);
    let whole = [&mapped[..], &["--set", "training.steps=3"]].concat();
    let whole: Vec<&str> = whole.into_iter().map(|word| if word == "run" { "whole" } else { word }).collect();
    place.run(&whole);
    let read = |run: &str| std::fs::read(place.path(run).join("model.safetensors")).unwrap();
    assert!(read("run") == read("whole"));
}

#[test]
fn what_is_taken_of_a_file_is_said() {
    let place = place();
    let weights = mixflow::backbones::weights::Weights::read(place.path("first/model.safetensors")).unwrap();
    let wrapped = weights.rename(|name| Some(format!("model.{name}")));
    wrapped.write(place.path("wrapped.safetensors"), &[]).unwrap();
    let told = place.told(&["train", "tiny.json", "--from", "wrapped.safetensors", "--out", "wrapped"]);
    assert!(told.contains("of wrapped.safetensors: names without `model.`"), "{told}");
    place.run(&["train", "tiny.json", "--from", "first", "--out", "plain"]);
    let read = |run: &str| std::fs::read(place.path(run).join("model.safetensors")).unwrap();
    assert!(read("wrapped") == read("plain"));
}

#[test]
fn arms_of_another_start_are_never_reported() {
    let place = place();
    let train = ["train", "tiny.json", "--out", "run", "--set", COMPARISON];
    place.run(&train);
    let start = WeightsFile::read(place.path("run/pretraining/model.safetensors")).unwrap();
    for arm in ["standard-0", "mixflow-0"] {
        let said = place.json(&format!("run/{arm}/start.json"));
        assert_eq!(said["files"][0], json!({ "file": "pretraining/model.safetensors", "sha256": start.sha256 }));
    }
    let again = [&train[..], &["--resume"]].concat();
    let report = std::fs::read(place.path("run/results.json")).unwrap();
    let change = |set: &'static str| [&again[..], &["--set", set]].concat();
    place.refuse(&change("training.steps=3"), &["started from a pre-training of 2 steps", "training.steps=3"]);
    // The images that are held out are those that were not trained on.
    place.refuse(&change("post_training.images=30"), &["another `post_training.images`"]);
    let now = WeightsFile::read(place.path("run/pretraining/model.safetensors")).unwrap();
    assert_eq!((now, std::fs::read(place.path("run/results.json")).unwrap()), (start, report));
    // Arms may go on, and a start that was exchanged is noticed.
    place.run(&change("post_training.steps=3"));
    let file = place.path("run/mixflow-0/start.json");
    let said = std::fs::read_to_string(&file).unwrap();
    let hash = place.json("run/mixflow-0/start.json")["files"][0]["sha256"].as_str().unwrap().to_string();
    std::fs::write(&file, said.replace(&hash, &"0".repeat(64))).unwrap();
    place.refuse(&again, &["weights with the SHA-256 0000000000000000…", &format!("now has {}…", &hash[..16])]);
}

#[test]
fn what_a_start_has_seen_is_in_the_report() {
    let place = place();
    let compare = ["compare", "tiny.json", "--set", COMPARISON, "--from"];
    let notes = |out: &str| place.json(&format!("{out}/results.json"))["report"]["notes"].to_string();
    place.run(&[&compare[..], &["first", "--out", "after"]].concat());
    // It has read 16 images of 1,797.
    assert!(notes("after").contains("not trained on any of the 20 images"), "{}", notes("after"));
    assert!(notes("after").contains("2 steps of 8 examples at the constant rate 0.0001"), "{}", notes("after"));
    place.run(&["train", "tiny.json", "--out", "whole", "--set", COMPARISON]);
    place.run(&[&compare[..], &["whole", "--out", "apart"]].concat());
    assert!(notes("apart").contains("not trained on any of the 20 images"), "{}", notes("apart"));
    std::fs::copy(place.path("first/model.safetensors"), place.path("alone.safetensors")).unwrap();
    place.run(&[&compare[..], &["alone.safetensors", "--out", "unknown"]].concat());
    assert!(notes("unknown").contains("is not known"), "{}", notes("unknown"));
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_written_and_planned_all_the_same() {
    let place = place();
    let wide = ["tiny.json", "--set", "network.width=1000000"];
    for command in [&["train"][..], &["compare", "--from", "first", "--set", COMPARISON]] {
        place.refuse(
            &[command, &wide, &["--out", "run"]].concat(),
            &["parameters keeps at least", "TB in memory", "`plan`"],
        );
    }
    assert!(!place.path("run").exists());
    assert!(place.run(&[&["plan", "--device", "h100"][..], &wide].concat()).contains("parameters"));
    place.refuse(&["plan", "tiny.json", "--set", "network.width=1000000000000"], &["more than can be counted"]);
}

mod with_hub {
    use std::fs;

    use super::*;
    use crate::COMMIT;

    #[test]
    fn a_training_starts_from_a_repository_and_its_card_says_so() {
        let place = place();
        let [weights, config] = ["first/model.safetensors", "first/recipe.json"].map(|name| place.path(name));
        place.cache("sit", &[("model.safetensors", &weights), ("config.json", &config)]);
        let from = format!("hf://org/sit@{COMMIT}/model.safetensors");
        for (given, out) in
            [("hf://org/sit", "branch"), ("hf://org/sit@main/model.safetensors", "file"), (&from, "pinned")]
        {
            let told = place.told(&["train", "tiny.json", "--from", given, "--out", out]);
            assert!(told.contains(&format!("starting from {from}\n")), "{told}");
            let start = place.json(&format!("{out}/start.json"));
            assert_eq!((&start["repository"], &start["commit"]), (&json!("org/sit"), &json!(COMMIT)));
            let model = |run: &str| fs::read(place.path(run).join("model.safetensors")).unwrap();
            if out == "branch" {
                place.run(&["train", "tiny.json", "--from", "first", "--out", "local"]);
            }
            assert_eq!(model(out), model("local"));
        }
        let cached = place.path("hub/models--org--sit/snapshots").join(COMMIT).join("model.safetensors");
        place.run(&[
            "compare",
            "tiny.json",
            "--from",
            cached.to_str().unwrap(),
            "--set",
            COMPARISON,
            "--out",
            "compared",
        ]);
        assert_eq!(place.json("compared/start.json"), place.json("pinned/start.json"));
        place.run(&["publish", "compared", "--to", "org/ours", "--no-samples", "--dry-run"]);
        let card = fs::read_to_string(place.path("compared/published/README.md")).unwrap();
        assert!(card.contains("base_model:\n  - org/sit\n") && card.contains(COMMIT), "{card}");

        let output = place.call(&["train", "tiny.json", "--from", "hf://org/none", "--out", "none"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains("org/none") && told.contains("HF_HUB_OFFLINE"), "{told}");
        assert!(!place.path("none").exists());
    }

    #[test]
    fn a_network_is_sampled_and_measured_by_its_address() {
        let place = place();
        let [weights, config] = ["first/model.safetensors", "first/recipe.json"].map(|name| place.path(name));
        place.cache("sit", &[("model.safetensors", &weights), ("config.json", &config)]);
        place.run(&["sample", "hf://org/sit", "--count", "4", "--out", "hub.npz"]);
        place.run(&["sample", "first", "--count", "4", "--out", "run.npz"]);
        assert_eq!(fs::read(place.path("hub.npz")).unwrap(), fs::read(place.path("run.npz")).unwrap());
        // What is found out is the user's, and nothing is written to the cache.
        place.run(&["eval", "hf://org/sit@main", "--images", "16"]);
        assert_eq!(place.json("eval.json")["weights"]["sha256"], {
            place.run(&["eval", "first", "--images", "16"]);
            place.json("first/eval.json")["weights"]["sha256"].clone()
        });
        let snapshot = place.path("hub/models--org--sit/snapshots").join(COMMIT);
        assert_eq!(crate::names(&snapshot), ["config.json", "model.safetensors"]);
    }

    #[test]
    fn a_downloaded_recipe_names_files_of_its_own_folder_only() {
        let place = place();
        let own = place.path("second/model.safetensors");
        for (guide, allowed) in [
            (own.to_str().unwrap(), false),
            ("../../../../second/model.safetensors", false),
            ("weak.safetensors", true),
        ] {
            let mut recipe = recipe();
            recipe["sampling"]["guidance"] = json!({ "scale": 2.0 });
            recipe["sampling"]["guide"] = json!({ "network": recipe["network"], "weights": guide });
            fs::write(place.path("config.json"), recipe.to_string()).unwrap();
            let files =
                [("model.safetensors", "first/model.safetensors"), ("weak.safetensors", "second/model.safetensors")];
            let [network, weak] = files.map(|(name, file)| (name, place.path(file)));
            let config = place.path("config.json");
            place.cache("sit", &[(network.0, &network.1), (weak.0, &weak.1), ("config.json", &config)]);
            let sample = ["sample", "hf://org/sit", "--count", "2", "--out", "hub.npz", "--force"];
            let told = String::from_utf8(place.call(&sample).stderr).unwrap();
            assert_eq!(told.contains("which is not in the repository"), !allowed, "{guide}: {told}");
            assert_eq!(told.contains("error"), !allowed, "{guide}: {told}");
            // What the user names is the user's.
            if allowed {
                place.run(&[&sample[..], &["--guide", "second"]].concat());
            }
        }
    }

    #[test]
    fn who_draws_needs_no_encoder_that_a_training_was_aligned_with() {
        let place = crate::encode::place();
        place.cache("dino", &[("encoder.safetensors", &place.path("encoder.safetensors"))]);
        let weights = "hf://org/dino/encoder.safetensors";
        let recipe = json!({
            "name": "aligned",
            "data": { "kind": "folder", "path": "photos", "size": 16 },
            "target_encoder": { "kind": "file", "encoder": place.json("encoder.json"), "weights": weights },
            "network": {
                "kind": "repa", "input_size": 16, "patch": 8, "channels": 3, "width": 16, "depth": 2, "heads": 2, "hidden": 32,
                "classes": 2, "encoder_depth": 1, "projectors": [16], "projector_hidden": 16
            },
            "objective": { "alignment": {} },
            "training": { "steps": 2, "batch": 4 },
            "sampling": { "solver": { "kind": "euler" }, "grid": { "steps": 2 } }
        });
        fs::write(place.path("aligned.json"), recipe.to_string()).unwrap();
        place.run(&["train", "aligned.json", "--out", "run"]);
        place.run(&["publish", "run", "--to", "org/ours", "--no-samples", "--dry-run"]);
        let [network, config] = ["model.safetensors", "config.json"].map(|name| place.path("run/published").join(name));
        place.cache("ours", &[("model.safetensors", &network), ("config.json", &config)]);
        fs::remove_dir_all(place.path("hub/models--org--dino")).unwrap();
        for (path, out) in [("run", "run.npz"), ("hf://org/ours", "hub.npz")] {
            place.run(&["sample", path, "--count", "2", "--out", out]);
        }
        assert_eq!(fs::read(place.path("run.npz")).unwrap(), fs::read(place.path("hub.npz")).unwrap());
        // Who trains does.
        let more = ["train", "aligned.json", "--out", "run", "--resume", "--set", "training.steps=3"];
        place.refuse(&more, &["org/dino"]);
    }

    #[test]
    fn a_run_that_goes_on_keeps_the_commits_of_its_files() {
        let place = crate::encode::place();
        crate::encode::encode(&place, "photos", "cache", &[]);
        place.cache("vae", &[("vae.safetensors", &place.path("vae.safetensors"))]);
        let weights = "hf://org/vae/vae.safetensors";
        let autoencoder = json!({ "kind": "kl", "network": place.json("vae.json"), "weights": weights });
        let mut recipe = recipe();
        recipe["data"] = json!({ "kind": "latents", "path": "cache" });
        recipe["autoencoder"] = autoencoder;
        recipe["training"]["batch"] = json!(2);
        for (key, value) in [("patch", 2), ("channels", 4), ("classes", 2)] {
            recipe["network"][key] = json!(value);
        }
        fs::write(place.path("tiny.json"), recipe.to_string()).unwrap();
        let train = ["train", "tiny.json", "--out", "run"];
        place.run(&train);
        let pinned = format!("hf://org/vae@{COMMIT}/vae.safetensors");
        assert_eq!(place.json("run/recipe.json")["autoencoder"]["weights"], pinned);
        // Since then another card was written, and then other weights.
        for (steps, commit, file) in [("3", "1", "vae.safetensors"), ("4", "2", "encoder.safetensors")] {
            place.cache_at(&commit.repeat(40), "vae", &[("vae.safetensors", &place.path(file))]);
            place.run(&[&train[..], &["--resume", "--set", &format!("training.steps={steps}")]].concat());
            assert_eq!(place.json("run/recipe.json")["autoencoder"]["weights"], pinned);
        }
        // A commit that is asked for is taken where it holds the same.
        let weights = |commit: &str| format!("autoencoder.weights=hf://org/vae@{}/vae.safetensors", commit.repeat(40));
        let again = [&train[..], &["--resume", "--set", "training.steps=5", "--set"]].concat();
        place.run(&[&again[..], &[&weights("1")]].concat());
        place.refuse(&[&again[..], &[&weights("2")]].concat(), &["were made by", "but the recipe's autoencoder is"]);
    }

    #[test]
    fn a_guide_of_the_hub_is_pinned_in_the_run() {
        let place = place();
        place.cache("weak", &[("weak.safetensors", &place.path("second/model.safetensors"))]);
        let mut recipe = recipe();
        recipe["sampling"]["guidance"] = json!({ "scale": 2.0 });
        recipe["sampling"]["guide"] =
            json!({ "network": recipe["network"], "weights": "hf://org/weak/weak.safetensors" });
        fs::write(place.path("tiny.json"), recipe.to_string()).unwrap();
        place.run(&["train", "tiny.json", "--out", "run"]);
        let pinned = format!("hf://org/weak@{COMMIT}/weak.safetensors");
        assert_eq!(place.json("run/recipe.json")["sampling"]["guide"]["weights"], pinned);
        place.run(&["sample", "run", "--count", "4", "--out", "hub.npz"]);
        let another = r#"sampling.guide.weights="hf://org/none/weak.safetensors""#;
        place.refuse(&["train", "tiny.json", "--out", "run", "--set", another], &["run holds a run already"]);
        place.run(&["sample", "run", "--count", "4", "--guide", "second", "--out", "run.npz"]);
        assert_eq!(fs::read(place.path("hub.npz")).unwrap(), fs::read(place.path("run.npz")).unwrap());
        place.run(&["train", "tiny.json", "--out", "run", "--resume", "--set", "training.steps=3"]);
        place.run(&["publish", "run", "--to", "org/ours", "--dry-run"]);
        assert_eq!(place.json("run/published/config.json")["sampling"]["guide"]["weights"], pinned);
        assert!(place.path("run/published/samples.png").is_file());
    }
}
