//! What cannot be published, in a sentence each.

use std::fs;
use std::path::PathBuf;

use mixflow::Device;
use mixflow_hub::{Choice, Publication, SampleImages};
use serde_json::json;

use super::{names, plain, read, train, written};

#[test]
fn what_is_no_finished_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let complaint = |choice: Choice| Publication::of(&run, choice, &Device::default()).unwrap_err().to_string();
    assert!(complaint(plain()).contains("expected that of a run"));
    fs::create_dir(&run).unwrap();
    assert!(complaint(plain()).contains("has no recipe.json"));
    train(&run, json!({}));
    assert!(complaint(Choice { arm: Some("mixflow-0".into()), ..plain() }).contains("none called mixflow-0"));

    // Half-written, in the ways in which a run can be.
    let mut recipe = read(&run.join("recipe.json"));
    recipe["training"]["steps"] = json!(9);
    fs::write(run.join("recipe.json"), recipe.to_string()).unwrap();
    let error = complaint(plain());
    assert!(error.contains("stands at step 3 of 9") && error.contains("--resume"), "{error}");
    recipe["training"]["steps"] = json!(3);
    recipe["post_training"] = json!({ "steps": 3, "gamma": 0.8, "images": 16, "seeds": 2 });
    fs::write(run.join("recipe.json"), recipe.to_string()).unwrap();
    assert!(complaint(plain()).contains("expected mixflow-0/model.safetensors"));
    for arm in ["mixflow-2", "start", "standard", "../run"] {
        let error = complaint(Choice { arm: Some(arm.into()), ..plain() });
        assert!(error.contains("pretraining, standard-N or mixflow-N, with N from 0 to 1"), "{error}");
    }
    recipe["post_training"].take();
    fs::write(run.join("recipe.json"), recipe.to_string()).unwrap();
    fs::write(run.join("model.safetensors"), "short").unwrap();
    assert!(complaint(plain()).contains("model.safetensors"));
    fs::remove_file(run.join("model.safetensors")).unwrap();
    assert!(complaint(plain()).contains("has no weights"));
    recipe["network"]["depth"] = json!(0);
    fs::write(run.join("recipe.json"), recipe.to_string()).unwrap();
    assert!(complaint(plain()).contains("recipe.json: network"));
    fs::write(run.join("recipe.json"), "{\"kind\": \"rae-decoder\"}").unwrap();
    assert!(complaint(plain()).contains("it trains the decoder"));
}

#[test]
fn what_the_hub_would_not_take_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, json!({}));
    for (choice, expected) in [
        (Choice { license: Some("MIT License".into()), ..plain() }, "the licence \"MIT License\" must be a word"),
        (Choice { license: Some(String::new()), ..plain() }, "the licence \"\""),
        (Choice { tags: vec!["a\nb".into()], ..plain() }, "the tag"),
        (
            Choice { samples: SampleImages::Picture(PathBuf::from("missing.png")), ..plain() },
            "missing.png: is no picture",
        ),
        (Choice { samples: SampleImages::Picture(run.join("recipe.json")), ..plain() }, "expected a file .png"),
    ] {
        let error = Publication::of(&run, choice, &Device::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // The licence of Stable Diffusion XL and of what comes of it.
    let choice = Choice { license: Some("openrail++".into()), ..plain() };
    let publication = Publication::of(&run, choice, &Device::default()).unwrap();
    for (repository, branch, expected) in [
        ("sit", "main", "with its owner"),
        ("datasets/org/sit", "main", "must be one of models"),
        ("org/sit", "a b", "the revision"),
        ("org/sit", "0123456789012345678901234567890123456789", "is a commit"),
    ] {
        let next = folder.path().join("next");
        let error = publication.write(&next, &repository.parse().unwrap(), branch, |_| {}).unwrap_err().to_string();
        assert!(error.contains(expected) && !next.exists(), "{error}");
    }
}

#[test]
fn only_a_new_folder_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let [run, public] = ["run", "public"].map(|name| folder.path().join(name));
    train(&run, json!({}));
    fs::create_dir(&public).unwrap();
    assert_eq!(names(&written(&run, &public, plain()).unwrap()), ["README.md", "config.json", "model.safetensors"]);
    let error = written(&run, &public, plain()).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    let error = written(&run, &public.join("README.md"), plain()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read "), "{error}");
    // What fails on the way leaves nothing.
    let picture = folder.path().join("a.png");
    fs::write(&picture, "").unwrap();
    let publication = Publication::of(
        &run,
        Choice { samples: SampleImages::Picture(picture.clone()), ..Choice::default() },
        &Default::default(),
    )
    .unwrap();
    fs::remove_file(picture).unwrap();
    let next = folder.path().join("next");
    assert!(publication.write(&next, &crate::shared::repository(), "main", |_| {}).is_err());
    assert_eq!(crate::shared::names(folder.path()), ["public", "run"]);
}
