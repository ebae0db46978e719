//! Normalisation of queries and keys.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::block::NormKind;
use crate::init::Initializer;
use crate::ops;

/// Of PyTorch's `LayerNorm`.
const LAYER_EPSILON: f64 = 1e-5;

/// Of `RMSNorm` in RAE and in `diffusers`.
const RMS_EPSILON: f64 = 1e-6;

/// Normalisation of every head of queries or keys.
#[derive(Module, Debug)]
pub struct HeadNorm {
    /// `[head width]`
    pub weight: Param<Tensor<1>>,
    /// `[head width]`, of layer normalisation only.
    pub bias: Option<Param<Tensor<1>>>,
}

impl HeadNorm {
    /// Weights of one, biases of zero.
    pub fn new(width: usize, kind: NormKind, init: &Initializer) -> Self {
        Self { weight: init.ones([width]), bias: (kind == NormKind::Layer).then(|| init.zeros([width])) }
    }

    /// Normalises the queries and keys of a packed projection, where there are both norms.
    ///
    /// # Shapes
    /// - qkv and output: `[batch, tokens, 3 * heads * head width]`
    pub fn queries_and_keys(q_norm: &Option<Self>, k_norm: &Option<Self>, qkv: Tensor<3>, heads: usize) -> Tensor<3> {
        let (Some(q_norm), Some(k_norm)) = (q_norm, k_norm) else { return qkv };
        if q_norm.bias.is_none() && k_norm.bias.is_none() {
            return ops::qk_rms_norm(qkv, q_norm.weight.val(), k_norm.weight.val(), heads, RMS_EPSILON);
        }
        let [batch, tokens, packed] = qkv.dims();
        let all = qkv.reshape([batch, tokens, 3 * heads, packed / (3 * heads)]);
        let part = |index| all.clone().narrow(2, index * heads, heads); // [batch, tokens, heads, head width]
        Tensor::cat(vec![q_norm.forward(part(0)), k_norm.forward(part(1)), part(2)], 2).reshape([batch, tokens, packed])
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, heads, head width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (x, epsilon) = match self.bias {
            Some(_) => (x.clone() - x.mean_dim(3), LAYER_EPSILON),
            None => (x, RMS_EPSILON),
        };
        let normalised = x.clone() / (x.square().mean_dim(3) + epsilon).sqrt() * self.weight.val().unsqueeze();
        match &self.bias {
            Some(bias) => normalised + bias.val().unsqueeze(),
            None => normalised,
        }
    }
}
