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

mod file;
mod low_rank;

use std::collections::BTreeSet;

use burn::module::{Module, ModuleVisitor, Param, Reparameterizer};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub use file::Adapter;
pub use low_rank::LowRank;

use crate::Invalid;
use crate::init::Initializer;

/// Which layers get an adapter, and how large.
///
/// A layer `y = W x + b` becomes `y = W x + b + (alpha / rank) B (A x)`, with `A` of `rank × inputs` and `B` of
/// `outputs × rank`; at the beginning `B` is zero. Everything but `A` and `B` is frozen.
///
/// # Source
/// Hu et al. 2021 (arXiv 2106.09685), section 4.1; initial values of `peft` 0.21.2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// At least 1.
    #[serde(default = "sixteen")]
    pub rank: usize,
    /// Above 0; none is `rank`, a factor of 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Official names of layers, or ends of these after a dot: `attn.qkv` is one in every block. None are the layers of
    /// attention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

fn sixteen() -> usize {
    16
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: sixteen(), alpha: None, targets: vec![] }
    }
}

impl LoraConfig {
    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), Invalid> {
        Invalid::unless_positive(&[("rank", self.rank)])?;
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
        self.check().expect("settings are checked before they are used");
        let mut layers = Layers { key, path: vec![], containers: vec![], all: vec![] };
        network.visit(&mut layers);
        let fits = |target: &str, layer: &str| {
            layer.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if let Some(unknown) =
            self.targets.iter().find(|target| !layers.all.iter().any(|layer| fits(target, &layer.name)))
        {
            let some: BTreeSet<_> = layers.all.iter().map(|layer| layer.name.as_str()).collect();
            let some: Vec<_> = some.into_iter().take(8).collect();
            return Err(Invalid::new(
                "targets",
                format!("have `{unknown}`, which is no layer; layers are {}, …", some.join(", ")),
            ));
        }
        let chosen = |layer: &Layer| match self.targets.is_empty() {
            true => layer.attends,
            false => self.targets.iter().any(|target| fits(target, &layer.name)),
        };
        if let Some(layer) = layers.all.iter().find(|layer| chosen(layer) && self.rank > layer.side) {
            let reason =
                format!("must be at most {}, the larger side of {}, found {}", layer.side, layer.name, self.rank);
            return Err(Invalid::new("rank", reason));
        }
        let paths = layers.all.into_iter().filter(chosen).map(|layer| layer.path).collect();
        let devices = network.devices();
        let device = devices.first().expect("a network has parameters");
        Ok(network.apply_reparameterization(Attach {
            paths,
            rank: self.rank,
            scale: self.scale(),
            init: Initializer::new(seed, device),
        }))
    }
}

/// What is called after a layer's weight in the path of a parameter of its adapter.
const WEIGHT: &str = ".weight";

/// A linear layer.
struct Layer {
    /// Of its weight.
    path: String,
    /// Official, without `.weight`.
    name: String,
    attends: bool,
    /// The larger side of its weight.
    side: usize,
}

/// The types around layers that make queries, keys and values, or what attention gives.
const ATTENTION: [&str; 3] = ["Struct:Attention", "Struct:SplitProjection", "Struct:JointAttention"];

/// Finds the linear layers.
struct Layers {
    key: fn(&str) -> String,
    path: Vec<String>,
    containers: Vec<String>,
    all: Vec<Layer>,
}

impl ModuleVisitor for Layers {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.into());
        self.containers.push(container.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let [.., part, linear] = &self.containers[..]
            && D == 2
            && linear == "Struct:Linear"
        {
            let path = self.path.join(".");
            let within: Vec<&str> = official_path(&self.path, &self.containers);
            let name = (self.key)(&within.join("."));
            let name = name.strip_suffix(WEIGHT).unwrap_or(&name).into();
            let side = param.lazy_shape().iter().copied().max().unwrap_or(0);
            self.all.push(Layer { path, name, attends: ATTENTION.contains(&part.as_str()), side });
        }
    }
}

/// A path without the variants of enums, which are no part of names in files.
fn official_path<'a>(path: &'a [String], containers: &[String]) -> Vec<&'a str> {
    let parts = path.iter().zip(containers).filter(|(_, container)| !container.starts_with("Enum:"));
    parts.map(|(name, _)| name.as_str()).collect()
}

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
