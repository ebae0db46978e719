//! The transformer of Stable Diffusion 3 and 3.5.

mod attention;
mod block;
mod config;
mod diffusers;
mod keys;
mod load;

pub use attention::JointAttention;
pub use block::{JointBlock, Modulation};
pub use config::MmDitConfig;
pub(crate) use keys::PARTS;
pub use keys::{adapter, official_key};

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use mixflow::backbones::embed::{PatchEmbedding, sinusoidal, unpatchify};
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Backbone, Invalid, Linear, Precision, ops};

use crate::TextEmbedding;
use crate::shape::remove_blocks;

/// Width of the sinusoidal features of a time.
pub(crate) const FREQUENCIES: usize = 256;

/// Steps into which the published networks divide the time from data to noise.
pub(crate) const STEPS: f64 = 1000.0;

pub(crate) const EPSILON: f64 = 1e-6;

/// `MMDiT`: a transformer in which tokens of an image and of a text, each with weights of their own, attend to each other;
/// with a second attention among the image's tokens in some blocks, `MMDiT-X`.
///
/// Time is the share of noise, from 0 (data) to 1 (noise): the time of
/// [`Reversed`](mixflow::schedules::Reversed)`(`[`Linear`](mixflow::schedules::Linear)`)`.
///
/// # Source
/// Esser et al. 2024 (arXiv 2403.03206), figure 2; `Stability-AI/sd3.5` at fbf8f48, `mmditx.py`; under the names of
/// `SD3Transformer2DModel` of `diffusers` 0.42.1.
#[derive(Module, Debug)]
pub struct MmDit {
    /// Places of a square of `table` by `table` tokens, `[1, table², width]`; stored with the weights, never trained. An
    /// image takes the middle of it.
    pub pos_embed: Param<Tensor<3>>,
    /// Latents to tokens.
    pub x_embedder: PatchEmbedding,
    /// Time to vector.
    pub timestep_embedder: MlpEmbedder,
    /// The text as a whole to vector.
    pub text_embedder: MlpEmbedder,
    /// Tokens of the text to this network's width.
    pub context_embedder: Linear,
    /// The transformer.
    pub transformer_blocks: Vec<JointBlock>,
    /// `width` to `2 * width`: scale, shift of the last normalisation.
    pub norm_out: Modulation,
    /// Tokens to patches.
    pub proj_out: Linear,
    table: usize,
    patch: usize,
}

/// A vector through two linear layers with SiLU between them.
#[derive(Module, Debug)]
pub struct MlpEmbedder {
    /// To `width`.
    pub linear_1: Linear,
    /// `width` to `width`
    pub linear_2: Linear,
}

impl MlpEmbedder {
    /// Weights `N(0, 0.02²)`, zero biases.
    pub fn new(inputs: usize, width: usize, init: &Initializer) -> Self {
        Self { linear_1: init.normal_linear(inputs, width, 0.02), linear_2: init.normal_linear(width, width, 0.02) }
    }

    /// # Shapes
    /// - x: `[batch, inputs]`
    /// - output: `[batch, width]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.linear_2.forward(ops::silu(self.linear_1.forward(x)))
    }
}

impl MmDit {
    /// Latents to tokens with their places: `[batch, channels, height, width]` to `[batch, tokens, width]`.
    ///
    /// # Panics
    /// If the latents have more tokens along a side than the table has places.
    pub fn embed(&self, x: Tensor<4>) -> Tensor<3> {
        let [_, _, height, width] = x.dims();
        self.x_embedder.forward(x) + self.cropped_pos_embed([height / self.patch, width / self.patch])
    }

    /// The vector that modulates every block, before its SiLU: `[batch, width]`.
    ///
    /// # Shapes
    /// - time: `[batch]`, from 0 (data) to 1 (noise)
    /// - pooled: `[batch, pooled width]`
    pub fn time_text_embed(&self, time: Tensor<1>, pooled: Tensor<2>) -> Tensor<2> {
        self.timestep_embedder.forward(sinusoidal(time * STEPS, FREQUENCIES)) + self.text_embedder.forward(pooled)
    }

    /// Tokens after the last block to latents of this size: `[batch, tokens, width]` to `[batch, channels, height, width]`.
    /// `modulation`: `[batch, width]`, SiLU already applied.
    pub fn decode(&self, tokens: Tensor<3>, modulation: Tensor<2>, [height, width]: [usize; 2]) -> Tensor<4> {
        let [scale, shift] = self.norm_out.forward(modulation);
        let patches = self.proj_out.forward(ops::modulated_layer_norm(tokens, shift, scale, EPSILON));
        unpatchify(patches, [height / self.patch, width / self.patch], self.patch)
    }

    /// The middle of the table, `[1, rows * columns, width]`.
    fn cropped_pos_embed(&self, [rows, columns]: [usize; 2]) -> Tensor<3> {
        let table = self.table;
        assert!(
            rows <= table && columns <= table,
            "latents of {rows} x {columns} tokens: the network has places for {table} x {table}"
        );
        let width = self.pos_embed.lazy_shape()[2];
        let places = self.pos_embed.val().reshape([table, table, width]);
        places.narrow(0, (table - rows) / 2, rows).narrow(1, (table - columns) / 2, columns).reshape([
            1,
            rows * columns,
            width,
        ])
    }
}

impl Backbone for MmDit {
    type Condition = TextEmbedding;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, text: TextEmbedding) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let modulation = ops::silu(self.time_text_embed(time, text.pooled));
        let streams = (self.embed(x), self.context_embedder.forward(text.tokens));
        let (tokens, _) = (self.transformer_blocks.iter())
            .fold(streams, |(image, context), block| block.forward(image, context, modulation.clone(), None));
        self.decode(tokens, modulation, [height, width])
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        let transformer_blocks = self.transformer_blocks.iter().map(JointBlock::recomputing).collect();
        Some(Self { transformer_blocks, ..self.clone() })
    }

    fn without_blocks(&self, blocks: &[usize]) -> Result<Self, Invalid> {
        Ok(Self { transformer_blocks: remove_blocks(&self.transformer_blocks, blocks)?, ..self.clone() })
    }
}
