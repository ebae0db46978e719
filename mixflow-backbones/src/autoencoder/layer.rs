//! Layers of convolutional networks, in the layouts of the published checkpoints.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::ops::{self, Window};

/// A convolution.
#[derive(Module, Debug)]
pub struct Convolution {
    /// `[outputs, inputs, rows, columns]`
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`
    pub bias: Param<Tensor<1>>,
}

impl Convolution {
    /// Weight and bias `U(-a, a)` with `a = 1 / √(values of a patch)`, PyTorch's default.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, init: &Initializer) -> Self {
        let bound = ((inputs * kernel * kernel) as f64).powf(-0.5);
        Self { weight: init.uniform([outputs, inputs, kernel, kernel], bound), bias: init.uniform([outputs], bound) }
    }

    /// Of the size of its input, zeros around it.
    ///
    /// # Shapes
    /// - x: `[batch, inputs, height, width]`
    /// - output: `[batch, outputs, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, rows, columns] = self.weight.val().dims();
        self.windowed(x, Window::padded([rows / 2, columns / 2]))
    }

    /// [`ops::conv2d`] with any window.
    pub fn windowed(&self, x: Tensor<4>, window: Window) -> Tensor<4> {
        ops::conv2d(x, self.weight.val(), Some(self.bias.val()), window)
    }
}

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
