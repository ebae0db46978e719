//! A transformer block that normalises first.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{Gelu, LayerNorm, VitAttention, VitMlp};
use crate::Linear;
use crate::init::Initializer;

/// Attention and perceptron, each on normalised tokens and added to them.
#[derive(Module, Debug)]
pub struct VitBlock {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: VitAttention,
    /// Scale of what attention adds, `[width]`, in networks that have one.
    pub scale1: Option<Param<Tensor<1>>>,
    /// Before the perceptron.
    pub norm2: LayerNorm,
    /// Perceptron.
    pub mlp: VitMlp,
    /// Scale of what the perceptron adds.
    pub scale2: Option<Param<Tensor<1>>>,
}

/// What the blocks of a network share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VitBlockConfig {
    /// Width of a token, divisible by `heads`.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the perceptron.
    pub hidden: usize,
    /// Added to the variance in both normalisations.
    pub epsilon: f64,
    /// Activation of the perceptron.
    pub gelu: Gelu,
    /// Whether the branches are scaled.
    pub scaled: bool,
}

impl VitBlockConfig {
    /// A block with layers from `linear`, which is given the numbers of inputs and outputs.
    pub fn init(&self, init: &Initializer, linear: impl Fn(usize, usize) -> Linear) -> VitBlock {
        let Self { width, heads, hidden, epsilon, gelu, scaled } = *self;
        VitBlock {
            norm1: LayerNorm::new(width, epsilon, init),
            attn: VitAttention::new(heads, || linear(width, width)),
            scale1: scaled.then(|| init.ones([width])),
            norm2: LayerNorm::new(width, epsilon, init),
            mlp: VitMlp::new(linear(width, hidden), linear(hidden, width), gelu),
            scale2: scaled.then(|| init.ones([width])),
        }
    }

    /// Number of a block's parameters.
    pub fn parameters(&self) -> u64 {
        let Self { width, hidden, scaled, .. } = *self;
        let layers = 4 * (width * width + width) + 2 * width * hidden + hidden + width;
        (layers + 4 * width + if scaled { 2 * width } else { 0 }) as u64
    }

    /// Multiplications with addition in a block's matrix products, for one sequence.
    pub fn multiply_adds(&self, tokens: usize) -> u64 {
        let Self { width, hidden, .. } = *self;
        (tokens * (4 * width * width + 2 * width * hidden + 2 * tokens * width)) as u64
    }
}

impl VitBlock {
    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + scaled(self.attn.forward(self.norm1.forward(x)), self.scale1.as_ref());
        x.clone() + scaled(self.mlp.forward(self.norm2.forward(x)), self.scale2.as_ref())
    }
}

fn scaled(x: Tensor<3>, scale: Option<&Param<Tensor<1>>>) -> Tensor<3> {
    match scale {
        Some(scale) => x * scale.val().unsqueeze(),
        None => x,
    }
}
