//! `convert`: formats and names change, values do not.

use std::fs;
use std::path::Path;

use crate::Place;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
    path.to_str().unwrap().into()
}

#[test]
fn the_way_to_another_format_and_back_changes_nothing() {
    let place = Place::new();
    for (part, file) in [("ema", "nested.ema"), ("model", "nested.model")] {
        let [there, back, again] =
            ["there.safetensors", "back.pt", "again.safetensors"].map(|end| format!("{part}-{end}"));
        let told = place.run(&["convert", &fixture("pt/nested.pt"), &there, "--part", part]);
        let said = if part == "model" { "part `model`, names without `module.`" } else { "part `ema`" };
        assert!(told.contains(&format!("nested.pt, {said}, to {there}")), "{told}");
        place.run(&["convert", &there, &back]);
        place.run(&["convert", &back, &again]);
        let read = |name: &str| fs::read(place.path(name)).unwrap();
        assert!(read(&there) == read(&again));
        let expected = format!("{part}-expected.safetensors");
        place.run(&["convert", &fixture(&format!("pt/{file}.safetensors")), &expected]);
        assert!(read(&there) == read(&expected));
    }
}

#[test]
fn what_cannot_be_converted_is_named_and_nothing_is_lost() {
    let place = Place::new();
    let nested = fixture("pt/nested.pt");
    fs::write(place.path("there.safetensors"), "mine").unwrap();
    place.refuse(&["convert", &nested, "there.safetensors"], &["there.safetensors is there", "--force"]);
    place.refuse(&["convert", &nested, "there.onnx"], &[".safetensors nor in .pt"]);
    place.refuse(&["convert", "missing.pt", "new.pt"], &["cannot read missing.pt"]);
    place.refuse(&["convert", &nested, "new.pt", "--names", "diffusers"], &["holds no autoencoder", "--names"]);
    place.refuse(&["convert", &nested, "missing/new.pt"], &["cannot write missing/new.pt"]);
    place.refuse(&["convert", &fixture("pt/bare.pt"), "new.pt", "--part", "ema"], &["has no part ema"]);
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(place.path("there.safetensors")).unwrap(), "mine");
    place.run(&["convert", &nested, "there.safetensors", "--force"]);
    assert!(fs::read(place.path("there.safetensors")).unwrap().len() > 100);
}

#[test]
fn one_of_several_networks_is_chosen_by_its_prefix() {
    let place = Place::new();
    let file = fixture("pt/nested.model.safetensors");
    let told = place.run(&["convert", &file, "linear.pt", "--prefix", "final_layer.linear."]);
    assert!(told.contains("2 tensors") && told.contains("names without `final_layer.linear.`"), "{told}");
    assert!(told.contains("without 2 tensors of others (pos_embed, x_embedder.proj.weight)"), "{told}");
    place.refuse(
        &["convert", &file, "other.pt", "--prefix", "ema."],
        &["has no tensor whose name starts with \"ema.\"", "final_layer.linear.bias"],
    );
}
