//! A weaker network to be guided away from, in a recipe.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use mixflow_backbones::{Network, NetworkConfig};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::evaluate::WeightsFile;
use crate::recipe::{NetworkSettings, Recipe};
use crate::train::StoredNetwork;

/// The weaker network of autoguidance: smaller, or trained for shorter, for the same images, classes and objective.
///
/// # Source
/// Karras et al. 2024 (arXiv 2406.02507). RAE guides DiT^DH-XL by DiT^DH-S.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuideConfig {
    /// Its shape, of any kind.
    pub network: NetworkConfig,
    /// Its weights: a published file, a run's folder, or a checkpoint. See [`StoredNetwork::find`].
    pub weights: PathBuf,
}

/// A [`GuideConfig`] with its weights.
#[derive(Debug)]
pub struct Guide {
    /// The network.
    pub network: Network,
    /// What it was read from.
    pub weights: WeightsFile,
}

impl GuideConfig {
    /// The network of a run as a guide, its shape as the run's recipe says.
    ///
    /// # Errors
    /// If there is no network at `weights`, no recipe beside it, or a faulty one.
    pub fn of_run(weights: &Path) -> Result<Self, Error> {
        let fault = |reason: &str| Error::Recipe { origin: weights.display().to_string(), reason: reason.into() };
        let recipe = StoredNetwork::find(weights)?.recipe_file().ok_or_else(|| {
            fault("lies beside no recipe.json: name the guide's network and weights in the recipe, as sampling.guide")
        })?;
        let recipe = recipe.to_str().ok_or_else(|| fault("expected a path in UTF-8"))?;
        Ok(Self { network: Recipe::read(recipe, &[])?.network, weights: weights.into() })
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// If they cannot be read or do not fit.
    pub fn load(&self) -> Result<Guide, Error> {
        let stored = StoredNetwork::find(&self.weights).map_err(|error| self.fault(&error))?;
        let network = stored.load(self.network.init(0, &Device::default())).map_err(|error| self.fault(&error))?;
        Ok(Guide { network, weights: WeightsFile::read(stored.file())? })
    }

    /// What is wrong with it as the guide of `guided`, if anything.
    pub(super) fn check(&self, guided: &impl NetworkSettings) -> Result<(), String> {
        let guide = &self.network;
        guide.check().map_err(|fault| format!("network: {fault}"))?;
        let [(channels, height, width), (expected, high, wide)] =
            [guide.shape(), guided.shape()].map(|[channels, height, width]| (channels, height, width));
        if (channels, height, width) != (expected, high, wide) {
            return Err(format!(
                "the guide makes {channels} x {height} x {width} (channels, height, width), the network that it guides \
                 {expected} x {high} x {wide}: both must be the same"
            ));
        }
        if guide.classes() != guided.classes() {
            return Err(format!(
                "the guide knows {} classes, the network that it guides {}: both must be the same",
                guide.classes(),
                guided.classes()
            ));
        }
        Ok(())
    }

    fn fault(&self, error: &Error) -> Error {
        Error::Recipe { origin: "sampling.guide".into(), reason: error.to_string() }
    }
}
