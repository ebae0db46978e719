//! A transformer block that normalises first.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::ops::AttentionModuleOptions;

use super::LayerNorm;
use crate::Linear;
use crate::block::{Attention, FeedForward, Gelu, Mlp, Projection, SplitProjection};
use crate::init::Initializer;
use crate::ops::Recomputed;
use crate::sizes::block_multiply_adds;

/// Attention and perceptron, each on normalised tokens and added to them.
#[derive(Module, Debug)]
pub struct VitBlock<P: Module = SplitProjection> {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: Attention<P>,
    /// Scale of what attention adds, `[width]`, in networks that have one.
    pub scale1: Option<Param<Tensor<1>>>,
    /// Before the perceptron.
    pub norm2: LayerNorm,
    /// Perceptron.
    pub mlp: Mlp,
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
    /// Whether tokens see only those before them.
    pub causal: bool,
}

impl VitBlockConfig {
    /// A block with layers from `linear`, which is given the numbers of inputs and outputs.
    pub fn init<P: Projection>(&self, init: &Initializer, linear: impl Fn(usize, usize) -> Linear) -> VitBlock<P> {
        let Self { width, heads, hidden, epsilon, gelu, scaled, causal } = *self;
        let scores = AttentionModuleOptions { is_causal: causal, ..Default::default() };
        VitBlock {
            norm1: LayerNorm::new(width, epsilon, init),
            attn: Attention::new(width, heads, &linear).with_scores(scores),
            scale1: scaled.then(|| init.ones([width])),
            norm2: LayerNorm::new(width, epsilon, init),
            mlp: Mlp::new(width, hidden, gelu, linear),
            scale2: scaled.then(|| init.ones([width])),
        }
    }

    /// Multiplications with addition in a block's matrix products, for one sequence.
    pub fn multiply_adds(&self, tokens: usize) -> u64 {
        block_multiply_adds([self.width, self.hidden], 2, tokens) as u64
    }
}

impl<P: Projection> VitBlock<P> {
    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let attended = self.attn.forward(self.norm1.recomputed(x.clone()), None);
        self.after_attention(x, attended)
    }

    /// [`forward`](Self::forward) with numbers added to the attention scores, as
    /// [`Attention::forward_biased`] takes them.
    pub fn forward_biased(&self, x: Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let attended = self.attn.forward_biased(self.norm1.forward(x.clone()), None, Some(bias));
        self.after_attention(x, attended.into())
    }

    fn after_attention(&self, x: Tensor<3>, attended: Recomputed) -> Tensor<3> {
        let x = x + scaled(attended, self.scale1.as_ref());
        x.clone() + scaled(self.mlp.forward(self.norm2.recomputed(x)), self.scale2.as_ref())
    }
}

fn scaled(x: Recomputed, scale: Option<&Param<Tensor<1>>>) -> Tensor<3> {
    match scale {
        Some(scale) => x.map_with([scale.val().unsqueeze()], |x, [scale]| x * scale).value(),
        None => x.value(),
    }
}
