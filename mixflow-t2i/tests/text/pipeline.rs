//! A tiny Stable Diffusion 3 in a folder.

use std::path::Path;

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
