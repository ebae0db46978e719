//! Attention of image and text to each other.

use burn::module::Module;
use burn::tensor::Tensor;
use mixflow::backbones::Linear;
use mixflow::backbones::block::{HeadNorm, NormKind, Projection, SplitAttention, SplitProjection};
use mixflow::backbones::embed::Rotation;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::ops::Recomputed;

/// One attention over the tokens of image and text, with projections of each.
#[derive(Module, Debug)]
pub struct JointAttention {
    /// That of the image.
    pub image: SplitAttention,
    /// Queries, keys and values of the text.
    pub text: SplitProjection,
    /// Normalises the text's queries, where the network does that.
    pub text_q_norm: Option<HeadNorm>,
    /// Normalises the text's keys.
    pub text_k_norm: Option<HeadNorm>,
    /// What the text takes from it; none in the last block.
    pub text_proj: Option<Linear>,
    heads: usize,
}

impl JointAttention {
    /// Xavier-uniform weights, zero biases. `last`: the text takes nothing from it.
    pub fn new(width: usize, heads: usize, qk_norm: bool, last: bool, init: &Initializer) -> Self {
        let linear = |inputs, outputs| init.xavier_linear(inputs, outputs);
        let norm = || qk_norm.then(|| HeadNorm::new(width / heads, NormKind::Rms, init));
        Self {
            image: image_attention(width, heads, qk_norm, init),
            text: SplitProjection::new(width, linear),
            text_q_norm: norm(),
            text_k_norm: norm(),
            text_proj: (!last).then(|| linear(width, width)),
            heads,
        }
    }

    /// What image and text take from each other; the text nothing in the last block. `places` turn the image's tokens.
    ///
    /// # Shapes
    /// - image, context and outputs: `[batch, tokens, width]`, with `tokens` and `text_tokens` tokens
    pub fn forward(
        &self,
        image: Recomputed,
        context: Recomputed,
        [tokens, text_tokens]: [usize; 2],
        places: Option<&Rotation>,
    ) -> (Recomputed, Option<Recomputed>) {
        let text = self.text.packed(context);
        let text = HeadNorm::queries_and_keys(&self.text_q_norm, &self.text_k_norm, text, self.heads);
        let image = self.image.normed_and_rotated(self.image.qkv.packed(image), places);
        let both = image.zip_map(text, |image, text| Tensor::cat(vec![image, text], 1));
        let mixed = self.image.attend(both);
        let image = self.image.proj.forward_of(mixed.clone().map(move |mixed| mixed.narrow(1, 0, tokens)));
        let of_text = move |mixed: Tensor<3>| mixed.narrow(1, tokens, text_tokens);
        let text = self.text_proj.as_ref().map(|proj| proj.forward_of(mixed.map(of_text)));
        (image, text)
    }
}

/// Attention of the image, Xavier-uniform weights and zero biases.
pub(super) fn image_attention(width: usize, heads: usize, qk_norm: bool, init: &Initializer) -> SplitAttention {
    let attention = SplitAttention::new(width, heads, |inputs, outputs| init.xavier_linear(inputs, outputs));
    if qk_norm { attention.with_qk_norm(NormKind::Rms, init) } else { attention }
}
