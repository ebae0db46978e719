//! The perceptron of a block.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Linear;
use crate::init::Initializer;
use crate::ops;

/// Two linear layers with GELU (tanh approximation) between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `width` to `hidden`
    pub fc1: Linear,
    /// `hidden` to `width`
    pub fc2: Linear,
}

impl Mlp {
    /// Xavier-uniform weights, zero biases.
    pub fn new(width: usize, hidden: usize, init: &Initializer) -> Self {
        Self { fc1: init.xavier_linear(width, hidden), fc2: init.xavier_linear(hidden, width) }
    }

    /// # Shapes
    /// - x and output: `[batch, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(ops::gelu_tanh(self.fc1.forward(x)))
    }
}
