//! The blocks of SiT.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Linear;
use crate::block::{Attention, Gelu, Mlp};
use crate::init::Initializer;
use crate::ops;

const EPSILON: f64 = 1e-6;

/// Attention and perceptron, each modulated and gated by time and class (adaLN-Zero).
///
/// # Source
/// Peebles and Xie 2023 (arXiv 2212.09748), section 3.2.
#[derive(Module, Debug)]
pub struct SitBlock {
    /// Self-attention.
    pub attn: Attention,
    /// Perceptron.
    pub mlp: Mlp,
    /// `width` to `6 * width`: shift, scale, gate of attention, then of the perceptron.
    pub ada_ln: Linear,
}

impl SitBlock {
    /// Xavier-uniform weights; the modulation starts at zero, so that the block starts as the identity.
    pub fn new(width: usize, heads: usize, hidden: usize, init: &Initializer) -> Self {
        let linear = |inputs, outputs| init.xavier_linear(inputs, outputs);
        Self {
            attn: Attention::new(width, heads, linear),
            mlp: Mlp::new(width, hidden, Gelu::Tanh, linear),
            ada_ln: init.zero_linear(width, 6 * width),
        }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - modulation: `[batch, width]`, SiLU already applied
    pub fn forward(&self, x: Tensor<3>, modulation: Tensor<2>) -> Tensor<3> {
        let [shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp] =
            chunks(self.ada_ln.forward(modulation));
        let y = self.attn.forward(ops::modulated_layer_norm(x.clone(), shift_attn, scale_attn, EPSILON), None);
        let x = ops::gated_residual(x, y, gate_attn);
        let y = self.mlp.forward(ops::modulated_layer_norm(x.clone(), shift_mlp, scale_mlp, EPSILON));
        ops::gated_residual(x, y, gate_mlp)
    }
}

/// Modulated normalisation, then tokens to patches.
#[derive(Module, Debug)]
pub struct FinalLayer {
    /// `width` to `patch * patch * channels`
    pub linear: Linear,
    /// `width` to `2 * width`: shift, scale.
    pub ada_ln: Linear,
}

impl FinalLayer {
    /// All zeros: a new network predicts zero.
    pub fn new(width: usize, values: usize, init: &Initializer) -> Self {
        Self { linear: init.zero_linear(width, values), ada_ln: init.zero_linear(width, 2 * width) }
    }

    /// # Shapes
    /// - x: `[batch, tokens, width]`
    /// - modulation: `[batch, width]`, SiLU already applied
    /// - output: `[batch, tokens, patch * patch * channels]`
    pub fn forward(&self, x: Tensor<3>, modulation: Tensor<2>) -> Tensor<3> {
        let [shift, scale] = chunks(self.ada_ln.forward(modulation));
        self.linear.forward(ops::modulated_layer_norm(x, shift, scale, EPSILON))
    }
}

/// Splits `[batch, N * width]` into `N` times `[batch, width]`.
fn chunks<const N: usize>(x: Tensor<2>) -> [Tensor<2>; N] {
    let [batch, total] = x.dims();
    let width = total / N;
    std::array::from_fn(|i| x.clone().slice([0..batch, i * width..(i + 1) * width]))
}
