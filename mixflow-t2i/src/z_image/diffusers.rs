//! The configuration of a transformer of `diffusers`.

use std::path::Path;

use mixflow::backbones::Error;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{EPSILON, PATCH, THETA, ZImageConfig};
use crate::mmdit::STEPS;
use crate::shape::config_from_diffusers;

/// `transformer/config.json`, of `diffusers` 0.42: sizes, and what is the same in all networks that are known here. What is not named
/// has the class's default.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    in_channels: usize,
    dim: usize,
    n_layers: usize,
    n_refiner_layers: usize,
    n_heads: usize,
    axes_dims: [usize; 3],
    cap_feat_dim: usize,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Default for Config {
    fn default() -> Self {
        let ZImageConfig { channels, width, depth, refiners, heads, axes, context_width, .. } =
            ZImageConfig::published();
        Self {
            in_channels: channels,
            dim: width,
            n_layers: depth,
            n_refiner_layers: refiners,
            n_heads: heads,
            axes_dims: axes,
            cap_feat_dim: context_width,
            others: Map::new(),
        }
    }
}

impl ZImageConfig {
    /// The class of `transformer/config.json`.
    pub const CLASS: &str = "ZImageTransformer2DModel";

    /// The network that the `config.json` of a `ZImageTransformer2DModel` describes, for images of 1024 pixels, as its pipeline makes
    /// them. Those that are told of images, too (Omni, Edit), are not known here.
    ///
    /// # Errors
    /// If the file cannot be read, or describes something else or what this network cannot be.
    pub fn from_diffusers(file: &Path) -> Result<Self, Error> {
        config_from_diffusers(file, Self::CLASS, Config::network)
    }

    /// This network's `config.json`.
    pub fn to_diffusers(&self) -> Value {
        json!({
            "_class_name": Self::CLASS,
            "all_patch_size": [PATCH],
            "all_f_patch_size": [1],
            "in_channels": self.channels,
            "dim": self.width,
            "n_layers": self.depth,
            "n_refiner_layers": self.refiners,
            "n_heads": self.heads,
            "n_kv_heads": self.heads,
            "norm_eps": EPSILON,
            "qk_norm": true,
            "cap_feat_dim": self.context_width,
            "siglip_feat_dim": null,
            "rope_theta": THETA,
            "t_scale": STEPS,
            "axes_dims": self.axes,
            // How long tables are, which are computed here.
            "axes_lens": [1536, 512, 512],
        })
    }
}

impl Config {
    fn network(self) -> Result<ZImageConfig, String> {
        let network = ZImageConfig {
            channels: self.in_channels,
            width: self.dim,
            depth: self.n_layers,
            refiners: self.n_refiner_layers,
            heads: self.n_heads,
            axes: self.axes_dims,
            context_width: self.cap_feat_dim,
            ..ZImageConfig::published()
        };
        network.check().map_err(|fault| fault.to_string())?;
        let own = network.to_diffusers();
        // Whole numbers are written with and without a point.
        let same = |own: &Value, found: &Value| own == found || own.is_number() && own.as_f64() == found.as_f64();
        let other = |(key, found): &(&String, &Value)| {
            *key != "axes_lens" && own.get(*key).is_some_and(|own| !same(own, found))
        };
        match self.others.iter().find(other) {
            Some((key, found)) => Err(format!("{key} must be {}, found {found}", own[key])),
            None => Ok(network),
        }
    }
}
