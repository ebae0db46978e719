//! What a Qwen3 is built by.

use std::path::Path;

use serde::Deserialize;

use super::config;
use crate::Error;

/// A decoder of Qwen3, by the keys of Transformers' `config.json`; those that do not change it are not read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "File")]
pub struct Qwen3Config {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Hidden width of a perceptron.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Heads of keys and values, each for as many of the others.
    pub num_key_value_heads: usize,
    /// Width of an attention head: even.
    pub head_dim: usize,
    /// Added to the mean square in normalisations.
    pub rms_norm_eps: f64,
    /// What places are counted by.
    pub rope_theta: f64,
}

/// The same as files have it; Transformers 5 writes `rope_parameters`, older versions `rope_theta`.
#[derive(Deserialize)]
struct File {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_parameters: Option<Rope>,
    rope_scaling: Option<serde_json::Value>,
    model_type: Option<String>,
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
}

#[derive(Deserialize)]
struct Rope {
    rope_type: String,
    rope_theta: f64,
}

impl TryFrom<File> for Qwen3Config {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        let unknown = [
            ("model_type", file.model_type.as_ref().is_some_and(|kind| kind != "qwen3")),
            ("hidden_act", file.hidden_act != "silu"),
            ("attention_bias", file.attention_bias),
            ("use_sliding_window", file.use_sliding_window),
            ("rope_scaling", file.rope_scaling.is_some()),
            ("rope_parameters", file.rope_parameters.as_ref().is_some_and(|rope| rope.rope_type != "default")),
        ];
        if let Some((key, _)) = unknown.iter().find(|(_, other)| *other) {
            return Err(format!("{key}: not that of a Qwen3 as it is published"));
        }
        let rope_theta = file.rope_parameters.map(|rope| rope.rope_theta).or(file.rope_theta);
        Ok(Self {
            vocab_size: file.vocab_size,
            hidden_size: file.hidden_size,
            intermediate_size: file.intermediate_size,
            num_hidden_layers: file.num_hidden_layers,
            num_attention_heads: file.num_attention_heads,
            num_key_value_heads: file.num_key_value_heads,
            head_dim: file.head_dim,
            rms_norm_eps: file.rms_norm_eps,
            rope_theta: rope_theta.ok_or("rope_theta: is missing")?,
        })
    }
}

impl Qwen3Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// If it cannot be read, or is not that of a Qwen3: the key is named.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let read: Self = config::read(path)?;
        let sizes = [
            ("vocab_size", read.vocab_size),
            ("hidden_size", read.hidden_size),
            ("intermediate_size", read.intermediate_size),
            ("num_attention_heads", read.num_attention_heads),
            ("num_key_value_heads", read.num_key_value_heads),
            ("head_dim", read.head_dim),
        ];
        config::sizes(path, config::WIDEST, &sizes)?;
        config::sizes(path, config::MOST_BLOCKS, &[("num_hidden_layers", read.num_hidden_layers)])?;
        let (heads, few) = (read.num_attention_heads, read.num_key_value_heads);
        if !heads.is_multiple_of(few) {
            let reason = format!("num_key_value_heads: expected a divisor of num_attention_heads {heads}, found {few}");
            return Err(Error::config(path, reason));
        }
        if !read.head_dim.is_multiple_of(2) {
            return Err(Error::config(path, format!("head_dim: expected an even number, found {}", read.head_dim)));
        }
        Ok(read)
    }
}
