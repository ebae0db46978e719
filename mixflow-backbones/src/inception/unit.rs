use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::Convolution;
use crate::init::Initializer;
use crate::ops::{Window, average_pool2d, conv2d, max_pool2d};

/// Convolution, batch norm with running statistics, `ReLU`.
#[derive(Module, Debug)]
pub struct Unit {
    /// Without bias.
    pub conv: Convolution,
    /// In inference form.
    pub bn: BatchNorm,
    stride: usize,
    padding: [usize; 2],
}

/// Scale and shift of a [`Unit`], `[outputs]` each.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// γ
    pub weight: Param<Tensor<1>>,
    /// β
    pub bias: Param<Tensor<1>>,
    /// Of the training data.
    pub running_mean: Param<Tensor<1>>,
    /// Of the training data.
    pub running_var: Param<Tensor<1>>,
}

/// What the published graph adds to a variance (torchvision's `BasicConv2d`).
const EPSILON: f64 = 1e-3;

impl Unit {
    /// `[inputs, outputs]` channels; kernel and padding are `[height, width]`.
    pub(super) fn new(
        [inputs, outputs]: [usize; 2],
        [height, width]: [usize; 2],
        stride: usize,
        padding: [usize; 2],
        init: &Initializer,
    ) -> Self {
        let ones = || init.frozen([outputs], vec![1.0; outputs]);
        let zeros = || init.frozen([outputs], vec![0.0; outputs]);
        Self {
            conv: Convolution { weight: init.xavier([outputs, inputs, height, width]), bias: None },
            bn: BatchNorm { weight: ones(), bias: zeros(), running_mean: zeros(), running_var: ones() },
            stride,
            padding,
        }
    }

    /// A kernel of odd sides that keeps the image's size.
    pub(super) fn same(channels: [usize; 2], kernel: [usize; 2], init: &Initializer) -> Self {
        Self::new(channels, kernel, 1, kernel.map(|side| side / 2), init)
    }

    /// # Shapes
    /// - x: `[batch, inputs, height, width]`
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let BatchNorm { weight, bias, running_mean, running_var } = &self.bn;
        // Batch norm is affine: folded into the kernel, which is smaller than the image.
        let scale = weight.val() / (running_var.val() + EPSILON).sqrt();
        let shift = bias.val() - running_mean.val() * scale.clone();
        let kernel = self.conv.weight.val() * scale.reshape([-1, 1, 1, 1]);
        relu(conv2d(x, kernel, Some(shift), Window::padded(self.padding).every(self.stride)))
    }
}

/// Largest of each 3 x 3 window.
pub(super) fn max_pool(x: Tensor<4>, stride: usize, padding: usize) -> Tensor<4> {
    max_pool2d(x, [3, 3], Window::padded([padding; 2]).every(stride))
}

/// Mean of each 3 x 3 window; what lies beyond the edge does not count.
pub(super) fn average_pool(x: Tensor<4>) -> Tensor<4> {
    average_pool2d(x, [3, 3], Window::padded([1, 1]))
}
