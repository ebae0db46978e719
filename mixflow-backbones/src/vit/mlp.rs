//! The perceptron of a block.

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::Linear;
use crate::ops;

/// Which form of the activation a network was trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gelu {
    /// `x Φ(x)`
    Exact,
    /// Its approximation by a hyperbolic tangent.
    Tanh,
}

/// Two linear layers with GELU between them.
#[derive(Module, Debug)]
pub struct VitMlp {
    /// `width` to `hidden`
    pub fc1: Linear,
    /// `hidden` to `width`
    pub fc2: Linear,
    #[module(skip)]
    gelu: Gelu,
}

impl VitMlp {
    /// From its layers.
    pub fn new(fc1: Linear, fc2: Linear, gelu: Gelu) -> Self {
        Self { fc1, fc2, gelu }
    }

    /// # Shapes
    /// - x and output: `[.., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let hidden = self.fc1.forward(x);
        self.fc2.forward(match self.gelu {
            Gelu::Exact => ops::gelu(hidden),
            Gelu::Tanh => ops::gelu_tanh(hidden),
        })
    }
}
