//! A tiny Z-Image in a folder.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use mixflow::backbones::weights::Weights;
use mixflow_t2i::text::ZImageEncoder;
use mixflow_tests::Fixture;
use serde_json::Value;

/// The values of the parameter that stands at `index` among the sorted names, as `make.py` beside the recorded case draws them.
fn drawn(index: u64, name: &str, shape: &[usize]) -> TensorData {
    let inputs: usize = shape[1..].iter().product();
    let value = |place: u64| {
        let value = ((place * place * 31 + place * 17 + index * 101) % 1009) as f64 / 1009.0 - 0.5;
        match shape.len() {
            1 if name.ends_with("weight") => 1.0 + 0.6 * value,
            1 => 0.6 * value,
            _ => value * (12.0 / inputs as f64).sqrt(),
        }
    };
    let count: usize = shape.iter().product();
    TensorData::new((0..count as u64).map(|place| value(place) as f32).collect::<Vec<_>>(), shape.to_vec())
}

/// Writes the recorded pipeline as `diffusers` does.
pub(crate) fn write_folder(folder: &Path) -> Fixture {
    let fixture = Fixture::read("z_image/pipeline");
    for (name, content) in fixture.manifest["files"].as_object().expect("files") {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("room");
        fs::write(path, content.to_string()).expect("room");
    }
    let vocabulary = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/z_image/tokenizer.json");
    fs::copy(vocabulary, folder.join("tokenizer/tokenizer.json")).expect("room");
    for (part, file) in [
        ("transformer", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
    ] {
        let parameters: Vec<(String, Vec<usize>)> =
            serde_json::from_value(fixture.manifest["parameters"][part].clone()).expect("names and shapes");
        let tensors = (0..).zip(parameters).map(|(index, (name, shape))| {
            let values = drawn(index, &name, &shape);
            (name, values.into())
        });
        tensors.collect::<Weights>().write(folder.join(part).join(file), &[]).expect("room");
    }
    fixture
}

/// Its encoder, with as many tokens as were recorded.
pub(crate) fn encoder(folder: &Path, fixture: &Fixture) -> ZImageEncoder {
    let encoder = ZImageEncoder::from_folder(folder, &Device::default()).expect("a whole folder");
    encoder.with_length(length(fixture)).expect("room for tokens")
}

/// Most tokens of a prompt.
pub(crate) fn length(fixture: &Fixture) -> usize {
    fixture.manifest["length"].as_u64().expect("a number") as usize
}

pub(crate) fn prompts(fixture: &Fixture) -> Vec<String> {
    serde_json::from_value(fixture.manifest["prompts"].clone()).expect("prompts")
}

/// Writes a changed copy of a JSON file.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("room");
}
