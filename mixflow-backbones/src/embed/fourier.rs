//! Times as random Fourier features.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::{Linear, ops};

/// Number of frequencies in the published networks.
const FREQUENCIES: usize = 256;

/// Sine and cosine of a time at normally distributed frequencies, then a two-layer perceptron.
///
/// # Source
/// Tancik et al. 2020 (arXiv 2006.10739), section 4; `GaussianFourierEmbedding` of `bytetriper/RAE` at a4d18c4,
/// `src/stage2/models/model_utils.py`.
#[derive(Module, Debug)]
pub struct FourierEmbedding {
    /// `[frequencies]`, in turns per unit of time; official name `W`.
    pub frequencies: Param<Tensor<1>>,
    /// Both layers, SiLU between them.
    pub mlp: Vec<Linear>,
}

impl FourierEmbedding {
    /// Frequencies `N(0, 1)`, trained or not; weights `N(0, 0.02²)`; biases as `linear` draws them.
    pub fn new(width: usize, trained: bool, linear: impl Fn(usize, usize) -> Linear, init: &Initializer) -> Self {
        let layer = |inputs| Linear { weight: init.normal([width, inputs], 0.02), ..linear(inputs, width) };
        Self {
            frequencies: init.normal([FREQUENCIES], 1.0).set_require_grad(trained),
            mlp: vec![layer(2 * FREQUENCIES), layer(width)],
        }
    }

    /// Multiplications with addition for one time.
    pub(crate) fn multiply_adds(width: usize) -> usize {
        (2 * FREQUENCIES + width) * width
    }

    /// # Shapes
    /// - time: `[batch]`, as it is
    /// - output: `[batch, width]`
    pub fn forward(&self, time: Tensor<1>) -> Tensor<2> {
        let turns = time.unsqueeze_dim::<2>(1) * self.frequencies.val().unsqueeze(); // [batch, frequencies]
        let angles = turns * std::f64::consts::TAU;
        let features = Tensor::cat(vec![angles.clone().sin(), angles.cos()], 1); // [batch, 2 frequencies]
        self.mlp[1].forward(ops::silu(self.mlp[0].forward(features)))
    }
}
