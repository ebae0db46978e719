//! Multi-head self-attention.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::Linear;
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
        let norm = || Some(HeadNorm::new(self.proj.weight.lazy_shape()[0] / self.heads, init));
        Self { q_norm: norm(), k_norm: norm(), ..self }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let mut qkv = self.qkv.forward(x); // [batch, tokens, 3 * width]
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            let width = qkv.dims()[2] / 3;
            let [q, k, v] = [0, 1, 2].map(|part| qkv.clone().narrow(2, part * width, width));
            qkv = Tensor::cat(vec![q_norm.forward(q), k_norm.forward(k), v], 2);
        }
        self.proj.forward(ops::attention(qkv, self.heads))
    }
}

/// Layer normalisation of every head of a token, with one learned scale and shift for all heads.
#[derive(Module, Debug)]
pub struct HeadNorm {
    /// `[width / heads]`
    pub weight: Param<Tensor<1>>,
    /// `[width / heads]`
    pub bias: Param<Tensor<1>>,
}

impl HeadNorm {
    const EPSILON: f64 = 1e-5;

    /// Scale 1, shift 0.
    pub fn new(width: usize, init: &Initializer) -> Self {
        Self { weight: init.ones([width]), bias: init.zeros([width]) }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`, heads side by side
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let head = self.weight.lazy_shape()[0];
        let rows = |row: Tensor<1>| row.unsqueeze::<2>().expand([batch, head]);
        let x = x.reshape([batch, tokens * width / head, head]);
        // The modulation is `1 + scale`.
        ops::modulated_layer_norm(x, rows(self.bias.val()), rows(self.weight.val() - 1.0), Self::EPSILON)
            .reshape([batch, tokens, width])
    }
}
