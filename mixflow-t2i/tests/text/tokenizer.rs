//! Numbers of tokens.

use mixflow_t2i::text::Tokenizer;
use serde_json::{Value, json};

use crate::pipeline::{fixture_file, fixture_json, write_clip_vocabulary};

/// The recorded texts, and the numbers of their tokens under `key`.
fn recorded(key: &str) -> Vec<(String, Vec<u32>)> {
    let cases = fixture_json("tokenizers")["cases"].clone();
    let numbers = |case: &Value| serde_json::from_value(case[key].clone()).expect("numbers");
    let text = |case: &Value| case["text"].as_str().expect("a text").to_string();
    cases.as_array().expect("cases").iter().map(|case| (text(case), numbers(case))).collect()
}

#[test]
fn numbers_of_tokens_are_the_official_ones() {
    let end = "<|endoftext|>";
    let (clip, t5) = (fixture_file("tokenizer_clip"), fixture_file("tokenizer_t5"));
    let from_json = |json, padding, length| {
        Tokenizer::from_json(json, padding).and_then(|t| t.with_length(length)).expect("a tokenizer")
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = |padding: Value| {
        write_clip_vocabulary(folder.path(), &padding);
        Tokenizer::from_folder(folder.path()).expect("a tokenizer")
    };
    for (key, tokenizer) in [
        ("clip_l", from_json(&clip, end, 20)),
        ("clip_g", from_json(&clip, "!", 20)),
        ("clip_l", written(json!({ "content": end, "lstrip": false }))),
        ("clip_g", written(json!("!"))),
        ("t5", from_json(&t5, "<pad>", 24)),
    ] {
        for (text, numbers) in recorded(key) {
            let tokens = tokenizer.encode(&text).expect("any text is tokens");
            assert_eq!(tokens.ids, numbers, "{key}: {text:?}");
        }
    }
}

#[test]
fn what_was_cut_off_is_known() {
    let clip =
        Tokenizer::from_json(fixture_file("tokenizer_clip"), "!").and_then(|t| t.with_length(5)).expect("a tokenizer");
    // Start, "a", "cat", "a", end: the second "cat" does not fit.
    let prompt = "a  CAT a cat é";
    let tokens = clip.encode(prompt).expect("tokens");
    assert_eq!(tokens.cut.map(|start| prompt[start..].trim_start()), Some("cat é"));
    assert_eq!(clip.encode("a cat a").expect("tokens").cut, None);
    assert_eq!(tokens.ids, clip.encode("a cat a").expect("tokens").ids);
}

#[test]
fn damaged_vocabularies_are_refused() {
    let json = fixture_file("tokenizer_t5");
    let error = |result: Result<Tokenizer, mixflow_t2i::Error>| result.expect_err("a fault").to_string();
    assert!(error(Tokenizer::from_json(&json, "[PAD]")).contains("no token `[PAD]`"));
    assert!(error(Tokenizer::from_json(&json[..1000], "<pad>")).contains("EOF"));
    let text = String::from_utf8(json.clone()).expect("text");
    let damaged = text.replace("\"precompiled_charsmap\":\"ALwCAACE", "\"precompiled_charsmap\":\"AAAAAAAA");
    assert!(damaged != text && error(Tokenizer::from_json(damaged, "<pad>")).contains("is damaged"));
    let mut endless: Value = serde_json::from_slice(&json).expect("JSON");
    endless["post_processor"] = Value::Null;
    assert!(error(Tokenizer::from_json(endless.to_string(), "<pad>")).contains("does not end a prompt"));
    let short = Tokenizer::from_json(&json, "<pad>").and_then(|t| t.with_length(1));
    assert!(error(short).contains("at least 2 tokens, not 1"));

    let folder = tempfile::tempdir().expect("a temporary folder");
    for (file, content, complaint) in [
        ("vocab.json", None, "lacks tokenizer.json or vocab.json with merges.txt"),
        ("vocab.json", Some(r#"{ "a": 0, "!": 1 }"#), "vocab.json: has no token `<|startoftext|>`"),
        ("vocab.json", Some(r#"{ "a": -1 }"#), "vocab.json: a: expected a whole number from 0"),
        ("merges.txt", None, "cannot read"),
        ("merges.txt", Some("#version: 0.2\na b c\n"), "merges.txt: line 2: expected two tokens, found `a b c`"),
        ("merges.txt", Some("#version: 0.2\na qqq\n"), "merges.txt: line 2: `qqq` is not in vocab.json"),
        ("tokenizer_config.json", None, "cannot read"),
        ("tokenizer_config.json", Some("{ \"model_max_length\": 2 }"), "at least 3 tokens, not 2"),
        ("tokenizer_config.json", Some("{"), "tokenizer_config.json: the text ends in the middle"),
        ("special_tokens_map.json", Some("{}"), "names no `pad_token`"),
        ("special_tokens_map.json", Some("{ \"pad_token\": \"[PAD]\" }"), "no token `[PAD]`"),
    ] {
        write_clip_vocabulary(folder.path(), &json!("!"));
        let path = folder.path().join(file);
        match content {
            None => std::fs::remove_file(path).expect("a file"),
            Some(content) => std::fs::write(path, content).expect("a file"),
        }
        let error = error(Tokenizer::from_folder(folder.path()));
        assert!(error.contains(complaint), "{file}, {content:?}: {error}");
    }
}
