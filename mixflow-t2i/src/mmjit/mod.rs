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
use mixflow::backbones::embed::{Constant, RotaryHalves, Rotation, TimestepEmbedding, patchify, unpatchify};
use mixflow::backbones::{Backbone, Convolution, Invalid, Linear, Precision};

use crate::TextEmbedding;
use crate::shape::without;

const EPSILON: f64 = 1e-6;

/// `MM-JiT`: a transformer on the pixels of an image and the tokens of a text, which attend to each other. It predicts the
/// image, and is not told the time: how noisy its input is, it sees.
///
/// A token of the text that is all zeros is none: a learned token stands in its place, for prompts that are shorter and for
/// no prompt.
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
    /// Places of the image's tokens, `[tokens, width]`.
    #[module(skip)]
    table: Constant<2>,
    /// Angles of image and text.
    #[module(skip)]
    angles: [RotaryHalves; 2],
    input_size: usize,
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
pub struct Places {
    /// Of the image's tokens, by row and column.
    pub image: Rotation,
    /// Of the text's tokens, by number.
    pub text: Rotation,
}

impl MmJit {
    /// Side of the images that the network is made for.
    pub fn input_size(&self) -> usize {
        self.input_size
    }

    /// Side of a patch.
    pub fn patch(&self) -> usize {
        self.patch
    }

    /// Patches along a side, least and most: it is for images of one size.
    pub fn sides(&self) -> [usize; 2] {
        [self.input_size / self.patch; 2]
    }

    /// Image to tokens with their places: `[batch, channels, side, side]` to `[batch, tokens, width]`.
    ///
    /// # Panics
    /// If the image is not of [`input_size`](Self::input_size).
    pub fn embed(&self, x: Tensor<4>) -> Tensor<3> {
        let ([_, _, height, width], side) = (x.dims(), self.input_size);
        assert!([height, width] == [side; 2], "the network is for {side} x {side} pixels, found {height} x {width}");
        let places = self.table.on(&x.device()).unsqueeze();
        let Bottleneck { proj1, proj2 } = &self.img_embedder;
        let channels = proj1.weight.lazy_shape()[1];
        proj2.of_patches(proj1.of_patches(patchify(x, channels, self.patch))) + places
    }

    /// Tokens of a text to this network's, the learned one where there is none: `[batch, tokens, context width]` to
    /// `[batch, tokens, width]`.
    pub fn embed_text(&self, tokens: Tensor<3>) -> Tensor<3> {
        let none = tokens.clone().abs().max_dim(2).equal_elem(0.0);
        let none = none.expand(tokens.shape());
        let learned = self.mask_token.val().expand(tokens.shape());
        self.txt_embedder.forward(tokens.mask_where(none, learned))
    }

    /// The angles of images and of a text of so many tokens, where `x` is.
    pub fn places(&self, x: &Tensor<3>, text: usize) -> Places {
        let [image, of_text] = &self.angles;
        Places { image: image.on(x.dims()[1], &x.device()), text: of_text.on(text, &x.device()) }
    }
}

impl Backbone for MmJit {
    type Condition = TextEmbedding;

    /// The time is not looked at.
    fn forward(&self, x: Tensor<4>, _: Tensor<1>, text: TextEmbedding) -> Tensor<4> {
        let (image, text) = (self.embed(x), self.embed_text(text.tokens));
        let places = self.places(&image, text.dims()[1]);
        let text = self.txt_preamble_blocks.iter().fold(text, |text, block| block.forward(text, &places.text));
        let (image, _) =
            (self.double_blocks.iter()).fold((image, text), |(image, text), block| block.forward(image, text, &places));
        let FinalLayer { norm_final, linear } = &self.final_layer;
        let patches = linear.forward_of(norm_final.forward(image)).value();
        unpatchify(patches, [self.input_size / self.patch; 2], self.patch)
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        let double_blocks = self.double_blocks.iter().map(DoubleBlock::recomputing).collect();
        Some(Self { double_blocks, ..self.clone() })
    }

    fn without_blocks(&self, blocks: &[usize]) -> Result<Self, Invalid> {
        Ok(Self { double_blocks: without(&self.double_blocks, blocks)?, ..self.clone() })
    }
}
