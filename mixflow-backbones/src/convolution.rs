//! Convolution in the layout of the published checkpoints.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::ops::{self, Window};

/// A convolution, with or without bias.
#[derive(Module, Debug)]
pub struct Convolution {
    /// `[outputs, inputs, rows, columns]`
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`, of those that have one.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Convolution {
    /// Weight and bias `U(-a, a)` with `a = 1 / √(values of a patch)`, PyTorch's default.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, init: &Initializer) -> Self {
        let bound = ((inputs * kernel * kernel) as f64).powf(-0.5);
        let weight = init.uniform([outputs, inputs, kernel, kernel], bound);
        Self { weight, bias: Some(init.uniform([outputs], bound)) }
    }

    /// Of the size of its input, zeros around it.
    ///
    /// # Shapes
    /// - x: `[batch, inputs, height, width]`
    /// - output: `[batch, outputs, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, rows, columns] = self.weight.lazy_shape().dims();
        self.windowed(x, Window::padded([rows / 2, columns / 2]))
    }

    /// Of patches as large as the kernel, each flattened: a linear layer.
    ///
    /// # Shapes
    /// - patches: `[batch, tokens, inputs * rows * columns]`
    /// - output: `[batch, tokens, outputs]`
    pub fn of_patches(&self, patches: Tensor<3>) -> Tensor<3> {
        let weight = self.weight.val().flatten(1, 3);
        ops::linear(patches, weight, self.bias.as_ref().map(Param::val))
    }

    /// [`ops::conv2d`] with any window.
    pub fn windowed(&self, x: Tensor<4>, window: Window) -> Tensor<4> {
        ops::conv2d(x, self.weight.val(), self.bias.as_ref().map(Param::val), window)
    }
}
