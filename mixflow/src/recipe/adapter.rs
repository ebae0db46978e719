//! What is trained of a network, where it is not all of it.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use mixflow_backbones::lora::{Adapter, LoraConfig};
use mixflow_backbones::weights::Weights;
use mixflow_backbones::{Invalid, Precision};
use serde::{Deserialize, Serialize};

use super::{NetworkSettings, Recipe};
use crate::Error;

/// What is trained beside weights that stay as they are.
///
/// A run with an adapter starts from given weights; of a comparison, the start is trained whole or given, and the arms are
/// adapters of it. Checkpoints hold the adapter alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AdapterConfig {
    /// Low-rank factors beside the weights of some linear layers.
    Lora(LoraConfig),
}

impl AdapterConfig {
    /// What the arms of a comparison are, for the readers of a report.
    pub(crate) fn describe(&self) -> String {
        let Self::Lora(lora) = self;
        let where_to = if lora.targets.is_empty() { "attention".into() } else { lora.targets.join(", ") };
        format!("Each arm trains a low-rank adapter of rank {} at {where_to}; all else is the start's.", lora.rank)
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        let Self::Lora(lora) = self;
        lora.check()
    }

    /// Numbers that it adds to a network of these settings.
    fn parameters(&self, network: &impl NetworkSettings) -> Result<u64, Invalid> {
        let Self::Lora(lora) = self;
        // Nothing is drawn before it is read.
        lora.parameters(&network.init(0, &Device::flex()), network.official_key())
    }
}

impl<N: NetworkSettings> Recipe<N> {
    /// How much of what the adapter is given is dropped in a training step; nothing without an adapter.
    pub fn adapter_dropout(&self) -> f64 {
        self.adapter.as_ref().map_or(0.0, |AdapterConfig::Lora(lora)| lora.dropout)
    }

    /// Numbers of the adapter, where nothing else of the network is trained: without a comparison, or where its start is
    /// given.
    ///
    /// # Errors
    /// If a target of the adapter is none of the network's layers.
    pub(crate) fn adapter_parameters(&self, start_is_given: bool) -> Result<Option<u64>, Error> {
        let adapter = self.adapter.as_ref().filter(|_| self.post_training.is_none() || start_is_given);
        let fault = |invalid: Invalid| Error::recipe(&self.name, invalid.within("adapter"));
        adapter.map(|adapter| adapter.parameters(&self.network)).transpose().map_err(fault)
    }

    /// Bytes of the frozen weights beside the adapter, in the precision of the training.
    pub(crate) fn frozen_bytes(&self, precision: Precision) -> u64 {
        // Nothing is drawn before it is read.
        precision.frozen_bytes(&self.network.init(0, &Device::flex()))
    }

    /// `network`, which is yet to be read, as the start of this training keeps it: rounded, where nothing but an adapter is
    /// trained in less than `f32`. The start of a comparison is drawn with, too, and stays as it is.
    pub(crate) fn frozen(&self, network: N::Network) -> N::Network {
        match self.adapter.is_some() && self.post_training.is_none() {
            true => self.training.precision.of_frozen(network),
            false => network,
        }
    }

    /// The network as it is trained after its start: with the recipe's adapter and all else frozen, in the precision of the
    /// training; or as it is.
    ///
    /// # Errors
    /// If a target of the adapter is none of its layers.
    pub fn adapted(&self, network: N::Network) -> Result<N::Network, Error> {
        let Some(AdapterConfig::Lora(lora)) = &self.adapter else { return Ok(network) };
        let fault = |invalid: Invalid| Error::recipe(&self.name, invalid.within("adapter"));
        let adapted = lora.attach(network, self.network.official_key(), self.seed).map_err(fault)?;
        Ok(self.training.precision.of_frozen(adapted))
    }

    /// Writes what a training came to into `folder`: `model.safetensors`, whole, and of a network with an adapter that
    /// alone, too, as [`Adapter::write`] does. In the whole network the adapter is added to the weights, one after another and in
    /// `f32`; other weights are in the precision that they have. Gives the file.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn store(&self, network: &N::Network, folder: &Path) -> Result<PathBuf, Error> {
        let key = self.network.official_key();
        let mut weights = Weights::of(network, key);
        if let Some(AdapterConfig::Lora(lora)) = &self.adapter {
            let adapter = Adapter::of(network, key, lora);
            if adapter.layers().len() > 0 {
                adapter.write(folder.join(ADAPTER))?;
                weights = adapter.added_to(weights, 1.0);
            }
        }
        let file = folder.join("model.safetensors");
        weights.write(&file, METADATA)?;
        Ok(file)
    }
}

/// The adapter that a training left beside the `weights` that it is added to, if there is one.
pub(crate) fn adapter_beside(weights: &Path) -> Result<Option<Adapter>, Error> {
    let file = weights.with_file_name(ADAPTER);
    Ok(if file.is_file() { Some(Adapter::read(file)?) } else { None })
}

/// What stands in the header of a file of trained weights.
pub(crate) const METADATA: &[(&str, &str)] = &[("format", "pt"), ("library_name", "mixflow")];

/// As `diffusers` calls the file of an adapter.
const ADAPTER: &str = "pytorch_lora_weights.safetensors";
