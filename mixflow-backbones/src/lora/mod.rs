//! Low-rank adapters: a few numbers are trained beside weights that stay as they are.
//!
//! ```
//! use burn::tensor::Device;
//! use mixflow_backbones::lora::{Adapter, LoraConfig};
//! use mixflow_backbones::sit::{SitConfig, official_key};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("adapter.safetensors");
//! let config = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
//! let base = config.init(0, &Device::default());
//! let lora = LoraConfig { rank: 4, ..LoraConfig::default() };
//! let adapted = lora.attach(base.clone(), official_key, 0)?;
//! // … train `adapted`: of its parameters only the adapter's change.
//! Adapter::of(&adapted, official_key, &lora).write(&path)?;
//! let fused = Adapter::read(&path)?.fuse(base, official_key, 1.0)?;
//! # let _ = fused;
//! # Ok(())
//! # }
//! ```

mod beside;
mod dropout;
mod file;
mod scales;

use std::collections::BTreeSet;

use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub use crate::linear::LowRank;
pub use dropout::dropping;
pub use file::Adapter;

use crate::Invalid;
use crate::init::Initializer;
use crate::linear::{self, Place};

/// Which layers get an adapter, and how large.
///
/// A layer `y = W x + b` becomes `y = W x + b + (alpha / rank) B (A x)`, with `A` of `rank × inputs` and `B` of
/// `outputs × rank`; at the beginning `B` is zero. Everything but `A` and `B` is frozen. In a training step some of the `x` that
/// `A` is given may be dropped.
///
/// # Source
/// Hu et al. 2021 (arXiv 2106.09685), section 4.1; initial values of `peft` 0.21.2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// At least 1.
    pub rank: usize,
    /// Above 0; none is `rank`, a factor of 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Official names of layers, or ends of these after a dot: `attn.qkv` is one in every block. None are the layers of
    /// attention.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// How much of what an adapter is given is [dropped](dropping) in a training step, in [0, 1).
    #[serde(skip_serializing_if = "is_zero")]
    pub dropout: f64,
}

fn is_zero(dropout: &f64) -> bool {
    *dropout == 0.0
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: None, targets: vec![], dropout: 0.0 }
    }
}

impl LoraConfig {
    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), Invalid> {
        Invalid::unless_positive(&[("rank", self.rank)])?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Invalid::new("dropout", format!("must be in [0, 1), found {}", self.dropout)));
        }
        match self.alpha {
            Some(alpha) if !(alpha.is_finite() && alpha > 0.0) => {
                Err(Invalid::new("alpha", format!("must be above 0, found {alpha}")))
            }
            _ => Ok(()),
        }
    }

    /// What `B A` is multiplied by: `alpha / rank`.
    pub fn scale(&self) -> f64 {
        self.alpha.map_or(1.0, |alpha| alpha / self.rank as f64)
    }

    /// `network` with an adapter at each of the targets, all else frozen; `key` gives the official name of a parameter's
    /// path. The adapter's initial values depend on `seed` alone.
    ///
    /// # Errors
    /// If a target is no linear layer of the network, or `rank` is above the sides of one.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn attach<M: Module>(&self, network: M, key: fn(&str) -> String, seed: u64) -> Result<M, Invalid> {
        let paths = self.layers(&network, key)?.into_iter().map(|place| place.path).collect();
        let devices = network.devices();
        let device = devices.first().expect("a network has parameters");
        Ok(network.apply_reparameterization(Attach {
            paths,
            rank: self.rank,
            scale: self.scale(),
            init: Initializer::new(seed, device),
        }))
    }

    /// Numbers of an adapter of `network`, whose weights need not be there yet: `rank · (inputs + outputs)` of each layer.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn parameters(&self, network: &impl Module, key: fn(&str) -> String) -> Result<u64, Invalid> {
        let layers = self.layers(network, key)?;
        Ok(layers.iter().map(|Place { shape: [outputs, inputs], .. }| (self.rank * (outputs + inputs)) as u64).sum())
    }

    /// The layers that get an adapter.
    fn layers(&self, network: &impl Module, key: fn(&str) -> String) -> Result<Vec<Place>, Invalid> {
        self.check().expect("settings are checked before they are used");
        let layers: Vec<(String, Place)> =
            linear::places(network).into_iter().map(|place| (layer_name(&key(&place.key)), place)).collect();
        let fits = |target: &str, name: &str| {
            name.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if let Some(unknown) = self.targets.iter().find(|target| !layers.iter().any(|(name, _)| fits(target, name))) {
            let some: BTreeSet<_> = layers.iter().map(|(name, _)| name.as_str()).collect();
            let some = some.into_iter().take(8).collect::<Vec<_>>().join(", ");
            let reason = format!("have `{unknown}`, which is no layer; layers are {some}, …");
            return Err(Invalid::new("targets", reason));
        }
        let chosen = |(name, place): &(String, Place)| match self.targets.is_empty() {
            true => ATTENTION.contains(&place.part.as_str()),
            false => self.targets.iter().any(|target| fits(target, name)),
        };
        let chosen: Vec<_> = layers.into_iter().filter(chosen).collect();
        for (name, Place { shape: [outputs, inputs], .. }) in &chosen {
            let side = outputs.max(inputs);
            if self.rank > *side {
                let reason = format!("must be at most {side}, the larger side of {name}, found {}", self.rank);
                return Err(Invalid::new("rank", reason));
            }
        }
        Ok(chosen.into_iter().map(|(_, place)| place).collect())
    }
}

/// The name of the layer that a weight of this name belongs to.
fn layer_name(weight: &str) -> String {
    weight.strip_suffix(".weight").unwrap_or(weight).into()
}

/// The types around layers that make queries, keys and values, or what attention gives.
const ATTENTION: [&str; 3] = ["Struct:Attention", "Struct:SplitProjection", "Struct:JointAttention"];

struct Attach {
    paths: BTreeSet<String>,
    rank: usize,
    scale: f64,
    init: Initializer,
}

impl Reparameterizer for Attach {
    type Reparam = LowRank;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        weight: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LowRank>) {
        let adapter = self.paths.contains(path).then(|| {
            let [outputs, inputs] = [0, 1].map(|axis| weight.lazy_shape()[axis]);
            LowRank::new(&self.init, [outputs, inputs], self.rank, self.scale)
        });
        (weight.set_require_grad(false), adapter)
    }
}

#[cfg(test)]
mod tests;
