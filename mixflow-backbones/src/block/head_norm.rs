//! Normalisation of queries and keys.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::block::NormKind;
use crate::init::Initializer;
use crate::ops;

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
        let [batch, tokens, packed] = qkv.dims();
        let all = qkv.reshape([batch, tokens, 3 * heads, packed / (3 * heads)]);
        let part = |index| all.clone().narrow(2, index * heads, heads); // [batch, tokens, heads, head width]
        Tensor::cat(vec![q_norm.forward(part(0)), k_norm.forward(part(1)), part(2)], 2).reshape([batch, tokens, packed])
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, heads, head width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        // Epsilons of the published classes: PyTorch's `LayerNorm`, and `RMSNorm` of RAE and diffusers.
        match &self.bias {
            Some(bias) => {
                let x = x.clone() - x.mean_dim(3);
                x.clone() / (x.square().mean_dim(3) + 1e-5).sqrt() * self.weight.val().unsqueeze()
                    + bias.val().unsqueeze()
            }
            None => {
                let [batch, tokens, heads, width] = x.dims();
                let nothing = Tensor::zeros([batch, width], (&x.device(), x.dtype()));
                let rows = x.reshape([batch, tokens * heads, width]);
                ops::modulated_rms_norm(rows, self.weight.val(), nothing.clone(), nothing, 1e-6)
                    .reshape([batch, tokens, heads, width])
            }
        }
    }
}
