//! What diffusion transformers are made of.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Linear;
use crate::block::{Attention, FeedForward, Mlp, ModulatedNorm, NormKind, recompute};
use crate::embed::RotaryTable;
use crate::init::Initializer;
use crate::ops;

/// Attention and perceptron, each modulated and gated by a condition (adaLN-Zero), one for the whole image or one for each
/// token. `M` is the perceptron.
///
/// # Source
/// Peebles and Xie 2023 (arXiv 2212.09748), section 3.2; with a condition a token: Zheng et al. 2025 (arXiv 2510.11690),
/// section 5, `LightningDDTBlock` of `bytetriper/RAE` at a4d18c4, `src/stage2/models/DDT.py`.
#[derive(Module, Debug)]
pub struct AdaLnBlock<M: Module = Mlp> {
    /// Before attention.
    pub norm1: ModulatedNorm,
    /// Before the perceptron.
    pub norm2: ModulatedNorm,
    /// Self-attention.
    pub attn: Attention,
    /// Perceptron.
    pub mlp: M,
    /// `width` to `6 * width`: shift, scale, gate of attention, then of the perceptron.
    pub ada_ln: Linear,
    pub(crate) recompute: bool,
}

impl<M: FeedForward + 'static> AdaLnBlock<M> {
    /// The modulation starts at zero, so that the block starts as the identity.
    pub fn new(width: usize, attn: Attention, mlp: M, norm: NormKind, init: &Initializer) -> Self {
        let norm = || ModulatedNorm::new(width, norm, init);
        let ada_ln = init.zero_linear(width, 6 * width);
        Self { norm1: norm(), norm2: norm(), attn, mlp, ada_ln, recompute: false }
    }

    /// The same block, which keeps its inputs alone for the backward pass: [`recompute`].
    #[must_use]
    pub fn recomputing(&self) -> Self {
        Self { recompute: true, ..self.clone() }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - modulation: `[batch, conditions, width]`, SiLU already applied; each of the conditions is that of
    ///   `tokens / conditions` tokens that follow each other
    pub fn forward(&self, x: Tensor<3>, modulation: Tensor<3>, places: Option<&RotaryTable>) -> Tensor<3> {
        if self.recompute {
            let again = (Self { recompute: false, ..self.clone() }, places.cloned());
            return recompute(&again, x, modulation, |(block, places), x, modulation| {
                block.forward(x, modulation, places.as_ref())
            });
        }
        let whole = x.dims();
        // Layers are given whole examples: what is dropped of one goes by its row.
        let (x, modulations) = by_condition(x, self.ada_ln.forward(modulation));
        let groups = x.dims();
        let [shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp] = chunks(modulations);
        let y = self.norm1.forward(x.clone(), shift_attn, scale_attn).map(move |y| y.reshape(whole));
        let y = self.attn.forward(y, places).map(move |y| y.reshape(groups));
        let x = ops::gated_residual_of(x, y, gate_attn);
        let y = self.norm2.forward(x.clone(), shift_mlp, scale_mlp).map(move |y| y.reshape(whole));
        let y = self.mlp.forward(y).map(move |y| y.reshape(groups));
        ops::gated_residual_of(x, y, gate_mlp).reshape(whole)
    }
}

/// Modulated normalisation, then tokens to patches.
#[derive(Module, Debug)]
pub struct FinalLayer {
    /// Before the projection.
    pub norm_final: ModulatedNorm,
    /// `width` to the numbers of a patch.
    pub linear: Linear,
    /// `width` to `2 * width`: shift, scale.
    pub ada_ln: Linear,
}

impl FinalLayer {
    /// All zeros: a new network predicts zero.
    pub fn new(width: usize, values: usize, norm: NormKind, init: &Initializer) -> Self {
        Self {
            norm_final: ModulatedNorm::new(width, norm, init),
            linear: init.zero_linear(width, values),
            ada_ln: init.zero_linear(width, 2 * width),
        }
    }

    /// # Shapes
    /// - x: `[batch, tokens, width]`
    /// - modulation: as for [`AdaLnBlock::forward`]
    /// - output: `[batch, tokens, values]`
    pub fn forward(&self, x: Tensor<3>, modulation: Tensor<3>) -> Tensor<3> {
        let whole = x.dims();
        let (x, modulations) = by_condition(x, self.ada_ln.forward(modulation));
        let [shift, scale] = chunks(modulations);
        self.linear.forward_of(self.norm_final.forward(x, shift, scale).map(move |x| x.reshape(whole))).value()
    }
}

/// Tokens, and what conditions are made into, as one example a condition: `[batch * conditions, ..]`.
fn by_condition(x: Tensor<3>, modulations: Tensor<3>) -> (Tensor<3>, Tensor<2>) {
    let ([batch, tokens, width], [_, conditions, _]) = (x.dims(), modulations.dims());
    assert!(tokens.is_multiple_of(conditions), "{tokens} tokens cannot share {conditions} conditions equally");
    (x.reshape([batch * conditions, tokens / conditions, width]), modulations.flatten(0, 1))
}

/// Splits `[batch, N * width]` into `N` times `[batch, width]`.
pub fn chunks<const N: usize>(x: Tensor<2>) -> [Tensor<2>; N] {
    let width = x.dims()[1] / N;
    std::array::from_fn(|i| x.clone().narrow(1, i * width, width))
}
