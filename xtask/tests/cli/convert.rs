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

#[cfg(unix)]
#[test]
fn what_is_ended_while_it_writes_leaves_nothing() {
    let place = Place::new();
    // Sixteen sparse tensors of 256 MiB: more than is written until the signal comes.
    let (count, size) = (16, 1u64 << 28);
    let tensors: serde_json::Map<_, _> = (0..count)
        .map(|i| {
            let tensor = serde_json::json!({
                "dtype": "F32", "shape": [size / 4], "data_offsets": [i * size, (i + 1) * size]
            });
            (format!("weight.{i}"), tensor)
        })
        .collect();
    let header = serde_json::to_vec(&tensors).unwrap();
    let start = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    let source = place.path("source.safetensors");
    fs::write(&source, &start).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&source).unwrap();
    file.set_len(start.len() as u64 + count * size).unwrap();
    for to in ["new.safetensors", "new.pt"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mixflow"));
        let mut process =
            command.args(["convert", "source.safetensors", to]).current_dir(place.path(".")).spawn().unwrap();
        while crate::names(&place.path(".")).len() < 2 {
            assert!(process.try_wait().unwrap().is_none(), "it ended");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args(["-TERM", &process.id().to_string()]).status().unwrap().success());
        assert_eq!(process.wait().unwrap().code(), Some(130));
        assert_eq!(crate::names(&place.path(".")), ["source.safetensors"]);
    }
}
