//! The text encoders of a repository.

use std::path::PathBuf;

use super::below::Below;
use crate::progress::Progress;
use crate::{Address, Client, Error, TransferProgress};

/// The key of a recipe that names the folder of its text encoders.
pub(crate) const ENCODER: &str = "network.text.folder";

/// Where encoders and their vocabularies lie in a folder of `diffusers`.
const PARTS: [&str; 6] =
    ["text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"];

impl Client {
    /// The text encoders at an address, `hf://org/name` or a folder of it: those in `text_encoder`, `tokenizer` and so on, or
    /// the one whose files lie there, as in `google/flan-t5-large`. With the address of their commit, which is what to keep, and
    /// their folder on this machine.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot); and if there is no text encoder.
    pub fn text_encoders(
        &self,
        address: &Address,
        mut progress: impl FnMut(TransferProgress<'_>) + Send,
    ) -> Result<(Address, PathBuf), Error> {
        let progress: Progress<'_> = &mut progress;
        let choose = |names: &[String]| {
            let below = Below::of(address, names)?;
            let files = encoder_files(&below.names);
            if files.is_empty() {
                let expected = "text_encoder with tokenizer, or config.json with model.safetensors";
                let reason = format!("has no text encoder: expected {expected}; found {}", below.list());
                return Err(self.unknown(&address.repository, reason));
            }
            let wanted = below.with_folder(files);
            Ok((below, wanted))
        };
        let (below, snapshot) = self.chosen(address, choose, progress)?;
        Ok((address.clone().at(snapshot.commit), below.path(&snapshot.folder)))
    }
}

/// The files of text encoders among these names; none where there are none.
fn encoder_files(names: &[String]) -> Vec<&str> {
    let own = |name: &&str| !name.contains('/');
    let names = || names.iter().map(String::as_str);
    if names().any(|name| name.starts_with("text_encoder/")) {
        return PARTS.iter().flat_map(|part| read_of(in_folder(names(), part))).collect();
    }
    let files = read_of(names().filter(own).collect());
    let whole = files.contains(&"config.json") && files.iter().any(|name| is_weights(name));
    if whole { files } else { vec![] }
}

/// The names that lie in a folder.
pub(super) fn in_folder<'a>(names: impl Iterator<Item = &'a str>, folder: &str) -> Vec<&'a str> {
    names.filter(|name| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))).collect()
}

/// The files of a part that are read: settings and weights, of these not those in half precision where there are others.
pub(super) fn read_of(files: Vec<&str>) -> Vec<&str> {
    let is_half = |name: &str| name.contains(".fp16");
    let whole = files.iter().any(|name| is_weights(name) && name.ends_with(".safetensors") && !is_half(name));
    let wanted = |name: &&str| match is_weights(name) {
        true => !(whole && is_half(name)),
        false => name.ends_with(".json") || name.ends_with(".txt"),
    };
    files.into_iter().filter(wanted).collect()
}

fn is_weights(name: &str) -> bool {
    name.contains(".safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn of_text_encoders_what_is_read_is_fetched() {
        // As in `google/flan-t5-large`.
        let own = owned(&[
            ".gitattributes",
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "generation_config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "special_tokens_map.json",
            "spiece.model",
            "tf_model.h5",
            "tokenizer.json",
            "tokenizer_config.json",
        ]);
        assert_eq!(
            encoder_files(&own),
            [
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "special_tokens_map.json",
                "tokenizer.json",
                "tokenizer_config.json"
            ]
        );
        let parts = owned(&[
            "config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/tokenizer.json",
            "transformer/config.json",
        ]);
        assert_eq!(encoder_files(&parts), [&parts[1], &parts[2], &parts[3]]);
        for none in [owned(&["config.json", "README.md"]), owned(&["model.safetensors"]), vec![]] {
            assert!(encoder_files(&none).is_empty());
        }
    }
}
