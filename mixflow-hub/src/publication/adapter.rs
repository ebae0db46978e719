//! A low-rank adapter, published without its network.

use std::fmt::Write;
use std::path::PathBuf;

use mixflow::backbones::lora::{Adapter, LoraConfig};
use mixflow::recipe::{AdapterConfig, NetworkSettings};
use mixflow::schedules::{Prediction, ScheduleConfig};
use serde_json::{Value, json};

use super::card::Card;
use super::finished::Finished;
use super::markdown::links;
use super::{Averaging, Choice};
use crate::Error;

/// Name of the adapter's file, in a run and where it is published.
pub(super) const FILE: &str = Adapter::FILES[0];

/// The adapter that a run has trained, for a network that others can have.
pub(super) fn file<N: NetworkSettings>(finished: &Finished<N>, choice: &Choice) -> Result<PathBuf, Error> {
    let fault = |reason: &str| Error::Layout { folder: finished.folder.clone(), reason: reason.into() };
    let file = finished.folder.join(FILE);
    if finished.recipe.adapter.is_none() || !file.is_file() {
        return Err(fault("has no adapter to publish: it trained all of the network"));
    }
    if choice.averaging == Averaging::Last {
        return Err(fault("has the adapter of the moving average alone, not that of the last step"));
    }
    if choice.base_models.is_empty() {
        return Err(fault(
            "trained an adapter for weights of which it does not say where they are: name the base model",
        ));
    }
    Adapter::read(&file)?;
    Ok(file)
}

impl<N: NetworkSettings> Card<'_, N> {
    /// Rank and targets of the adapter, if it alone is published.
    pub(super) fn adapter(&self) -> Option<&LoraConfig> {
        let AdapterConfig::Lora(lora) = self.finished.recipe.adapter.as_ref().filter(|_| self.choice.adapter)?;
        Some(lora)
    }

    /// Whether `diffusers` has the network that the adapter is for, and takes what it predicts.
    fn is_of_diffusers(&self) -> bool {
        let recipe = &self.finished.recipe;
        let network = &recipe.to_value()["network"];
        let transformer = network["transformer"]["kind"].as_str().unwrap_or("mm-dit");
        // With the direction of their times.
        let known = [("mm-dit", "stable-diffusion-3", true), ("flux", "flux-1", true), ("z-image", "z-image", false)];
        let objective = (recipe.objective.schedule, recipe.objective.prediction);
        known.into_iter().any(|(kind, text, reversed)| {
            transformer == kind
                && network["text"]["kind"] == text
                && objective == (ScheduleConfig::Linear { reversed, noise: 1.0 }, Prediction::Velocity)
        })
    }

    /// What the Hub shows adapters by. Trigger words are those of a training that knew nothing else.
    pub(super) fn add_adapter_metadata(&self, metadata: &mut Value) {
        metadata["base_model_relation"] = "adapter".into();
        let mut tags = vec!["lora"];
        if self.is_of_diffusers() {
            metadata["library_name"] = "diffusers".into();
            tags.extend(["diffusers", "template:diffusion-lora"]);
        }
        if let Some(known) = metadata["tags"].as_array_mut() {
            let new = tags.iter().filter(|tag| !known.contains(&json!(tag))).map(|tag| json!(tag)).collect::<Vec<_>>();
            known.extend(new);
        }
        if let Some([only]) = self.finished.prompts(2).as_deref() {
            metadata["instance_prompt"] = only.as_str().into();
        }
    }

    /// The sentence of a card that says what the adapter is.
    pub(super) fn adapter_is(&self, lora: &LoraConfig) -> String {
        let targets = match &lora.targets[..] {
            [] => "the layers of attention".into(),
            targets => targets.iter().map(|target| format!("`{target}`")).collect::<Vec<_>>().join(", "),
        };
        format!(
            "A low-rank adapter (LoRA) of rank {} and scale {} at {targets}, for the {} of {}. That network is not in it: it",
            lora.rank,
            lora.scale(),
            self.finished.recipe.network.name(),
            links(&self.choice.base_models, ""),
        )
    }

    /// The repository of its network, with the folder of that where the repository holds several.
    fn base(&self) -> String {
        let base = self.choice.base_models[0].id();
        let start = self.finished.start.as_ref().filter(|start| start.repository.as_deref() == Some(base));
        let file = start.and_then(|start| start.files.first()?.file.to_str());
        let width = &self.finished.recipe.to_value()["network"]["transformer"]["width"];
        let folder = match file.and_then(|file| file.split_once("/transformer/")) {
            Some((folder, _)) => Some(folder),
            // The official repository of MiniT2I, whose networks differ in width.
            None if base == "MiniT2I/MiniT2I" && *width == 768 => Some("minit2i-b-16"),
            None if base == "MiniT2I/MiniT2I" && *width == 1248 => Some("minit2i-l-16"),
            None => None,
        };
        folder.map_or_else(|| base.into(), |folder| format!("{base}/{folder}"))
    }

    /// How to add it to its network, in Rust, in a terminal, and in Python.
    pub(super) fn adapter_loading(&self) -> String {
        let (base, address) = (self.base(), self.address());
        let mut text = self.program(&base, Some(&address));
        let _ = write!(
            text,
            "\nOr in a clone of mixflow, at half its strength with `=0.5` behind the address:\n\n```sh\ncargo xtask sample hf://{base} \
             --adapter hf://{address}{} --out images.png\n```\n",
            self.prompt_argument(),
        );
        let (id, revision) = (self.repository.id(), self.python_revision());
        if self.is_of_diffusers() {
            let _ = write!(
                text,
                "\nIn Python:\n\n```python\nfrom diffusers import AutoPipelineForText2Image\n\n\
                 pipeline = AutoPipelineForText2Image.from_pretrained(\"{base}\").to(\"cuda\")\n\
                 pipeline.load_lora_weights(\"{id}\", weight_name=\"{FILE}\"{revision})\n```\n"
            );
        } else {
            let _ = write!(
                text,
                "\nThe factors in Python, under the names of `peft`:\n\n```python\nfrom huggingface_hub import \
                 hf_hub_download\nfrom safetensors.torch import load_file\n\n\
                 factors = load_file(hf_hub_download(\"{id}\", \"{FILE}\"{revision}))\n```\n"
            );
        }
        text
    }
}
