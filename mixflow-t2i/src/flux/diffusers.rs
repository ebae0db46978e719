//! The configuration of a transformer of `diffusers`.

use std::path::Path;

use mixflow::backbones::Error;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{FluxConfig, PATCH};
use crate::shape::config_from_diffusers;

/// `transformer/config.json`, of `diffusers` 0.42; what is not named has the class's default.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    patch_size: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    num_layers: usize,
    num_single_layers: usize,
    attention_head_dim: usize,
    num_attention_heads: usize,
    joint_attention_dim: usize,
    pooled_projection_dim: usize,
    guidance_embeds: bool,
    axes_dims_rope: [usize; 3],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            patch_size: 1,
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: [16, 56, 56],
        }
    }
}

impl FluxConfig {
    /// The class of `transformer/config.json`.
    pub const CLASS: &str = "FluxTransformer2DModel";

    /// The network that the `config.json` of a `FluxTransformer2DModel` describes, for images of 1024 pixels, as its pipeline
    /// makes them.
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
            "patch_size": 1,
            "in_channels": self.values(),
            "out_channels": null,
            "num_layers": self.depth,
            "num_single_layers": self.single_depth,
            "attention_head_dim": self.width / self.heads,
            "num_attention_heads": self.heads,
            "joint_attention_dim": self.context_width,
            "pooled_projection_dim": self.pooled_width,
            "guidance_embeds": self.guidance.is_some(),
            "axes_dims_rope": self.axes,
        })
    }
}

impl Config {
    fn network(self) -> Result<FluxConfig, String> {
        let Self { patch_size, in_channels, attention_head_dim, num_attention_heads, .. } = self;
        if patch_size != 1 || !in_channels.is_multiple_of(PATCH * PATCH) {
            return Err(format!(
                "patch_size must be 1 and in_channels divisible by {}, found {patch_size} and {in_channels}",
                PATCH * PATCH
            ));
        }
        let outputs = self.out_channels.unwrap_or(in_channels);
        if outputs != in_channels {
            return Err(format!("out_channels must be in_channels, found {outputs} and {in_channels}"));
        }
        let width = attention_head_dim.checked_mul(num_attention_heads).ok_or("it is too wide")?;
        let network = FluxConfig {
            channels: in_channels / (PATCH * PATCH),
            width,
            depth: self.num_layers,
            single_depth: self.num_single_layers,
            heads: num_attention_heads,
            axes: self.axes_dims_rope,
            context_width: self.joint_attention_dim,
            pooled_width: self.pooled_projection_dim,
            guidance: self.guidance_embeds.then_some(1.0),
            ..FluxConfig::schnell()
        };
        network.check().map_err(|fault| fault.to_string())?;
        Ok(network)
    }
}
