//! How to draw with what is published.

use std::fmt::Write;

use mixflow::recipe::NetworkSettings;
use serde_json::Value;

use super::card::Card;
use crate::Address;

impl<N: NetworkSettings> Card<'_, N> {
    /// How to draw in Rust and in a terminal, and how to load the tensors in Python.
    pub(super) fn loading(&self) -> String {
        self.program(&self.address(), None) + &self.elsewhere()
    }

    /// A program that opens the pipeline of a repository, adds the adapter at an address if there is one, and draws; after
    /// the commands that add its crates.
    pub(super) fn program(&self, opened: &str, adapter: Option<&str>) -> String {
        let labels: Vec<usize> = (0..self.finished.recipe.network.classes().min(4)).collect();
        let (crates, [imports, t2i, pipeline, inner, channels], drawn, count) = match self.examples() {
            Some(prompts) => (
                &["mixflow", "mixflow-hub --features t2i", "mixflow-t2i"][..],
                ["Export", "\nuse mixflow_t2i::TextPipeline;", "TextPipeline", "pipeline.pipeline", "3"],
                format!("{prompts:?}"),
                prompts.len(),
            ),
            None => (
                &["mixflow", "mixflow-hub"][..],
                ["{Export, Pipeline}", "", "Pipeline", "pipeline", "pipeline.image_channels()"],
                format!("{labels:?}"),
                labels.len(),
            ),
        };
        let fetch = |address| format!("Client::from_env()?.adapter(&\"hf://{address}\".parse()?, |_| {{}})?");
        let add =
            adapter.map(|address| format!("{inner}.add_adapter({}, 1.0)?;\n", fetch(address))).unwrap_or_default();
        let [hub, mutable] = if adapter.is_some() { ["{Client, FromHub}", "mut "] } else { ["FromHub", ""] };
        let add_crate = |name: &&str| format!("cargo add --git {} {name}\n", env!("CARGO_PKG_REPOSITORY"));
        format!(
            "## Use\n\n```sh\n{}```\n\n```rust\nuse mixflow::{imports};\nuse mixflow_hub::{hub};{t2i}\n\n\
             let {mutable}pipeline = {pipeline}::from_hub(\"{opened}\", &mixflow::device::chosen()?)?;\n{add}\
             let images = pipeline.images(&{drawn}, 0)?;\n\
             Export::new(\"images.png\", {channels})?.write({count}, {count}, [Ok(images)])?;\n```\n",
            crates.iter().map(add_crate).collect::<String>()
        )
    }

    /// The argument of a command that draws the first example, where the network is told prompts.
    pub(super) fn prompt_argument(&self) -> String {
        self.examples().map(|prompts| format!(" --prompt {}", quoted(prompts[0]))).unwrap_or_default()
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

    /// How to draw in a terminal, and how to load the tensors in Python.
    fn elsewhere(&self) -> String {
        let (id, address) = (self.repository.id(), self.address());
        let (more, revision) = (self.prompt_argument(), self.python_revision());
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

/// A word of a command, for a shell that takes `$` and its like in quotation marks for its own.
fn quoted(text: &str) -> String {
    match text.contains(['"', '\\', '$', '`', '!']) || text.contains(char::is_control) {
        false => format!("\"{text}\""),
        true => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
