//! Normalisation by the root mean square.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::ops::{self, Recomputed};

/// `x / √(mean x² + epsilon) · weight` of every token.
///
/// # Source
/// Zhang & Sennrich 2019 (arXiv 1910.07467), equation 4.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[width]`
    pub weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// Weights of one; `epsilon` is added to the mean square.
    pub fn new(width: usize, epsilon: f64, init: &Initializer) -> Self {
        Self { weight: init.ones([width]), epsilon }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: impl Into<Recomputed>) -> Recomputed {
        let epsilon = self.epsilon;
        x.into().map_with([self.weight.val().unsqueeze()], move |x, [weight]| {
            let [batch, _, width] = x.dims();
            let none = Tensor::zeros([batch, width], (&x.device(), x.dtype()));
            ops::modulated_rms_norm(x, weight.flatten(0, 2), none.clone(), none, epsilon)
        })
    }

    /// The same, times `1 + scale`, one for all tokens of an example.
    ///
    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    /// - scale: `[batch, width]`
    pub fn scaled(&self, x: impl Into<Recomputed>, scale: Tensor<2>) -> Recomputed {
        let epsilon = self.epsilon;
        x.into().map_with([self.weight.val().unsqueeze(), scale.unsqueeze_dim(1)], move |x, [weight, scale]| {
            let scale = scale.squeeze_dim(1);
            ops::modulated_rms_norm(x, weight.flatten(0, 2), scale.zeros_like(), scale, epsilon)
        })
    }
}
