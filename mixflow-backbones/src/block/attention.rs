//! Multi-head self-attention.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Linear;
use crate::block::{HeadNorm, NormKind};
use crate::init::Initializer;
use crate::ops;

/// Self-attention with one projection for queries, keys and values.
#[derive(Module, Debug)]
pub struct Attention {
    /// `width` to `3 * width`: queries, keys, values, each `[heads, width / heads]`.
    pub qkv: Linear,
    /// `width` to `width`
    pub proj: Linear,
    /// Normalises the queries, where the network does that.
    pub q_norm: Option<HeadNorm>,
    /// Normalises the keys.
    pub k_norm: Option<HeadNorm>,
    heads: usize,
}

impl Attention {
    /// Xavier-uniform weights, zero biases.
    pub fn new(width: usize, heads: usize, init: &Initializer) -> Self {
        Self {
            qkv: init.xavier_linear(width, 3 * width),
            proj: init.xavier_linear(width, width),
            q_norm: None,
            k_norm: None,
            heads,
        }
    }

    /// The same with queries and keys normalised within their heads.
    ///
    /// # Source
    /// Dehghani et al. 2023 (arXiv 2302.05442), section 2; `qk_norm` of timm 0.9.16.
    #[must_use]
    pub fn with_qk_norm(self, init: &Initializer) -> Self {
        let norm = || Some(HeadNorm::new(self.proj.weight.lazy_shape()[0] / self.heads, NormKind::Layer, init));
        Self { q_norm: norm(), k_norm: norm(), ..self }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let qkv = HeadNorm::queries_and_keys(&self.q_norm, &self.k_norm, self.qkv.forward(x), self.heads);
        self.proj.forward(ops::attention(qkv, self.heads))
    }
}
