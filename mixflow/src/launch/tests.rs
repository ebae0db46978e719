use super::*;

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
