//! The blocks in which image and text are one.

use burn::module::Module;
use burn::tensor::Tensor;
use mixflow::backbones::block::{ModulatedNorm, NormKind, Projection, SplitAttention, recompute};
use mixflow::backbones::embed::Rotation;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Linear, ops};

use crate::mmdit::Modulation;

/// Attention and a perceptron beside each other, of the same modulated tokens, with one last layer of both.
///
/// # Source
/// Dehghani et al. 2023 (arXiv 2302.05442), section 2.1, parallel layers; `FluxSingleTransformerBlock` of `diffusers` 0.42.1.
#[derive(Module, Debug)]
pub struct SingleBlock {
    /// Shift, scale, gate.
    pub norm: Modulation,
    /// Attention. Its last layer takes what the perceptron has hidden, too: `width` and `4 * width` to `width`.
    pub attn: SplitAttention,
    /// `width` to `4 * width`, before the activation.
    pub proj_mlp: Linear,
    recompute: bool,
}

impl SingleBlock {
    /// Xavier-uniform weights; the modulation starts at zero, so that the block starts as the identity.
    pub fn new([width, heads]: [usize; 2], init: &Initializer) -> Self {
        let linear = |inputs, outputs| init.xavier_linear(inputs, outputs);
        let mut attn = SplitAttention::new(width, heads, linear).with_qk_norm(NormKind::Rms, init);
        attn.proj = linear(5 * width, width);
        Self { norm: Modulation::new(width, 3, init), attn, proj_mlp: linear(width, 4 * width), recompute: false }
    }

    /// The same block, which keeps its inputs alone for the backward pass: [`recompute`].
    #[must_use]
    pub fn recomputing(&self) -> Self {
        Self { recompute: true, ..self.clone() }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - modulation: `[batch, width]`, SiLU already applied
    /// - places: of as many tokens
    pub fn forward(&self, x: Tensor<3>, modulation: Tensor<2>, places: &Rotation) -> Tensor<3> {
        if self.recompute {
            let (again, places) = (Self { recompute: false, ..self.clone() }, places.clone());
            return recompute(&again, x, modulation.unsqueeze_dim(1), move |block, x, modulation| {
                block.forward(x, modulation.squeeze_dim(1), &places)
            });
        }
        let [shift, scale, gate] = self.norm.forward(modulation);
        let normed = ModulatedNorm { weight: None }.forward(x.clone(), shift, scale);
        let mixed = self.attn.attend(self.attn.normed_and_rotated(self.attn.qkv.packed(normed.clone()), Some(places)));
        let hidden = self.proj_mlp.forward_of(normed).map(ops::gelu_tanh);
        let both = mixed.zip_map(hidden, |mixed, hidden| Tensor::cat(vec![mixed.cast(hidden.dtype()), hidden], 2));
        ops::gated_residual_of(x, self.attn.proj.forward_of(both), gate)
    }
}
