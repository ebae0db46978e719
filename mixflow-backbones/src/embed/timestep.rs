//! Times as vectors.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::{Linear, ops};

/// Width of the sinusoidal features in every published SiT.
const FREQUENCIES: usize = 256;

/// Sinusoidal features of a time, then a two-layer perceptron.
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    /// Both layers, SiLU between them.
    pub mlp: Vec<Linear>,
}

impl TimestepEmbedding {
    /// Weights `N(0, 0.02²)`, zero biases.
    pub fn new(width: usize, init: &Initializer) -> Self {
        Self { mlp: vec![init.normal_linear(FREQUENCIES, width, 0.02), init.normal_linear(width, width, 0.02)] }
    }

    /// # Shapes
    /// - time: `[batch]`, as it is: not multiplied by 1000
    /// - output: `[batch, width]`
    pub fn forward(&self, time: Tensor<1>) -> Tensor<2> {
        self.mlp[1].forward(ops::silu(self.mlp[0].forward(sinusoidal(time, FREQUENCIES))))
    }
}

/// `[cos(t f_k) | sin(t f_k)]` with `f_k = 10000^(-k / half)`; an odd `width` ends in a zero column.
///
/// # Shapes
/// - time: `[batch]`
/// - output: `[batch, width]`
///
/// # Source
/// SiT `models.py`, `TimestepEmbedder.timestep_embedding` (frequencies are rounded to `f32`).
pub fn sinusoidal(time: Tensor<1>, width: usize) -> Tensor<2> {
    let half = width / 2;
    let frequencies: Vec<f32> = (0..half).map(|k| (-(10_000f32.ln()) * k as f32 / half as f32).exp()).collect();
    let frequencies = Tensor::<1>::from_data(frequencies.as_slice(), &time.device()).cast(time.dtype());
    let [batch] = time.dims();
    let angles = time.reshape([batch, 1]) * frequencies.reshape([1, half]); // [batch, half]
    let mut columns = vec![angles.clone().cos(), angles.clone().sin()];
    if width % 2 == 1 {
        columns.push(angles.slice([0..batch, 0..1]).zeros_like());
    }
    Tensor::cat(columns, 1)
}
