//! A tiny Stable Diffusion 3 in a folder.

use std::path::Path;

use burn::tensor::Device;
use mixflow_t2i::text::StableDiffusion3Encoders;
use mixflow_tests::Fixture;
use serde_json::{Value, json};

pub(crate) fn fixture_json(name: &str) -> Value {
    serde_json::from_slice(&fixture_file(name)).expect("fixtures are JSON")
}

pub(crate) fn fixture_file(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/text");
    std::fs::read(format!("{folder}/{name}.json")).expect("a fixture")
}

/// Writes CLIP's vocabulary as Stable Diffusion 3 has it, without a `tokenizer.json`, padded with `padding`.
pub(crate) fn write_clip_vocabulary(folder: &Path, padding: &Value) {
    let json = fixture_json("tokenizer_clip");
    let mut vocabulary = json["model"]["vocab"].clone();
    for token in json["added_tokens"].as_array().expect("tokens") {
        vocabulary[token["content"].as_str().expect("a token")] = token["id"].clone();
    }
    let merges = json["model"]["merges"].as_array().expect("merges").iter();
    let merges =
        merges.map(|pair| format!("{} {}\n", pair[0].as_str().expect("left"), pair[1].as_str().expect("right")));
    let merges = format!("#version: 0.2\n{}", merges.collect::<String>());
    std::fs::create_dir_all(folder).expect("a folder");
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("a file");
    write("vocab.json", vocabulary.to_string());
    write("merges.txt", merges);
    write("tokenizer_config.json", json!({ "model_max_length": 20, "tokenizer_class": "CLIPTokenizer" }).to_string());
    write("special_tokens_map.json", json!({ "pad_token": padding }).to_string());
}

/// Writes the recorded pipeline as diffusers does.
pub(crate) fn write_pipeline(folder: &Path) -> Fixture {
    let fixture = Fixture::read("text/sd3_prompt");
    for (padding, name) in [("<|endoftext|>", "tokenizer"), ("!", "tokenizer_2")] {
        write_clip_vocabulary(&folder.join(name), &json!(padding));
    }
    for (name, content) in fixture.manifest["files"].as_object().expect("files") {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content.to_string()).expect("a file");
    }
    std::fs::write(folder.join("tokenizer_3/tokenizer.json"), fixture_file("tokenizer_t5")).expect("a file");
    for name in ["text_encoder", "text_encoder_2", "text_encoder_3"] {
        let path = folder.join(name).join("model.safetensors");
        fixture.weights(&format!("weights.{name}.")).write(path, &[]).expect("a file");
    }
    fixture
}

pub(crate) fn prompts(fixture: &Fixture) -> Vec<&str> {
    fixture.manifest["prompts"].as_array().expect("prompts").iter().map(|text| text.as_str().expect("text")).collect()
}

pub(crate) fn opened(folder: &Path) -> StableDiffusion3Encoders {
    let encoders = StableDiffusion3Encoders::from_folder(folder, &Device::default()).expect("a whole folder");
    encoders.with_t5_length(24).expect("room for tokens")
}
