//! CLIP's tokenizer from the files that were published with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::config;
use crate::Error;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// The `tokenizer.json` that Transformers makes of the `vocab.json` and `merges.txt` of a folder.
///
/// # Source
/// Hugging Face Transformers 4.56.2, `convert_slow_tokenizer.py`, `CLIPConverter`.
pub(super) fn read(folder: &Path) -> Result<Value, Error> {
    let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    if !vocabulary.exists() {
        let names = ["tokenizer.json", "vocab.json with merges.txt"].map(String::from).to_vec();
        return Err(Error::Missing { folder: folder.into(), names });
    }
    let vocab: BTreeMap<String, u32> = config::read(&vocabulary)?;
    let number = |token: &str| {
        vocab.get(token).copied().ok_or_else(|| Error::tokenizer(&vocabulary, format!("has no token `{token}`")))
    };
    let (start, end) = (number(START)?, number(END)?);
    let text = fs::read_to_string(&merges).map_err(Error::reading(&merges))?;
    let pairs = text.lines().zip(1..).filter(|(line, _)| !line.starts_with("#version") && !line.trim().is_empty());
    let pairs: Vec<[&str; 2]> = pairs
        .map(|(line, number)| {
            let fault = |reason: String| Error::tokenizer(&merges, format!("line {number}: {reason}"));
            let [left, right] = line.split(' ').collect::<Vec<_>>()[..] else {
                return Err(fault(format!("expected two tokens, found `{line}`")));
            };
            match [left, right, &format!("{left}{right}")].iter().find(|token| !vocab.contains_key(**token)) {
                Some(token) => Err(fault(format!("`{token}` is not in vocab.json"))),
                None => Ok([left, right]),
            }
        })
        .collect::<Result<_, _>>()?;
    let special = |id, content| {
        json!({ "id": id, "content": content, "special": true, "normalized": true,
        "single_word": false, "lstrip": false, "rstrip": false })
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": [special(start, START), special(end, END)],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            {
                "type": "Split",
                "pattern": { "Regex": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+" },
                "behavior": "Removed",
                "invert": true,
            },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true },
        ] },
        "post_processor": {
            "type": "RobertaProcessing", "sep": [END, end], "cls": [START, start],
            "trim_offsets": false, "add_prefix_space": false,
        },
        "model": {
            "type": "BPE", "unk_token": END, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "vocab": vocab, "merges": pairs,
        },
    }))
}
