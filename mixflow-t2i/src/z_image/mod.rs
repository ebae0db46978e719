//! The transformer of Z-Image.

mod block;
mod config;
mod diffusers;
mod keys;

use std::collections::BTreeMap;

pub use block::Block;
pub use config::ZImageConfig;
pub use keys::{adapter, official_key};

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};
use mixflow::backbones::block::RmsNorm;
use mixflow::backbones::embed::{Axis, Rotation, TimestepEmbedding, patchify_pixels, unpatchify};
use mixflow::backbones::lora::dropping;
use mixflow::backbones::ops::Pairs;
use mixflow::backbones::{Backbone, Invalid, Linear, Precision, ops};

use crate::TextEmbedding;
use crate::mmdit::STEPS;
use crate::shape::remove_blocks;

/// Side of a patch of the latents.
const PATCH: usize = 2;

/// Tokens of image and of text come in multiples of this.
const MULTIPLE: usize = 32;

/// What places are counted by.
const THETA: f64 = 256.0;

/// Added to the mean square in norms of the blocks; in the last norm it is [`mmdit`](crate::mmdit)'s.
const EPSILON: f64 = 1e-5;

/// `Z-Image`: a transformer in which image and text are one sequence with one set of weights, after a few blocks of each alone. The
/// text's tokens turn with their number, those of the image with the place behind the text, with row and column.
///
/// A token of the text that is all zeros is none. Image and text are filled up to a multiple of 32 tokens with learned ones, which
/// attention sees; a text of no token at all is 32 of them. Prompts of a batch that are filled up to different numbers are run one
/// after another, as each tells the image where it stands.
///
/// Time is the share of the image, from 0 (noise) to 1 (data), and the velocity leads there: the time of
/// [`Linear`](mixflow::schedules::Linear). The pipeline of `diffusers` negates it.
///
/// # Source
/// Z-Image Team 2025 (arXiv 2511.22699); `ZImageTransformer2DModel` of `diffusers` 0.42.1, for images of text alone.
#[derive(Module, Debug)]
pub struct ZImage {
    /// Patches to tokens.
    pub x_embedder: Linear,
    /// Time to the vector that modulates every block.
    pub t_embedder: TimestepEmbedding,
    /// Of the text's tokens.
    pub cap_norm: RmsNorm,
    /// The text's tokens to this network's width.
    pub cap_embedder: Linear,
    /// Fills up the image, `[1, width]`.
    pub x_pad_token: Param<Tensor<2>>,
    /// Fills up the text, `[1, width]`.
    pub cap_pad_token: Param<Tensor<2>>,
    /// Blocks of the image alone.
    pub noise_refiner: Vec<Block>,
    /// Blocks of the text alone, which are not told the time.
    pub context_refiner: Vec<Block>,
    /// Blocks of both.
    pub layers: Vec<Block>,
    /// Tokens to patches.
    pub final_layer: FinalLayer,
    axes: [usize; 3],
    channels: usize,
    /// Rate, seed and first position of what adapters drop.
    #[module(skip)]
    dropping: Option<(f64, u64, u64)>,
}

/// Normalisation, scaled by the time, then tokens to patches.
#[derive(Module, Debug)]
pub struct FinalLayer {
    /// The vector of the time, behind SiLU, to scale.
    pub ada_ln: Linear,
    /// `width` to the numbers of a patch, channel fastest.
    pub linear: Linear,
}

/// Where tokens stand.
#[derive(Clone, Debug)]
pub struct RotaryEmbeddings {
    /// Of the image's tokens, filled up.
    pub image: Rotation,
    /// Of the text's.
    pub text: Rotation,
}

impl ZImage {
    /// Times to the vector that modulates every block: `[batch]` to `[batch, vector]`.
    pub fn embed_time(&self, time: Tensor<1>) -> Tensor<2> {
        self.t_embedder.forward(time * STEPS)
    }

    /// Latents to tokens, filled up: `[batch, channels, height, width]` to `[batch, tokens, width]`.
    pub fn embed(&self, x: Tensor<4>) -> Tensor<3> {
        let tokens = self.x_embedder.forward(patchify_pixels(x, self.channels, PATCH));
        let [batch, found, width] = tokens.dims();
        match found.next_multiple_of(MULTIPLE) - found {
            0 => tokens,
            more => Tensor::cat(vec![tokens, self.x_pad_token.val().unsqueeze::<3>().expand([batch, more, width])], 1),
        }
    }

    /// `tokens` tokens of texts to this network's, learned ones where there are none: `[batch, found, context width]` to
    /// `[batch, tokens, width]`. There are no more in any of them.
    pub fn embed_text(&self, text: Tensor<3>, tokens: usize) -> Tensor<3> {
        let [batch, found, width] = text.dims();
        let mut text = text.narrow(1, 0, found.min(tokens));
        if found < tokens {
            let more = Tensor::zeros([batch, tokens - found, width], (&text.device(), text.dtype()));
            text = Tensor::cat(vec![text, more], 1);
        }
        let none = text.clone().abs().max_dim(2).equal_elem(0.0);
        let embedded = self.cap_embedder.forward_of(self.cap_norm.forward(text)).value();
        let shape = embedded.dims();
        embedded.mask_where(none.expand(shape), self.cap_pad_token.val().unsqueeze::<3>().expand(shape))
    }

    /// Where tokens of latents of this size stand behind so many of a text.
    pub fn rotary_embeddings(&self, [height, width]: [usize; 2], text: usize, x: &Tensor<4>) -> RotaryEmbeddings {
        let of = |places: [std::ops::Range<usize>; 3]| {
            let axes: Vec<_> =
                places.into_iter().zip(self.axes).map(|(places, width)| Axis { places, width }).collect();
            Rotation::of_places(&axes, THETA, Pairs::Adjacent, &x.device())
        };
        let [rows, columns] = [height / PATCH, width / PATCH];
        let more = (rows * columns).next_multiple_of(MULTIPLE) - rows * columns;
        let image = of([text + 1..text + 2, 0..rows, 0..columns]).and_still(more);
        RotaryEmbeddings { image, text: of([1..text + 1, 0..1, 0..1]) }
    }

    /// [`forward`](Backbone::forward) of texts that are filled up to so many tokens; `time`: `[batch, vector]`.
    fn forward_padded_to(&self, x: Tensor<4>, time: Tensor<2>, text: Tensor<3>, length: usize) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let places = self.rotary_embeddings([height, width], length, &x);
        let run = |blocks: &[Block], x, places: &Rotation| {
            blocks.iter().fold(x, |x, block| block.forward(x, time.clone(), places))
        };
        let text = run(&self.context_refiner, self.embed_text(text, length), &places.text);
        let image = run(&self.noise_refiner, self.embed(x), &places.image);
        let both = run(&self.layers, Tensor::cat(vec![image, text], 1), &places.image.and(places.text));
        self.decode(both, time, [height, width])
    }

    /// [`forward`](Backbone::forward) of a network whose adapters drop: what is run together follows each other, as positions do.
    fn forward_dropping(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        text: Tensor<3>,
        (rate, seed, first): (f64, u64, u64),
    ) -> Tensor<4> {
        let lengths = padded_lengths(&text);
        let mut row = 0;
        let outputs = lengths.chunk_by(|one, next| one == next).map(|run| {
            let (start, count) = (row, run.len());
            row += count;
            let network = dropping(Self { dropping: None, ..self.clone() }, rate, seed, first + start as u64);
            let time = network.embed_time(time.clone().narrow(0, start, count));
            let (x, text) = (x.clone().narrow(0, start, count), text.clone().narrow(0, start, count));
            network.forward_padded_to(x, time, text, run[0])
        });
        Tensor::cat(outputs.collect(), 0)
    }

    /// Tokens after the last block, those of the image first, to latents of this size: `[batch, tokens, width]` to
    /// `[batch, channels, height, width]`. `time`: `[batch, vector]`.
    pub fn decode(&self, tokens: Tensor<3>, time: Tensor<2>, [height, width]: [usize; 2]) -> Tensor<4> {
        let [rows, columns] = [height / PATCH, width / PATCH];
        let FinalLayer { ada_ln, linear } = &self.final_layer;
        let scale = ada_ln.forward(ops::silu(time));
        let tokens = tokens.narrow(1, 0, rows * columns);
        let normed = ops::modulated_layer_norm(tokens, scale.zeros_like(), scale, crate::mmdit::EPSILON);
        unpatchify(linear.forward(normed), [rows, columns], PATCH)
    }
}

/// How many tokens each text is filled up to: behind the last that is not all zeros.
fn padded_lengths(text: &Tensor<3>) -> Vec<usize> {
    let [_, tokens, _] = text.dims();
    let told = text.clone().detach().abs().max_dim(2).greater_elem(0.0).int().into_data();
    let told: Vec<i64> = told.iter::<i64>().collect();
    let last = |row: &[i64]| row.iter().rposition(|told| *told != 0).map_or(1, |last| last + 1);
    told.chunks(tokens).map(|row| last(row).next_multiple_of(MULTIPLE)).collect()
}

impl Backbone for ZImage {
    type Condition = TextEmbedding;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, text: TextEmbedding) -> Tensor<4> {
        if let Some(dropping) = self.dropping {
            return self.forward_dropping(x, time, text.tokens, dropping);
        }
        let (time, text) = (self.embed_time(time), text.tokens);
        let mut groups: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        for (length, row) in padded_lengths(&text).into_iter().zip(0..) {
            groups.entry(length).or_default().push(row);
        }
        if let (1, Some((length, _))) = (groups.len(), groups.first_key_value()) {
            return self.forward_padded_to(x, time, text, *length);
        }
        let order: Vec<i64> = groups.values().flatten().copied().collect();
        let mut back: Vec<i64> = (0..order.len() as i64).collect();
        back.sort_by_key(|place| order[*place as usize]);
        let rows = |rows: &[i64]| Tensor::<1, Int>::from_data(rows, &x.device());
        let outputs = groups.iter().map(|(length, group)| {
            let group = rows(group);
            let text = text.clone().select(0, group.clone());
            self.forward_padded_to(x.clone().select(0, group.clone()), time.clone().select(0, group), text, *length)
        });
        Tensor::cat(outputs.collect(), 0).select(0, rows(&back))
    }

    fn dropping(&self, rate: f64, seed: u64, first: u64) -> Self {
        Self { dropping: Some((rate, seed, first)), ..self.clone() }
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        let [noise_refiner, context_refiner, layers] = [&self.noise_refiner, &self.context_refiner, &self.layers]
            .map(|blocks| blocks.iter().map(Block::recomputing).collect());
        Some(Self { noise_refiner, context_refiner, layers, ..self.clone() })
    }

    /// Blocks of both image and text.
    fn without_blocks(&self, blocks: &[usize]) -> Result<Self, Invalid> {
        Ok(Self { layers: remove_blocks(&self.layers, blocks)?, ..self.clone() })
    }
}
