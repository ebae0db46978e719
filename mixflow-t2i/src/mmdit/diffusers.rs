//! The configuration of a transformer of `diffusers`.

use std::path::Path;

use mixflow::backbones::Error;
use serde::Deserialize;
use serde_json::{Value, json};

use super::MmDitConfig;
use crate::shape::config_from_diffusers;

/// `transformer/config.json`, of `diffusers` 0.42; what is not named has the class's default.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    sample_size: usize,
    patch_size: usize,
    in_channels: usize,
    num_layers: usize,
    attention_head_dim: usize,
    num_attention_heads: usize,
    joint_attention_dim: usize,
    caption_projection_dim: usize,
    pooled_projection_dim: usize,
    out_channels: Option<usize>,
    pos_embed_max_size: usize,
    dual_attention_layers: Vec<usize>,
    qk_norm: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            out_channels: Some(16),
            pos_embed_max_size: 96,
            dual_attention_layers: vec![],
            qk_norm: None,
        }
    }
}

impl MmDitConfig {
    /// The class of `transformer/config.json`.
    pub const CLASS: &str = "SD3Transformer2DModel";

    /// The network that the `config.json` of an `SD3Transformer2DModel` describes.
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
            "sample_size": self.input_size,
            "patch_size": self.patch,
            "in_channels": self.channels,
            "out_channels": self.channels,
            "num_layers": self.depth,
            "attention_head_dim": self.width / self.heads,
            "num_attention_heads": self.heads,
            "joint_attention_dim": self.context_width,
            "caption_projection_dim": self.width,
            "pooled_projection_dim": self.pooled_width,
            "pos_embed_max_size": self.table,
            "dual_attention_layers": self.dual_attention,
            "qk_norm": self.qk_norm.then_some("rms_norm"),
        })
    }
}

impl Config {
    fn network(self) -> Result<MmDitConfig, String> {
        let Self { in_channels, attention_head_dim, num_attention_heads, caption_projection_dim, .. } = self;
        let width = attention_head_dim.checked_mul(num_attention_heads);
        let width = width.filter(|&width| width == caption_projection_dim).ok_or_else(|| {
            format!(
                "caption_projection_dim must be {num_attention_heads} heads of {attention_head_dim}, found \
                 {caption_projection_dim}"
            )
        })?;
        let outputs = self.out_channels.unwrap_or(in_channels);
        if outputs != in_channels {
            return Err(format!("out_channels must be in_channels, found {outputs} and {in_channels}"));
        }
        let qk_norm = match self.qk_norm.as_deref() {
            None => false,
            Some("rms_norm") => true,
            Some(other) => return Err(format!("qk_norm must be null or \"rms_norm\", found {other:?}")),
        };
        let network = MmDitConfig {
            input_size: self.sample_size,
            patch: self.patch_size,
            channels: in_channels,
            width,
            depth: self.num_layers,
            heads: num_attention_heads,
            context_width: self.joint_attention_dim,
            pooled_width: self.pooled_projection_dim,
            table: self.pos_embed_max_size,
            qk_norm,
            dual_attention: self.dual_attention_layers,
        };
        network.check().map_err(|fault| fault.to_string())?;
        Ok(network)
    }
}
