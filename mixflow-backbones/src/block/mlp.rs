//! The perceptron of a block.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;
use serde::Deserialize;

use crate::Linear;
use crate::ops;

/// Which form of the activation a network was trained with, under the names of Transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Gelu {
    /// `x Φ(x)`
    #[serde(rename = "gelu")]
    Exact,
    /// Its approximation by a hyperbolic tangent.
    #[serde(rename = "gelu_pytorch_tanh")]
    Tanh,
    /// Its approximation by a sigmoid, `x σ(1.702 x)`.
    #[serde(rename = "quick_gelu")]
    Quick,
}

/// A perceptron of a block: `[batch, tokens, width]`, in and out.
pub trait FeedForward: Module + ModuleDisplay {
    /// Every token for itself.
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;
}

/// Two linear layers with GELU between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `width` to `hidden`
    pub fc1: Linear,
    /// `hidden` to `width`
    pub fc2: Linear,
    #[module(skip)]
    gelu: Gelu,
}

impl Mlp {
    /// Layers from `linear`, which is given the numbers of inputs and outputs.
    pub fn new(width: usize, hidden: usize, gelu: Gelu, linear: impl Fn(usize, usize) -> Linear) -> Self {
        Self { fc1: linear(width, hidden), fc2: linear(hidden, width), gelu }
    }
}

impl FeedForward for Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = self.fc1.forward(x);
        self.fc2.forward(match self.gelu {
            Gelu::Exact => ops::gelu(hidden),
            Gelu::Tanh => ops::gelu_tanh(hidden),
            Gelu::Quick => ops::silu(hidden * 1.702) / 1.702,
        })
    }
}
