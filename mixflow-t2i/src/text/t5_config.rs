//! What a T5 encoder is built by.

use std::path::Path;

use serde::Deserialize;

use super::config;
use crate::Error;

/// An encoder of T5 version 1.1, by the keys of Transformers' `config.json`; those that do not change it are not read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct T5Config {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Width of a token.
    pub d_model: usize,
    /// Width of an attention head.
    pub d_kv: usize,
    /// Hidden width of a perceptron.
    pub d_ff: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// How many distances attention tells apart, in both directions together: a multiple of 4.
    pub relative_attention_num_buckets: usize,
    /// From where on all distances are one.
    #[serde(default = "max_distance")]
    pub relative_attention_max_distance: usize,
    /// The perceptron; that of the first version is not known here.
    pub feed_forward_proj: FeedForwardKind,
    /// Added to the mean square in normalisations.
    pub layer_norm_epsilon: f64,
}

/// The perceptron of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForwardKind {
    /// `W_o (gelu(W_0 x) · W_1 x)`, with GELU in the tanh form.
    GatedGelu,
}

fn max_distance() -> usize {
    128
}

impl T5Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// If it cannot be read, or is not that of a T5 version 1.1: the key is named.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let read: Self = config::read(path)?;
        let buckets = read.relative_attention_num_buckets;
        let sizes = [
            ("vocab_size", read.vocab_size),
            ("d_model", read.d_model),
            ("d_kv", read.d_kv),
            ("d_ff", read.d_ff),
            ("num_heads", read.num_heads),
            ("relative_attention_num_buckets", buckets),
            ("relative_attention_max_distance", read.relative_attention_max_distance),
        ];
        config::sizes(path, config::WIDEST, &sizes)?;
        config::sizes(path, config::MOST_BLOCKS, &[("num_layers", read.num_layers)])?;
        if !buckets.is_multiple_of(4) || read.relative_attention_max_distance <= buckets / 4 {
            let reason = "relative_attention_num_buckets: expected a multiple of 4, below 4 times relative_attention_max_distance";
            return Err(Error::config(path, format!("{reason}; found {buckets}")));
        }
        Ok(read)
    }
}
