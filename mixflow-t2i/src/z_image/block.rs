//! The blocks of the transformer.

use burn::module::Module;
use burn::tensor::Tensor;
use mixflow::backbones::Linear;
use mixflow::backbones::block::{
    FeedForward, NormKind, Projection, RmsNorm, SplitAttention, SplitSwiGlu, chunks, recompute,
};
use mixflow::backbones::embed::Rotation;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::ops::{self, Recomputed};

use super::EPSILON;

/// Attention and a perceptron, each normalised before and after it, and added; scaled and gated by the time, or not at all in a
/// block of the text alone. No layer of either has a bias.
///
/// # Source
/// `ZImageTransformerBlock` of `diffusers` 0.42.1.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub attention_norm1: RmsNorm,
    /// Attention.
    pub attention: SplitAttention,
    /// Of what attention gives.
    pub attention_norm2: RmsNorm,
    /// Before the perceptron.
    pub ffn_norm1: RmsNorm,
    /// The perceptron.
    pub feed_forward: SplitSwiGlu,
    /// Of what the perceptron gives.
    pub ffn_norm2: RmsNorm,
    /// The vector of the time to scale and gate of attention, then of the perceptron; none of the text.
    pub ada_ln: Option<Linear>,
    recompute: bool,
}

impl Block {
    /// Xavier-uniform weights; gates start at zero, so that a block with them starts as the identity. `vector` is the width of that
    /// of the time.
    pub fn new([width, heads, hidden]: [usize; 3], vector: Option<usize>, init: &Initializer) -> Self {
        let linear = |inputs, outputs| init.xavier_linear(inputs, outputs).without_bias();
        let norm = || RmsNorm::new(width, EPSILON, init);
        let attention = SplitAttention::new(width, heads, linear).with_qk_norm(NormKind::Rms, init);
        Self {
            attention_norm1: norm(),
            attention: attention.with_qk_epsilon(EPSILON),
            attention_norm2: norm(),
            ffn_norm1: norm(),
            feed_forward: SplitSwiGlu::new(width, hidden, linear),
            ffn_norm2: norm(),
            ada_ln: vector.map(|vector| init.zero_linear(vector, 4 * width)),
            recompute: false,
        }
    }

    /// The same block, which keeps its inputs alone for the backward pass: [`recompute`].
    #[must_use]
    pub fn recomputing(&self) -> Self {
        Self { recompute: true, ..self.clone() }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - time: `[batch, vector]`
    /// - places: of as many tokens
    pub fn forward(&self, x: Tensor<3>, time: Tensor<2>, places: &Rotation) -> Tensor<3> {
        if self.recompute {
            let (again, places) = (Self { recompute: false, ..self.clone() }, places.clone());
            return recompute(&again, x, time.unsqueeze_dim(1), move |block, x, time| {
                block.forward(x, time.squeeze_dim(1), &places)
            });
        }
        let [scale_attention, gate_attention, scale_mlp, gate_mlp] = match &self.ada_ln {
            Some(layer) => chunks(layer.forward(time)).map(Some),
            None => [None, None, None, None],
        };
        let qkv = self.attention.qkv.packed(normed(&self.attention_norm1, &x, scale_attention));
        let mixed = self.attention.attend(self.attention.normed_and_rotated(qkv, Some(places)));
        let y = self.attention_norm2.forward(self.attention.proj.forward_of(mixed));
        let x = add(x, y, gate_attention);
        let y = self.feed_forward.forward(normed(&self.ffn_norm1, &x, scale_mlp));
        add(x, self.ffn_norm2.forward(y), gate_mlp)
    }
}

fn normed(norm: &RmsNorm, x: &Tensor<3>, scale: Option<Tensor<2>>) -> Recomputed {
    match scale {
        Some(scale) => norm.scaled(x.clone(), scale),
        None => norm.forward(x.clone()),
    }
}

fn add(x: Tensor<3>, y: Recomputed, gate: Option<Tensor<2>>) -> Tensor<3> {
    match gate {
        Some(gate) => ops::gated_residual_of(x, y, gate.tanh()),
        None => x + y.value(),
    }
}
