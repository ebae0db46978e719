//! The perceptron of a block.

use burn::module::{Module, ModuleDisplay};
use serde::Deserialize;

use crate::Linear;
use crate::ops::{self, Recomputed};

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
    fn forward(&self, x: Recomputed) -> Recomputed;
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
    fn forward(&self, x: Recomputed) -> Recomputed {
        let gelu = match self.gelu {
            Gelu::Exact => ops::gelu,
            Gelu::Tanh => ops::gelu_tanh,
            Gelu::Quick => |hidden| ops::silu(hidden * 1.702) / 1.702,
        };
        self.fc2.forward_of(self.fc1.forward_of(x).map(gelu))
    }
}
