//! The transformer of FLUX.1.

mod block;
mod config;
mod diffusers;
mod keys;

pub use block::SingleBlock;
pub use config::FluxConfig;
pub use keys::{adapter, official_key};

use burn::module::Module;
use burn::tensor::Tensor;
use mixflow::backbones::embed::{Rotation, patchify, sinusoidal, unpatchify_planes};
use mixflow::backbones::ops::Pairs;
use mixflow::backbones::{Backbone, Invalid, Linear, Precision, ops};

use crate::TextEmbedding;
use crate::mmdit::{EPSILON, FREQUENCIES, JointBlock, MlpEmbedder, Modulation, STEPS};
use crate::shape::remove_blocks;

/// Side of a patch of the latents.
const PATCH: usize = 2;

/// `FLUX.1`: a transformer of [`JointBlock`]s, in which image and text have weights of their own, and of [`SingleBlock`]s, in
/// which they are one. The image's queries and keys turn with row and column; the text's do not. FLUX.1-dev is told a scale of
/// guidance, from which it was distilled; FLUX.1-schnell is not.
///
/// Time is the share of noise, from 0 (data) to 1 (noise): the time of
/// [`Reversed`](mixflow::schedules::Reversed)`(`[`Linear`](mixflow::schedules::Linear)`)`.
///
/// # Source
/// `black-forest-labs/flux` at 802fb47, `src/flux/model.py`; under the names of `FluxTransformer2DModel` of `diffusers` 0.42.1.
#[derive(Module, Debug)]
pub struct Flux {
    /// Patches to tokens.
    pub x_embedder: Linear,
    /// Time to vector.
    pub timestep_embedder: MlpEmbedder,
    /// Scale of guidance to vector, of networks that are told one.
    pub guidance_embedder: Option<MlpEmbedder>,
    /// The text as a whole to vector.
    pub text_embedder: MlpEmbedder,
    /// Tokens of the text to this network's width.
    pub context_embedder: Linear,
    /// Blocks in which image and text are apart.
    pub transformer_blocks: Vec<JointBlock>,
    /// Blocks in which they are one.
    pub single_transformer_blocks: Vec<SingleBlock>,
    /// `width` to `2 * width`: scale, shift of the last normalisation.
    pub norm_out: Modulation,
    /// Tokens to patches.
    pub proj_out: Linear,
    guidance: f64,
    axes: [usize; 3],
    channels: usize,
}

impl Flux {
    /// Latents to tokens: `[batch, channels, height, width]` to `[batch, tokens, width]`.
    pub fn embed(&self, x: Tensor<4>) -> Tensor<3> {
        self.x_embedder.forward(patchify(x, self.channels, PATCH))
    }

    /// Where the tokens of latents of this size stand, and tokens of text behind them, which stand nowhere.
    pub fn rotary_embeddings(&self, [height, width]: [usize; 2], x: &Tensor<3>) -> Rotation {
        let [none, rows, columns] = self.axes;
        let axes = [[1, none], [height / PATCH, rows], [width / PATCH, columns]];
        Rotation::of_grid(&axes, Pairs::Adjacent, &x.device())
    }

    /// The vector that modulates every block, before its SiLU: `[batch, width]`.
    ///
    /// # Shapes
    /// - time: `[batch]`, from 0 (data) to 1 (noise)
    /// - pooled: `[batch, pooled width]`
    pub fn time_text_embed(&self, time: Tensor<1>, pooled: Tensor<2>) -> Tensor<2> {
        let features = |number: Tensor<1>| sinusoidal(number * STEPS, FREQUENCIES);
        let told = time.zeros_like() + self.guidance;
        let vector = self.timestep_embedder.forward(features(time)) + self.text_embedder.forward(pooled);
        self.guidance_embedder.iter().fold(vector, |vector, embedder| vector + embedder.forward(features(told.clone())))
    }

    /// Tokens of the image after the last block to latents of this size: `[batch, tokens, width]` to
    /// `[batch, channels, height, width]`. `modulation`: `[batch, width]`, SiLU already applied.
    pub fn decode(&self, tokens: Tensor<3>, modulation: Tensor<2>, [height, width]: [usize; 2]) -> Tensor<4> {
        let [scale, shift] = self.norm_out.forward(modulation);
        let patches = self.proj_out.forward(ops::modulated_layer_norm(tokens, shift, scale, EPSILON));
        unpatchify_planes(patches, [height / PATCH, width / PATCH], PATCH)
    }
}

impl Backbone for Flux {
    type Condition = TextEmbedding;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, text: TextEmbedding) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let modulation = ops::silu(self.time_text_embed(time, text.pooled));
        let (image, text) = (self.embed(x), self.context_embedder.forward(text.tokens));
        let (tokens, places) = (image.dims()[1], self.rotary_embeddings([height, width], &image));
        let (image, text) = (self.transformer_blocks.iter())
            .fold((image, text), |(image, text), block| block.forward(image, text, modulation.clone(), Some(&places)));
        let places = places.and_still(text.dims()[1]);
        let both = (self.single_transformer_blocks.iter())
            .fold(Tensor::cat(vec![image, text], 1), |both, block| block.forward(both, modulation.clone(), &places));
        self.decode(both.narrow(1, 0, tokens), modulation, [height, width])
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        let transformer_blocks = self.transformer_blocks.iter().map(JointBlock::recomputing).collect();
        let single_transformer_blocks = self.single_transformer_blocks.iter().map(SingleBlock::recomputing).collect();
        Some(Self { transformer_blocks, single_transformer_blocks, ..self.clone() })
    }

    /// Blocks in which image and text are one follow the others.
    fn without_blocks(&self, blocks: &[usize]) -> Result<Self, Invalid> {
        let depth = self.transformer_blocks.len();
        let all: Vec<usize> = (0..depth + self.single_transformer_blocks.len()).collect();
        let (apart, one): (Vec<_>, Vec<_>) = remove_blocks(&all, blocks)?.into_iter().partition(|block| *block < depth);
        Ok(Self {
            transformer_blocks: apart.into_iter().map(|block| self.transformer_blocks[block].clone()).collect(),
            single_transformer_blocks: (one.into_iter())
                .map(|block| self.single_transformer_blocks[block - depth].clone())
                .collect(),
            ..self.clone()
        })
    }

    fn with_guidance(&self, scale: f64) -> Option<Self> {
        self.guidance_embedder.as_ref()?;
        Some(Self { guidance: scale, ..self.clone() })
    }
}
