//! Normalisation of convolutional networks.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::ops;

/// [`ops::group_norm`].
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[channels]`
    pub weight: Param<Tensor<1>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
    groups: usize,
}

/// As in `CompVis/latent-diffusion`, `Normalize`.
const EPSILON: f64 = 1e-6;

impl GroupNorm {
    /// Weight 1, bias 0.
    pub fn new(channels: usize, groups: usize, init: &Initializer) -> Self {
        Self { weight: init.ones([channels]), bias: init.zeros([channels]), groups }
    }

    /// `[batch, channels, height, width]`, in and out.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::group_norm(x, self.weight.val(), self.bias.val(), self.groups, EPSILON)
    }

    /// [`forward`](Self::forward), then SiLU.
    pub fn silu(&self, x: Tensor<4>) -> Tensor<4> {
        ops::group_norm_silu(x, self.weight.val(), self.bias.val(), self.groups, EPSILON)
    }
}
