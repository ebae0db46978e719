//! Layer normalisation with learned scale and shift.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::ops;

/// Every token to mean 0 and variance 1, then scaled and shifted.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale, `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[width]`.
    pub bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Scale one, shift zero; `epsilon` is added to the variance.
    pub fn new(width: usize, epsilon: f64, init: &Initializer) -> Self {
        Self { weight: init.ones([width]), bias: init.zeros([width]), epsilon }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, _, width] = x.dims();
        let rows = |row: Tensor<1>| row.unsqueeze::<2>().expand([batch, width]);
        // The operation scales by one plus what it is given.
        let (shift, scale) = (rows(self.bias.val()), rows(self.weight.val() - 1.0));
        ops::modulated_layer_norm(x, shift, scale, self.epsilon)
    }

    /// The normalisation alone, without the learned scale and shift.
    ///
    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn plain(&self, x: Tensor<3>) -> Tensor<3> {
        ops::layer_norm(x, self.epsilon)
    }

    /// [`forward`](Self::forward) if `learned`, else [`plain`](Self::plain).
    pub(crate) fn last(&self, x: Tensor<3>, learned: bool) -> Tensor<3> {
        if learned { self.forward(x) } else { self.plain(x) }
    }
}
