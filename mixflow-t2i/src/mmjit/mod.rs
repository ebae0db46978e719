//! The transformer of MiniT2I.

mod block;
mod config;
mod diffusers;
mod keys;

pub use block::{DoubleBlock, Stream};
pub use config::MmJitConfig;
pub use keys::official_key;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use mixflow::backbones::block::RmsNorm;
use mixflow::backbones::embed::{Rotation, TimestepEmbedding, patchify, sin_cos_2d_on, unpatchify};
use mixflow::backbones::ops::Pairs;
use mixflow::backbones::{Backbone, Convolution, Invalid, Linear, Precision};

use crate::TextEmbedding;
use crate::shape::remove_blocks;

const EPSILON: f64 = 1e-6;

/// `MM-JiT`: a transformer on the pixels of an image and the tokens of a text, which attend to each other. It predicts the
/// image, and is not told the time: how noisy its input is, it sees.
///
/// A token of the text that is all zeros is none: a learned token stands in its place, for prompts that are shorter and for
/// no prompt. Images may have other sizes than those that it is made for: rows and columns are counted on. The published code
/// has squares of one size alone.
///
/// # Source
/// `Hope7Happiness/minit2i-torch` at e54e15d, `diffusers/mmdit.py`, MIT; Li and He 2025 (arXiv 2511.13720) for predictions of
/// pixels through a bottleneck.
#[derive(Module, Debug)]
pub struct MmJit {
    /// Stands where the text has no token, `[1, 1, context width]`.
    pub mask_token: Param<Tensor<3>>,
    /// Pixels to tokens.
    pub img_embedder: Bottleneck,
    /// Tokens of the text to this network's width.
    pub txt_embedder: Linear,
    /// Never used nor trained: published files have it.
    pub t_embedder: TimestepEmbedding,
    /// Likewise.
    pub pooled_embedder: Linear,
    /// Blocks of the text alone.
    pub txt_preamble_blocks: Vec<Stream>,
    /// Blocks of both.
    pub double_blocks: Vec<DoubleBlock>,
    /// Tokens to patches.
    pub final_layer: FinalLayer,
    /// Width of a head.
    head: usize,
    patch: usize,
}

/// Patches to fewer numbers than they have, and from there to tokens.
#[derive(Module, Debug)]
pub struct Bottleneck {
    /// `[bottleneck, channels, patch, patch]`, without bias.
    pub proj1: Convolution,
    /// `[width, bottleneck, 1, 1]`
    pub proj2: Convolution,
}

/// Normalisation, then tokens to patches.
#[derive(Module, Debug)]
pub struct FinalLayer {
    /// Before the projection.
    pub norm_final: RmsNorm,
    /// `width` to the numbers of a patch, channel fastest.
    pub linear: Linear,
}

/// Where tokens stand, as angles on a device.
#[derive(Clone, Debug)]
pub struct RotaryEmbeddings {
    /// Of the image's tokens, by row and column.
    pub image: Rotation,
    /// Of the text's tokens, by number.
    pub text: Rotation,
}

impl MmJit {
    /// Image to tokens with their places: `[batch, channels, height, width]` to `[batch, tokens, width]`.
    pub fn embed(&self, x: Tensor<4>) -> Tensor<3> {
        let Bottleneck { proj1, proj2 } = &self.img_embedder;
        let (width, channels) = (proj2.weight.lazy_shape()[0], proj1.weight.lazy_shape()[1]);
        let places = sin_cos_2d_on(self.grid(&x), width, &x.device()).unsqueeze();
        proj2.of_patches(proj1.of_patches(patchify(x, channels, self.patch))) + places
    }

    /// Patches of an image: rows and columns.
    fn grid(&self, x: &Tensor<4>) -> [usize; 2] {
        let [_, _, height, width] = x.dims();
        [height, width].map(|side| side / self.patch)
    }

    /// Tokens of a text to this network's, the learned one where there is none: `[batch, tokens, context width]` to
    /// `[batch, tokens, width]`.
    pub fn embed_text(&self, tokens: Tensor<3>) -> Tensor<3> {
        let none = tokens.clone().abs().max_dim(2).equal_elem(0.0);
        let none = none.expand(tokens.shape());
        let learned = self.mask_token.val().expand(tokens.shape());
        self.txt_embedder.forward(tokens.mask_where(none, learned))
    }

    /// The angles of such images and of a text of so many tokens: `x` is `[batch, channels, height, width]`.
    pub fn rotary_embeddings(&self, x: &Tensor<4>, text: usize) -> RotaryEmbeddings {
        let ([rows, columns], head, device) = (self.grid(x), self.head, &x.device());
        RotaryEmbeddings {
            image: Rotation::of_grid(&[[rows, head / 2], [columns, head / 2]], Pairs::Halves, device),
            text: Rotation::of_grid(&[[text, head]], Pairs::Halves, device),
        }
    }
}

impl Backbone for MmJit {
    type Condition = TextEmbedding;

    /// The time is not looked at.
    fn forward(&self, x: Tensor<4>, _: Tensor<1>, text: TextEmbedding) -> Tensor<4> {
        let text = self.embed_text(text.tokens);
        let (grid, places) = (self.grid(&x), self.rotary_embeddings(&x, text.dims()[1]));
        let text = self.txt_preamble_blocks.iter().fold(text, |text, block| block.forward(text, &places.text));
        let (image, _) = (self.double_blocks.iter())
            .fold((self.embed(x), text), |(image, text), block| block.forward(image, text, &places));
        let FinalLayer { norm_final, linear } = &self.final_layer;
        let patches = linear.forward_of(norm_final.forward(image)).value();
        unpatchify(patches, grid, self.patch)
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        let double_blocks = self.double_blocks.iter().map(DoubleBlock::recomputing).collect();
        Some(Self { double_blocks, ..self.clone() })
    }

    fn without_blocks(&self, blocks: &[usize]) -> Result<Self, Invalid> {
        Ok(Self { double_blocks: remove_blocks(&self.double_blocks, blocks)?, ..self.clone() })
    }
}
