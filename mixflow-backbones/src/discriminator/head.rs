//! What judges the tokens of one depth.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;

use super::SpectralConv;
use crate::init::Initializer;

/// Two convolutions along the row of tokens, the second one around a shortcut, and a sum of the channels.
#[derive(Module, Debug)]
pub struct Head {
    /// Of single tokens.
    pub first: Layer,
    /// Of neighbouring tokens.
    pub second: Layer,
    /// To one number a token.
    pub last: SpectralConv,
}

/// Convolution, normalisation, leaky `ReLU`.
#[derive(Module, Debug)]
pub struct Layer {
    /// Keeps the number of channels.
    pub conv: SpectralConv,
    /// After it.
    pub norm: TokenNorm,
}

/// Every channel of an image to mean 0 and variance 1 over its tokens, then scaled and shifted: the published batch norm,
/// whose batches are single images, so that no image depends on another.
#[derive(Module, Debug)]
pub struct TokenNorm {
    /// Scale, `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[width]`.
    pub bias: Param<Tensor<1>>,
}

/// Added to the variance.
const EPSILON: f64 = 1e-6;

/// Slope of the activation below zero.
const SLOPE: f64 = 0.2;

impl Head {
    pub(super) fn new(width: usize, kernel: usize, init: &Initializer) -> Self {
        let layer = |kernel| Layer {
            conv: SpectralConv::new([width, width], kernel, init),
            norm: TokenNorm { weight: init.ones([width]), bias: init.zeros([width]) },
        };
        Self { first: layer(1), second: layer(kernel), last: SpectralConv::new([width, 1], 1, init) }
    }

    /// # Shapes
    /// - tokens: `[batch, tokens, width]`
    /// - output: `[batch, tokens]`
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        let x = self.first.forward(tokens.swap_dims(1, 2)); // [batch, width, tokens]
        let x = (self.second.forward(x.clone()) + x) * std::f64::consts::FRAC_1_SQRT_2;
        self.last.forward(x).squeeze_dim(1)
    }

    pub(super) fn power_iteration(self) -> Self {
        let layer = |layer: Layer| Layer { conv: layer.conv.power_iteration(), ..layer };
        Self { first: layer(self.first), second: layer(self.second), last: self.last.power_iteration() }
    }
}

impl Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        leaky_relu(self.norm.forward(self.conv.forward(x)), SLOPE)
    }
}

impl TokenNorm {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let centred = x.clone() - x.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let channels = |row: &Param<Tensor<1>>| row.val().reshape([1, -1, 1]);
        centred / (variance + EPSILON).sqrt() * channels(&self.weight) + channels(&self.bias)
    }
}
