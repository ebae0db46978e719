//! Attention of image and text to each other, and of the image to itself.

use burn::module::Module;
use burn::tensor::Tensor;
use mixflow::backbones::block::{HeadNorm, NormKind};
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Linear, ops};

/// One attention over the tokens of image and text, with projections of each.
#[derive(Module, Debug)]
pub struct JointAttention {
    /// Normalises the image's queries, where the network does that.
    pub norm_q: Option<HeadNorm>,
    /// Normalises the image's keys.
    pub norm_k: Option<HeadNorm>,
    /// Queries of the image, `width` to `width`, as all of these.
    pub to_q: Linear,
    /// Keys of the image.
    pub to_k: Linear,
    /// Values of the image.
    pub to_v: Linear,
    /// Keys of the text.
    pub add_k_proj: Linear,
    /// Values of the text.
    pub add_v_proj: Linear,
    /// Queries of the text.
    pub add_q_proj: Linear,
    /// What the image takes from it.
    pub to_out: Linear,
    /// What the text takes from it; none in the last block.
    pub to_add_out: Option<Linear>,
    /// Normalises the text's queries.
    pub norm_added_q: Option<HeadNorm>,
    /// Normalises the text's keys.
    pub norm_added_k: Option<HeadNorm>,
    heads: usize,
}

impl JointAttention {
    /// Xavier-uniform weights, zero biases. `last`: the text takes nothing from it.
    pub fn new(width: usize, heads: usize, qk_norm: bool, last: bool, init: &Initializer) -> Self {
        let linear = || init.xavier_linear(width, width);
        let norm = || qk_norm.then(|| HeadNorm::new(width / heads, NormKind::Rms, init));
        Self {
            norm_q: norm(),
            norm_k: norm(),
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            add_k_proj: linear(),
            add_v_proj: linear(),
            add_q_proj: linear(),
            to_out: linear(),
            to_add_out: (!last).then(linear),
            norm_added_q: norm(),
            norm_added_k: norm(),
            heads,
        }
    }

    /// What image and text take from each other; the text nothing in the last block.
    ///
    /// # Shapes
    /// - image, context and outputs: `[batch, tokens, width]`
    pub fn forward(&self, image: Tensor<3>, context: Tensor<3>) -> (Tensor<3>, Option<Tensor<3>>) {
        let [tokens, text_tokens] = [image.dims()[1], context.dims()[1]];
        let norm = |q, k, qkv| HeadNorm::queries_and_keys(q, k, qkv, self.heads);
        let image = norm(&self.norm_q, &self.norm_k, Linear::forward_all([&self.to_q, &self.to_k, &self.to_v], image));
        let added = [&self.add_q_proj, &self.add_k_proj, &self.add_v_proj];
        let context = norm(&self.norm_added_q, &self.norm_added_k, Linear::forward_all(added, context));
        let mixed = ops::attention(Tensor::cat(vec![image, context], 1), self.heads);
        let image = self.to_out.forward(mixed.clone().narrow(1, 0, tokens));
        let context = self.to_add_out.as_ref().map(|out| out.forward(mixed.narrow(1, tokens, text_tokens)));
        (image, context)
    }
}

/// Attention among the tokens of the image.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Normalises the queries, where the network does that.
    pub norm_q: Option<HeadNorm>,
    /// Normalises the keys.
    pub norm_k: Option<HeadNorm>,
    /// Queries, `width` to `width`, as all of these.
    pub to_q: Linear,
    /// Keys.
    pub to_k: Linear,
    /// Values.
    pub to_v: Linear,
    /// What is taken from it.
    pub to_out: Linear,
    heads: usize,
}

impl SelfAttention {
    /// Xavier-uniform weights, zero biases.
    pub fn new(width: usize, heads: usize, qk_norm: bool, init: &Initializer) -> Self {
        let linear = || init.xavier_linear(width, width);
        let norm = || qk_norm.then(|| HeadNorm::new(width / heads, NormKind::Rms, init));
        Self { norm_q: norm(), norm_k: norm(), to_q: linear(), to_k: linear(), to_v: linear(), to_out: linear(), heads }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let qkv = Linear::forward_all([&self.to_q, &self.to_k, &self.to_v], x);
        let qkv = HeadNorm::queries_and_keys(&self.norm_q, &self.norm_k, qkv, self.heads);
        self.to_out.forward(ops::attention(qkv, self.heads))
    }
}
