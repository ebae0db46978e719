//! Places in a grid as angles.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::init::Initializer;
use crate::ops::{self, Pairs, Recomputed};
use crate::weights::Weights;

/// Cosine and sine of the angles by which the tokens of a grid rotate their queries and keys.
///
/// A head has a part for each axis: in a plane, its first half turns with the row, its second with the column. Pair `k` of
/// a part of `h` numbers turns by `place · 10000^(-2k / h)`. Buffers in the published code: stored with the network, never trained and not counted as
/// parameters.
///
/// # Source
/// `VisionRotaryEmbeddingFast` of `bytetriper/RAE` at a4d18c4, `src/stage2/models/model_utils.py`, after Fang et al.
/// 2023, EVA-02 (arXiv 2303.11331).
#[derive(Module, Debug)]
pub struct RotaryTable {
    /// `[tokens, head width]`, both numbers of a pair equal.
    pub freqs_cos: Param<Tensor<2>>,
    /// As `freqs_cos`.
    pub freqs_sin: Param<Tensor<2>>,
}

impl RotaryTable {
    /// The angles of a grid with these sides, whose tokens are in row-major order, for heads of `width` numbers: two, or a
    /// multiple, for each axis.
    pub fn new(sides: &[usize], width: usize, init: &Initializer) -> Self {
        assert!(
            width.is_multiple_of(2 * sides.len()),
            "rotary heads need pairs for {} axes, found {width}",
            sides.len()
        );
        let table = |f: fn(f64) -> f64| {
            let (tokens, sides) = (sides.iter().product(), sides.to_vec());
            init.frozen_by([tokens, width], move || angles(&sides, width).map(|angle| f(angle) as f32).collect())
        };
        Self { freqs_cos: table(f64::cos), freqs_sin: table(f64::sin) }
    }

    /// What this table turns tokens by.
    pub fn rotation(&self) -> Rotation {
        let tables = [&self.freqs_cos, &self.freqs_sin].map(|table| table.val().without_autodiff());
        Rotation { tables, pairs: Pairs::Adjacent }
    }

    /// Completes weights that lack this table, which a checkpoint calls `name`.
    pub(crate) fn insert_missing(&self, name: &str, weights: &mut Weights) {
        weights.insert_missing(&format!("{name}.freqs_cos"), || self.freqs_cos.val().into_data());
        weights.insert_missing(&format!("{name}.freqs_sin"), || self.freqs_sin.val().into_data());
    }
}

/// A side of a grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Where its tokens stand.
    pub places: Range<usize>,
    /// How many numbers of a head turn with it: even.
    pub width: usize,
}

/// By what the tokens of a sequence are turned, on a device.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Cosine and sine, `[tokens, head width]`, without autodiff.
    tables: [Tensor<2>; 2],
    pairs: Pairs,
}

impl Rotation {
    /// That of a grid, whose tokens are in row-major order: of each axis its side, and how many numbers of a head turn with it.
    /// Pairs have the same order for both [`Pairs`]; only where their two numbers stand differs.
    ///
    /// # Source
    /// `EmbedND` of `black-forest-labs/flux` at 802fb47, `src/flux/modules/layers.py`, for adjacent pairs; `diffusers/mmdit.py` of
    /// `Hope7Happiness/minit2i-torch` at e54e15d for halves.
    pub fn of_grid(axes: &[[usize; 2]], pairs: Pairs, device: &Device) -> Self {
        let axes: Vec<_> = axes.iter().map(|&[side, width]| Axis { places: 0..side, width }).collect();
        Self::of_places(&axes, THETA, pairs, device)
    }

    /// The same of a grid whose sides may begin at other places than 0; pair `k` of an axis' `h` numbers turns by
    /// `place · theta^(-2k / h)`.
    pub fn of_places(axes: &[Axis], theta: f64, pairs: Pairs, device: &Device) -> Self {
        let (device, tokens) = (&device.clone().inner(), axes.iter().map(|axis| axis.places.len()).product::<usize>());
        let table = |f: fn(f64) -> f64| {
            let part = |(axis, Axis { places, width }): (usize, &Axis)| {
                let (side, width) = (places.len(), *width);
                let after: usize = axes[axis + 1..].iter().map(|axis| axis.places.len()).product();
                // The two numbers of a pair have the same angle: halves repeat the first of each.
                let (every, width_of) = match pairs {
                    Pairs::Adjacent => (1, width),
                    Pairs::Halves => (2, width / 2),
                };
                let of_place = |place: usize| (0..width).map(move |i| place as f64 * frequency(i, width, theta));
                let angles = places.clone().flat_map(of_place);
                let values: Vec<f32> = angles.step_by(every).map(|angle| f(angle) as f32).collect();
                let part: Tensor<4> = Tensor::from_data(TensorData::new(values, [1, side, 1, width_of]), device);
                part.expand([tokens / (side * after), side, after, width_of]).reshape([tokens, width_of])
            };
            let parts = Tensor::cat(axes.iter().enumerate().map(part).collect(), 1);
            match pairs {
                Pairs::Adjacent => parts,
                Pairs::Halves => parts.repeat_dim(1, 2),
            }
        };
        Self { tables: [table(f64::cos), table(f64::sin)], pairs }
    }

    /// The same with so many tokens behind that are not turned.
    #[must_use]
    pub fn and_still(self, tokens: usize) -> Self {
        let [cos, _] = &self.tables;
        let (shape, options) = ([tokens, cos.dims()[1]], (&cos.device(), cos.dtype()));
        let tables = [Tensor::ones(shape, options), Tensor::zeros(shape, options)];
        let pairs = self.pairs;
        self.and(Self { tables, pairs })
    }

    /// The same with the tokens of another behind, which turns the same pairs.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        assert_eq!(self.pairs, other.pairs, "both turn the same pairs");
        let [[cos, sin], [more_cos, more_sin]] = [self.tables, other.tables];
        Self { tables: [Tensor::cat(vec![cos, more_cos], 0), Tensor::cat(vec![sin, more_sin], 0)], ..self }
    }

    /// Cosine and sine, `[tokens, head width]`, without autodiff.
    pub fn tables(&self) -> &[Tensor<2>; 2] {
        &self.tables
    }

    /// Rotates the first `heads` heads of every token of what is computed again for the backward pass: [`ops::rotate`].
    pub fn turn(&self, x: Recomputed, heads: usize) -> Recomputed {
        let Self { tables, pairs } = self.clone();
        x.map(move |x| {
            let like_x = |table: Tensor<2>| if x.is_autodiff() { Tensor::from_inner(table) } else { table };
            let [cos, sin] = tables.clone().map(like_x);
            ops::rotate(x, cos, sin, heads, pairs)
        })
    }
}

/// What most networks count places by.
const THETA: f64 = 10_000.0;

/// By how much number `i` of `width` turns from one place to the next.
fn frequency(i: usize, width: usize, theta: f64) -> f64 {
    theta.powf(-((i / 2 * 2) as f64) / width as f64)
}

/// Of all tokens, number by number.
fn angles(sides: &[usize], width: usize) -> impl Iterator<Item = f64> {
    let part = width / sides.len();
    (0..sides.iter().product()).flat_map(move |token| {
        let places =
            (0..sides.len()).map(move |axis| token / sides[axis + 1..].iter().product::<usize>() % sides[axis]);
        places.flat_map(move |place| (0..part).map(move |i| place as f64 * frequency(i, part, THETA)))
    })
}
