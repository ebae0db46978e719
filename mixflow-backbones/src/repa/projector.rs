//! From tokens to the features of an encoder.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::init::Initializer;
use crate::{Linear, ops};

/// Three linear layers with SiLU between them.
#[derive(Module, Debug)]
pub struct Projector {
    /// `width` to `hidden`
    pub fc1: Linear,
    /// `hidden` to `hidden`
    pub fc2: Linear,
    /// `hidden` to the width of the features
    pub fc3: Linear,
}

impl Projector {
    /// Xavier-uniform weights, zero biases.
    pub fn new(width: usize, hidden: usize, features: usize, init: &Initializer) -> Self {
        Self {
            fc1: init.xavier_linear(width, hidden),
            fc2: init.xavier_linear(hidden, hidden),
            fc3: init.xavier_linear(hidden, features),
        }
    }

    /// # Shapes
    /// - tokens: `[batch, tokens, width]`
    /// - output: `[batch, tokens, features]`
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let hidden = ops::silu(self.fc1.forward(tokens));
        self.fc3.forward(ops::silu(self.fc2.forward(hidden)))
    }
}
