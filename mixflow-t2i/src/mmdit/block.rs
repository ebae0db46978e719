//! The blocks of the transformer.

use burn::module::Module;
use burn::tensor::Tensor;
use mixflow::backbones::block::{FeedForward, Gelu, Mlp, ModulatedNorm, SplitAttention, chunks, recompute};
use mixflow::backbones::embed::Rotation;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Linear, ops};

use super::JointAttention;
use super::attention::image_attention;

/// Shifts, scales and gates from the vector of time and text.
#[derive(Module, Debug)]
pub struct Modulation {
    /// `width` to as many times `width` as there are.
    pub linear: Linear,
}

impl Modulation {
    /// `parts` vectors that are zero at first.
    pub fn new(width: usize, parts: usize, init: &Initializer) -> Self {
        Self { linear: init.zero_linear(width, parts * width) }
    }

    /// # Shapes
    /// - modulation: `[batch, width]`, SiLU already applied
    /// - outputs: `[batch, width]`
    pub fn forward<const N: usize>(&self, modulation: Tensor<2>) -> [Tensor<2>; N] {
        chunks(self.linear.forward(modulation))
    }
}

/// Attention of image and text to each other and a perceptron for each, all modulated and gated.
///
/// # Source
/// Esser et al. 2024 (arXiv 2403.03206), figure 2; `JointTransformerBlock` of `diffusers` 0.42.1.
#[derive(Module, Debug)]
pub struct JointBlock {
    /// Of the image: shift, scale, gate of attention, then of the perceptron, then of `attn2` if there is one.
    pub norm1: Modulation,
    /// Of the text: as for the image; scale and shift alone in the last block.
    pub norm1_context: Modulation,
    /// Attention of both.
    pub attn: JointAttention,
    /// Attention of the image alone, beside the other.
    pub attn2: Option<SplitAttention>,
    /// Perceptron of the image.
    pub ff: Mlp,
    /// Perceptron of the text; none in the last block, after which the text is not needed.
    pub ff_context: Option<Mlp>,
    recompute: bool,
}

impl JointBlock {
    /// Xavier-uniform weights; modulations start at zero, so that the block starts as the identity. `dual`: with `attn2`.
    /// `last`: without what is only for the text.
    pub fn new([width, heads]: [usize; 2], qk_norm: bool, dual: bool, last: bool, init: &Initializer) -> Self {
        let mlp = || Mlp::new(width, 4 * width, Gelu::Tanh, |inputs, outputs| init.xavier_linear(inputs, outputs));
        Self {
            norm1: Modulation::new(width, if dual { 9 } else { 6 }, init),
            norm1_context: Modulation::new(width, if last { 2 } else { 6 }, init),
            attn: JointAttention::new(width, heads, qk_norm, last, init),
            attn2: dual.then(|| image_attention(width, heads, qk_norm, init)),
            ff: mlp(),
            ff_context: (!last).then(mlp),
            recompute: false,
        }
    }

    /// The same block, which keeps its inputs alone for the backward pass: [`recompute`].
    #[must_use]
    pub fn recomputing(&self) -> Self {
        Self { recompute: true, ..self.clone() }
    }

    /// Image and text after this block. The last block leaves the text as it is. `places` turn the image's queries and keys.
    ///
    /// # Shapes
    /// - image, context and outputs: `[batch, tokens, width]`
    /// - modulation: `[batch, width]`, SiLU already applied
    pub fn forward(
        &self,
        image: Tensor<3>,
        context: Tensor<3>,
        modulation: Tensor<2>,
        places: Option<&Rotation>,
    ) -> (Tensor<3>, Tensor<3>) {
        if self.recompute {
            return self.forward_again(image, context, modulation, places);
        }
        let tokens = [image.dims()[1], context.dims()[1]];
        let norm = |x: &Tensor<3>, shift, scale| ModulatedNorm { weight: None }.forward(x.clone(), shift, scale);
        let ([shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp], second) = match &self.attn2 {
            None => (self.norm1.forward(modulation.clone()), None),
            Some(attn2) => {
                let [a, b, c, d, e, f, shift, scale, gate] = self.norm1.forward(modulation.clone());
                ([a, b, c, d, e, f], Some((attn2.forward(norm(&image, shift, scale), None), gate)))
            }
        };
        let (shift, scale, gates) = match &self.ff_context {
            Some(ff) => {
                let [shift, scale, gate_attn, shift_mlp, scale_mlp, gate_mlp] = self.norm1_context.forward(modulation);
                (shift, scale, Some((ff, gate_attn, shift_mlp, scale_mlp, gate_mlp)))
            }
            None => {
                let [scale, shift] = self.norm1_context.forward(modulation);
                (shift, scale, None)
            }
        };
        let (for_image, for_context) =
            self.attn.forward(norm(&image, shift_attn, scale_attn), norm(&context, shift, scale), tokens, places);

        let mut image = ops::gated_residual_of(image, for_image, gate_attn);
        if let Some((y, gate)) = second {
            image = ops::gated_residual_of(image, y, gate);
        }
        let y = self.ff.forward(norm(&image, shift_mlp, scale_mlp));
        let image = ops::gated_residual_of(image, y, gate_mlp);

        let context = match (gates, for_context) {
            (Some((ff, gate_attn, shift_mlp, scale_mlp, gate_mlp)), Some(y)) => {
                let context = ops::gated_residual_of(context, y, gate_attn);
                let y = ff.forward(norm(&context, shift_mlp, scale_mlp));
                ops::gated_residual_of(context, y, gate_mlp)
            }
            _ => context,
        };
        (image, context)
    }

    /// [`forward`](Self::forward) by [`recompute`], with image and text one after the other.
    fn forward_again(
        &self,
        image: Tensor<3>,
        context: Tensor<3>,
        modulation: Tensor<2>,
        places: Option<&Rotation>,
    ) -> (Tensor<3>, Tensor<3>) {
        let [tokens, text_tokens] = [image.dims()[1], context.dims()[1]];
        let apart = move |both: Tensor<3>| (both.clone().narrow(1, 0, tokens), both.narrow(1, tokens, text_tokens));
        let both = Tensor::cat(vec![image, context], 1);
        let (block, places) = (Self { recompute: false, ..self.clone() }, places.cloned());
        apart(recompute(&block, both, modulation.unsqueeze_dim(1), move |block, both, modulation| {
            let (image, context) = apart(both);
            let (image, context) = block.forward(image, context, modulation.squeeze_dim(1), places.as_ref());
            Tensor::cat(vec![image, context], 1)
        }))
    }
}
