//! Normalisation of queries and keys.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::block::NormKind;
use crate::init::Initializer;
use crate::ops::{self, Recomputed};

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
    epsilon: f64,
}

impl HeadNorm {
    /// Weights of one, biases of zero.
    pub fn new(width: usize, kind: NormKind, init: &Initializer) -> Self {
        let (bias, epsilon) = match kind {
            NormKind::Layer => (Some(init.zeros([width])), LAYER_EPSILON),
            NormKind::Rms => (None, RMS_EPSILON),
        };
        Self { weight: init.ones([width]), bias, epsilon }
    }

    /// The same with another number added to the mean square.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Normalises the queries and keys of a packed projection, where there are both norms.
    ///
    /// # Shapes
    /// - qkv and output: `[batch, tokens, 3 * heads * head width]`
    pub fn queries_and_keys(q_norm: &Option<Self>, k_norm: &Option<Self>, qkv: Recomputed, heads: usize) -> Recomputed {
        let (Some(q_norm), Some(k_norm)) = (q_norm, k_norm) else { return qkv };
        let weights = [q_norm, k_norm].map(|norm| norm.weight.val().unsqueeze());
        let epsilon = q_norm.epsilon;
        let (Some(q_bias), Some(k_bias)) = (&q_norm.bias, &k_norm.bias) else {
            return qkv.map_with(weights, move |qkv, weights| {
                let [queries, keys] = weights.map(|weight| weight.flatten(0, 2));
                ops::qk_rms_norm(qkv, queries, keys, heads, epsilon)
            });
        };
        let [q_weight, k_weight] = weights;
        let parameters = [q_weight, q_bias.val().unsqueeze(), k_weight, k_bias.val().unsqueeze()];
        qkv.map_with(parameters, move |qkv, [q_weight, q_bias, k_weight, k_bias]| {
            let [batch, tokens, packed] = qkv.dims();
            let all = qkv.reshape([batch, tokens, 3 * heads, packed / (3 * heads)]);
            let part = |index| all.clone().narrow(2, index * heads, heads); // [batch, tokens, heads, head width]
            let parts = vec![
                normalised(part(0), q_weight.unsqueeze(), Some(q_bias.unsqueeze()), epsilon),
                normalised(part(1), k_weight.unsqueeze(), Some(k_bias.unsqueeze()), epsilon),
                part(2),
            ];
            Tensor::cat(parts, 2).reshape([batch, tokens, packed])
        })
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, heads, head width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(|bias| bias.val().unsqueeze());
        normalised(x, self.weight.val().unsqueeze(), bias, self.epsilon)
    }
}

/// By layer normalisation where there is a bias, else by the root mean square.
fn normalised(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<4>>, epsilon: f64) -> Tensor<4> {
    let x = match bias {
        Some(_) => x.clone() - x.mean_dim(3),
        None => x,
    };
    let normalised = x.clone() / (x.square().mean_dim(3) + epsilon).sqrt() * weight;
    match bias {
        Some(bias) => normalised + bias,
        None => normalised,
    }
}
