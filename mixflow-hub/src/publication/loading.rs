//! How to draw with what is published.

use std::fmt::Write;

use mixflow::recipe::NetworkSettings;
use serde_json::Value;

use super::card::Card;
use crate::Address;

impl<N: NetworkSettings> Card<'_, N> {
    /// How to draw in Rust and in a terminal, and how to load the tensors in Python.
    pub(super) fn loading(&self) -> String {
        let open = format!("from_hub(\"{}\", &mixflow::device::chosen()?)?", self.address());
        if let Some(prompts) = self.examples() {
            let count = prompts.len();
            return format!(
                "{}```rust\nuse mixflow::Export;\nuse mixflow_hub::FromHub;\nuse mixflow_t2i::TextPipeline;\n\n\
                 let pipeline = TextPipeline::{open};\nlet images = pipeline.images(&{prompts:?}, 0)?;\n\
                 Export::new(\"images.png\", 3)?.write({count}, {count}, [Ok(images)])?;\n```\n{}",
                added(&["mixflow", "mixflow-hub --features t2i", "mixflow-t2i"]),
                self.elsewhere(&format!(" --prompt {}", quoted(prompts[0]))),
            );
        }
        let labels: Vec<usize> = (0..self.finished.recipe.network.classes().min(4)).collect();
        let count = labels.len();
        format!(
            "{}```rust\nuse mixflow::{{Export, Pipeline}};\nuse mixflow_hub::FromHub;\n\n\
             let pipeline = Pipeline::{open};\n\
             let images = pipeline.images(&{labels:?}, 0)?;\nExport::new(\"images.png\", pipeline.image_channels())?\
             .write({count}, {count}, [Ok(images)])?;\n```\n{}",
            added(&["mixflow", "mixflow-hub"]),
            self.elsewhere(""),
        )
    }

    /// Prompts to draw, where the network is told prompts: two that it was trained on, or one of ours where the run has not
    /// recorded them.
    pub(super) fn examples(&self) -> Option<Vec<&str>> {
        let known: Vec<&str> = self.finished.prompts(2)?.into_iter().map(String::as_str).collect();
        Some(if known.is_empty() { vec!["a lighthouse at night"] } else { known })
    }

    /// The argument of Python's functions that names the branch, unless that is `main`.
    pub(super) fn python_revision(&self) -> String {
        if self.branch == "main" { String::new() } else { format!(", revision={:?}", self.branch) }
    }

    /// How to draw in a terminal, with a command's further words, and how to load it in Python.
    fn elsewhere(&self, more: &str) -> String {
        let (id, address) = (self.repository.id(), self.address());
        let revision = self.python_revision();
        let mut text = format!(
            "\nOr in a clone of mixflow:\n\n```sh\ncargo xtask sample hf://{address}{more} --out images.png\n```\n\nThe \
             tensors in Python, under the names of the official implementation:\n\n```python\nfrom huggingface_hub import \
             hf_hub_download\nfrom safetensors.torch import load_file\n\nweights = load_file(hf_hub_download(\"{id}\", \
             \"model.safetensors\"{revision}))\n```\n"
        );
        let elsewhere: Vec<&str> =
            self.needed.iter().filter(|file| !file.is_copied()).map(|file| file.name.as_str()).collect();
        if !elsewhere.is_empty() {
            let _ = write!(text, "\nIt fetches from other repositories: {}.\n", elsewhere.join(", "));
        }
        let config: Value = serde_json::from_str(self.config).unwrap_or_default();
        let encoder = &config["network"]["text"];
        let folder = encoder["folder"].as_str().filter(|folder| !Address::is_one(folder));
        if let (Some(kind), Some(folder)) = (encoder["kind"].as_str(), folder) {
            let identity = config["network"]["encoder"].as_str();
            let identity = identity.map_or(String::new(), |identity| {
                format!("; others than those of the identity `{identity}` are refused")
            });
            let _ = write!(
                text,
                "\nPrompts are read by `{kind}`, which is not in this repository: its files are expected in a folder `{folder}` \
                 where the program runs{identity}.\n"
            );
        }
        text
    }
}

/// The commands that add these crates to a program.
pub(super) fn added(crates: &[&str]) -> String {
    let add = |name: &&str| format!("cargo add --git {} {name}\n", env!("CARGO_PKG_REPOSITORY"));
    format!("## Use\n\n```sh\n{}```\n\n", crates.iter().map(add).collect::<String>())
}

/// A word of a command, for a shell that takes `$` and its like in quotation marks for its own.
pub(super) fn quoted(text: &str) -> String {
    match text.contains(['"', '\\', '$', '`', '!']) || text.contains(char::is_control) {
        false => format!("\"{text}\""),
        true => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
