//! The configuration of a published transformer.

use std::path::Path;

use mixflow::backbones::Error;
use mixflow::backbones::diffusers::read_config;
use serde::Deserialize;

use super::MmJitConfig;
use crate::shape::config_from_diffusers;

/// `transformer/config.json`; what is not named is that of MiniT2I-B/16.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    image_size: usize,
    patch_size: usize,
    in_channels: usize,
    txt_input_size: usize,
    hidden_size: usize,
    txt_hidden_size: usize,
    cond_vec_size: usize,
    depth_double: usize,
    txt_preamble_depth: usize,
    num_heads: usize,
    head_dim: usize,
    mlp_ratio: f64,
    pca_channels: usize,
    prompt_length: usize,
    prediction: String,
    llm: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image_size: 512,
            patch_size: 16,
            in_channels: 3,
            txt_input_size: 1024,
            hidden_size: 768,
            txt_hidden_size: 768,
            cond_vec_size: 768,
            depth_double: 17,
            txt_preamble_depth: 2,
            num_heads: 12,
            head_dim: 64,
            mlp_ratio: 8.0 / 3.0,
            pca_channels: 128,
            prompt_length: 256,
            prediction: "x".into(),
            llm: "google/flan-t5-large".into(),
        }
    }
}

impl MmJitConfig {
    /// The class of `transformer/config.json`.
    pub const CLASS: &str = "MiniT2IMMJiTModel";

    /// The network that the `config.json` of a `MiniT2IMMJiTModel` describes.
    ///
    /// # Errors
    /// If the file cannot be read, or describes something else or what this network cannot be.
    pub fn from_diffusers(file: &Path) -> Result<Self, Error> {
        config_from_diffusers(file, Self::CLASS, Config::network)
    }

    /// The repository of the Hugging Face Hub that holds the text encoder, as the same `config.json` names it (`llm`).
    ///
    /// # Errors
    /// If the file cannot be read, or describes something else.
    pub fn text_encoder(file: &Path) -> Result<String, Error> {
        Ok(read_config::<Config>(file, Self::CLASS)?.llm)
    }
}

impl Config {
    fn network(self) -> Result<MmJitConfig, String> {
        let Self { hidden_size: width, num_heads: heads, head_dim, mlp_ratio, .. } = self;
        for (key, size) in [("txt_hidden_size", self.txt_hidden_size), ("cond_vec_size", self.cond_vec_size)] {
            if size != width {
                return Err(format!("{key} must be hidden_size, found {size} and {width}"));
            }
        }
        if head_dim.checked_mul(heads) != Some(width) {
            return Err(format!("hidden_size must be {heads} heads of {head_dim}, found {width}"));
        }
        if self.prediction != "x" {
            return Err(format!("prediction must be \"x\", found {:?}", self.prediction));
        }
        // As the official code rounds; no size of a network is lost in `f64`.
        let hidden = ((width as f64 * mlp_ratio) as usize).next_multiple_of(8);
        let network = MmJitConfig {
            input_size: self.image_size,
            patch: self.patch_size,
            channels: self.in_channels,
            width,
            depth: self.depth_double,
            preamble: self.txt_preamble_depth,
            heads,
            hidden,
            bottleneck: self.pca_channels,
            context_width: self.txt_input_size,
            context_length: self.prompt_length,
        };
        network.check().map_err(|fault| fault.to_string())?;
        Ok(network)
    }
}
