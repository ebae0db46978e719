use serde_json::json;

use super::*;

/// The autoencoder of a recipe, tiny and trained for so many steps.
pub(super) fn trained(steps: u64) -> Recipe {
    let autoencoder = json!({
        "kind": "trained-rae",
        "encoder": {
            "architecture": "dinov2", "channels": 1, "input_size": 16, "table_size": 16, "patch": 8,
            "width": 8, "depth": 1, "heads": 2, "hidden": 16, "normalisation": "symmetric"
        },
        "decoder": { "features": 8, "grid": 2, "patch": 8, "channels": 1, "width": 8, "depth": 1, "heads": 2, "hidden": 16 },
        "training": { "steps": steps, "batch": 4, "noise": 0.1, "seed": 0, "optimizer": {} },
    });
    let network = json!({ "kind": "sit", "input_size": 2, "patch": 1, "channels": 8, "width": 8, "depth": 1, "heads": 2,
        "hidden": 16, "classes": 10 });
    let set = ["data.size=16".to_string(), format!("autoencoder={autoencoder}"), format!("network={network}")];
    Recipe::read("digits", &set).unwrap()
}

#[test]
fn a_folder_is_for_the_recipe_that_it_was_taken_for() {
    let [digits, shapes] = ["digits", "shapes"].map(|name| Recipe::read(name, &[]).unwrap());
    let root = tempfile::tempdir().unwrap();
    let folder = RunFolder::begin(&root.path().join("run"), digits.to_value()).unwrap();
    let (device, stop) = (Device::default(), AtomicBool::new(false));
    let error = Launch::new(&shapes, &device, &stop).check(folder, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("for another recipe than shapes"), "{error}");
    assert!(!root.path().join("run").exists(), "nothing is left");
}

#[test]
fn images_that_cannot_be_drawn_are_refused_before_anything_is_written() {
    let (root, device, stop) = (tempfile::tempdir().unwrap(), Device::default(), AtomicBool::new(false));
    let run = root.path().join("run");
    for (validation, words) in [
        (
            r#"{"every":1,"labels":["ten"]}"#,
            "digits: validation names a label that is none: ten is no class; there are 0,",
        ),
        (
            r#"{"every":1,"skip_layers":{"blocks":[99],"scale":1,"steps":[0,1]}}"#,
            "digits: validation.skip_layers cannot be used: ",
        ),
    ] {
        let set = [format!("validation={validation}"), "post_training=null".into()];
        let recipe = Recipe::read("digits", &set).unwrap();
        let folder = RunFolder::begin(&run, recipe.to_value()).unwrap();
        let error = Launch::new(&recipe, &device, &stop).check(folder, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!run.exists());
    }
}

#[test]
fn files_that_are_not_there_are_told_before_anything_is_written() {
    let (root, device, stop) = (tempfile::tempdir().unwrap(), Device::default(), AtomicBool::new(false));
    let run = root.path().join("run");
    let autoencoder = r#"autoencoder={"kind":"kl","network":{"image_channels":1,"latent_channels":1,"widths":[8,8],"depth":1,
        "groups":4,"quant_conv":false,"scale":1.0},"weights":"nowhere.pt"}"#;
    let set = ["post_training=null", "data.size=16", "network.input_size=8", autoencoder].map(String::from);
    let recipe = Recipe::read("digits", &set).unwrap();
    let folder = RunFolder::begin(&run, recipe.to_value()).unwrap();
    let error = Launch::new(&recipe, &device, &stop).check(folder, &mut |_| {}).unwrap_err().to_string();
    assert!(error.starts_with("cannot read nowhere.pt"), "{error}");
    assert!(!run.exists());
}

/// What a run with an autoencoder of its own encodes is told and can be stopped between batches; it goes on to the weights that it
/// comes to without that.
#[test]
fn a_run_that_encodes_its_images_can_be_stopped() {
    let (root, device) = (tempfile::tempdir().unwrap(), Device::default());
    let compared = trained(1);
    let alone =
        compared.with(&["post_training=null", "training.steps=2", "training.batch=4"].map(String::from)).unwrap();
    // How it ended, the parts that were begun, and how far the last one was.
    let run = |recipe: &Recipe, name: &str, most: u64| {
        let (stop, path) = (AtomicBool::new(false), root.path().join(name));
        let folder = match path.join("recipe.json").exists() {
            true => RunFolder::resume(&path, recipe.to_value(), &[]).unwrap(),
            false => RunFolder::begin(&path, recipe.to_value()).unwrap(),
        };
        let (mut parts, mut images) = (vec![], 0);
        let ready = Launch::new(recipe, &device, &stop).check(folder, &mut |_| {}).unwrap();
        let finish = ready.run(&mut |event| match event {
            Progress::Begin(part, count) => parts.push((part.to_string(), count)),
            Progress::Images(done) => {
                images = done;
                stop.store(done >= most, std::sync::atomic::Ordering::Relaxed);
            }
            _ => {}
        });
        (finish.unwrap(), parts.split_off(1), images)
    };
    let weights = |finish: Option<Finish>| match finish {
        Some(Finish::Trained(file)) => std::fs::read(file).unwrap(),
        other => panic!("{other:?}"),
    };
    let (whole, parts, images) = run(&alone, "whole", u64::MAX);
    let encoding = ("encoding".to_string(), Some(1797));
    assert_eq!((&parts[..], images), (&[encoding.clone(), ("digits".into(), Some(2))][..], 1797));
    let (stopped, parts, images) = run(&alone, "stopped", 100);
    assert_eq!((stopped.is_none(), &parts[..], images), (true, &[encoding][..], 100));
    assert!(weights(run(&alone, "stopped", u64::MAX).0) == weights(whole));
    // What is there is not encoded again.
    assert_eq!(run(&alone, "stopped", 0).1.len(), 1);

    let (stopped, parts, images) = run(&compared, "compared", 50);
    let count = 1797 - compared.post_training.as_ref().unwrap().images as u64;
    assert_eq!((stopped.is_none(), parts, images), (true, vec![("encoding".into(), Some(count))], 50));
}

#[test]
fn the_optimiser_is_changed_while_the_autoencoder_is_in_training() {
    let (root, device) = (tempfile::tempdir().unwrap(), Device::default());
    let set = ["post_training=null", "training.steps=2", "training.batch=4"].map(String::from);
    let recipe = trained(4).with(&set).unwrap();
    let run = |folder: RunFolder, recipe: &Recipe, most: u64| {
        let stop = AtomicBool::new(false);
        let ready = Launch::new(recipe, &device, &stop).check(folder, &mut |_| {}).unwrap();
        let finish = ready.run(&mut |event| {
            if let Progress::Training { event: Event::Stepped(report), .. } = event {
                stop.store(report.step == most, std::sync::atomic::Ordering::Relaxed);
            }
        });
        finish.map(|finish| finish.is_some())
    };
    let path = root.path().join("run");
    assert!(!run(RunFolder::begin(&path, recipe.to_value()).unwrap(), &recipe, 2).unwrap());
    let clipped = recipe.with(&["training.optimizer.clip=0.25".into()]).unwrap();
    let keys = ["training.optimizer.clip".to_string()];
    assert!(run(RunFolder::resume(&path, clipped.to_value(), &keys).unwrap(), &clipped, 9).unwrap());
    let kept: Value = serde_json::from_slice(&std::fs::read(path.join("recipe.json")).unwrap()).unwrap();
    assert_eq!(kept["training"]["optimizer"]["clip"], 0.25);
}
