//! Layer normalisation with learned scale and shift.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::ops::{self, Recomputed};

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
        ops::affine_layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon)
    }

    /// [`forward`](Self::forward) that is computed again for the backward pass.
    pub(super) fn recomputed(&self, x: Tensor<3>) -> Recomputed {
        let epsilon = self.epsilon;
        Recomputed::new([x, self.weight.val().unsqueeze(), self.bias.val().unsqueeze()], move |[x, weight, bias]| {
            ops::affine_layer_norm(x, weight.flatten(0, 2), bias.flatten(0, 2), epsilon)
        })
    }

    /// The normalisation alone, without the learned scale and shift.
    ///
    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn without_affine(&self, x: Tensor<3>) -> Tensor<3> {
        ops::layer_norm(x, self.epsilon)
    }

    /// [`forward`](Self::forward) if `learned`, else [`without_affine`](Self::without_affine).
    pub(crate) fn affine_if(&self, x: Tensor<3>, learned: bool) -> Tensor<3> {
        if learned { self.forward(x) } else { self.without_affine(x) }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// 1 + (weight - 1) has no digit of a weight below 6e-8, and few of one below 1e-4.
    #[test]
    fn tiny_weights_keep_their_digits() {
        let device = Device::default();
        let mut norm = LayerNorm::new(4, 0.0, &Initializer::new(0, &device));
        let weights = [1e-9f32, 3.3e-5, -7e-12, 1.5];
        norm.weight = Param::from_tensor(Tensor::from_data(TensorData::new(weights.to_vec(), [4]), &device));
        // Mean 0, variance 1: the output is the weight, with these signs.
        let signs = [1.0f32, -1.0, 1.0, -1.0];
        let x = Tensor::<3>::from_data(TensorData::new(signs.to_vec(), [1, 1, 4]), &device);
        let found: Vec<f32> = norm.forward(x).into_data().try_to_vec().unwrap();
        for ((found, weight), sign) in found.iter().zip(weights).zip(signs) {
            assert!((found - weight * sign).abs() <= 1e-6 * weight.abs(), "found {found} of weight {weight}");
        }
    }
}
