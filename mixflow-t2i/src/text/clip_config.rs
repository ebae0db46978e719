//! What a CLIP text encoder is built by.

use std::path::Path;

use mixflow::backbones::block::Gelu;
use serde::Deserialize;

use super::config;
use crate::Error;

/// A text encoder of CLIP, by the keys of Transformers' `config.json`; those that do not change the network are not read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ClipConfig {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Width of a token, divisible by the number of heads.
    pub hidden_size: usize,
    /// Hidden width of a perceptron.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Most tokens of a prompt.
    pub max_position_embeddings: usize,
    /// Width of the space that texts and images share.
    pub projection_dim: usize,
    /// Of the perceptrons.
    pub hidden_act: Gelu,
    /// Where a prompt ends; 2 stands for its highest id.
    #[serde(default = "legacy_end_token")]
    pub eos_token_id: usize,
    /// Added to the variance in normalisations.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
}

/// What Transformers writes as the end token of the published encoders, whatever it really is.
pub(super) const LEGACY_END_TOKEN: usize = 2;

fn legacy_end_token() -> usize {
    LEGACY_END_TOKEN
}

fn layer_norm_eps() -> f64 {
    1e-5
}

impl ClipConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// If it cannot be read, or is not that of a CLIP text encoder: the key is named.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        config::read::<Self>(path)?.checked(path)
    }

    /// The same if its numbers are in range; `path` is that of its file.
    pub(crate) fn checked(self, path: &Path) -> Result<Self, Error> {
        let read = self;
        let Self { hidden_size, num_attention_heads, .. } = read;
        let sizes = [
            ("vocab_size", read.vocab_size),
            ("hidden_size", hidden_size),
            ("intermediate_size", read.intermediate_size),
            ("num_attention_heads", num_attention_heads),
            ("max_position_embeddings", read.max_position_embeddings),
            ("projection_dim", read.projection_dim),
        ];
        config::sizes(path, config::WIDEST, &sizes)?;
        config::sizes(path, config::MOST_BLOCKS, &[("num_hidden_layers", read.num_hidden_layers)])?;
        if !hidden_size.is_multiple_of(num_attention_heads) {
            let reason =
                format!("hidden_size: {hidden_size} is not divisible by num_attention_heads, {num_attention_heads}");
            return Err(Error::config(path, reason));
        }
        Ok(read)
    }
}
