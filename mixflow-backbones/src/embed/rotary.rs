//! Places in a grid as angles.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::ops;
use crate::weights::Weights;

/// Cosine and sine of the angles by which the tokens of a square grid rotate their queries and keys.
///
/// The first half of a head turns with the row, the second half with the column: pair `k` of a half of `h` numbers by
/// `place · 10000^(-2k / h)`. Buffers in the published code: stored with the network, never trained and not counted as
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
    /// The angles of a grid of `side` by `side` tokens for heads of `width` numbers, divisible by four.
    pub fn new(side: usize, width: usize, init: &Initializer) -> Self {
        let angles = angles(side, width);
        let table = |f: fn(f64) -> f64| {
            init.frozen([side * side, width], angles.iter().map(|&angle| f(angle) as f32).collect())
        };
        Self { freqs_cos: table(f64::cos), freqs_sin: table(f64::sin) }
    }

    /// Rotates queries and keys.
    ///
    /// # Shapes
    /// - qkv and output: `[batch, tokens, 3 heads d]`, as [`ops::rotate`] takes them
    pub fn rotate(&self, qkv: Tensor<3>, heads: usize) -> Tensor<3> {
        ops::rotate(qkv, self.freqs_cos.val(), self.freqs_sin.val(), heads)
    }

    /// Completes weights that lack this table, which a checkpoint calls `name`.
    pub(crate) fn insert_missing(&self, name: &str, weights: &mut Weights) {
        weights.insert_missing(&format!("{name}.freqs_cos"), || self.freqs_cos.val().into_data());
        weights.insert_missing(&format!("{name}.freqs_sin"), || self.freqs_sin.val().into_data());
    }
}

fn angles(side: usize, width: usize) -> Vec<f64> {
    assert!(width.is_multiple_of(4), "rotary heads need a width divisible by 4, found {width}");
    let half = width / 2;
    let mut angles = Vec::with_capacity(side * side * width);
    for row in 0..side {
        for column in 0..side {
            for place in [row, column] {
                angles.extend((0..half).map(|i| place as f64 * 10_000f64.powf(-((i / 2 * 2) as f64) / half as f64)));
            }
        }
    }
    angles
}
