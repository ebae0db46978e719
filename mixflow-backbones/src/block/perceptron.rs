//! The perceptron of a block, of either published kind.

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::Linear;
use crate::block::{FeedForward, Gelu, Mlp};
use crate::ops::{self, Recomputed};

/// Which perceptron a network has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PerceptronKind {
    /// [`SwiGlu`]: three matrices.
    #[default]
    SwiGlu,
    /// [`Mlp`]: two matrices and GELU.
    Gelu,
}

/// A perceptron of one kind.
#[derive(Module, Debug)]
pub enum Perceptron {
    /// Gated by SiLU.
    SwiGlu(SwiGlu),
    /// With GELU.
    Gelu(Mlp),
}

/// Two linear layers between which one half of the numbers gates the other.
///
/// # Source
/// Shazeer 2020 (arXiv 2002.05202), equation 6.
#[derive(Module, Debug)]
pub struct SwiGlu {
    /// `width` to `2 * hidden`: the half that gates, then the other.
    pub w12: Linear,
    /// `hidden` to `width`
    pub w3: Linear,
}

/// [`SwiGlu`] whose halves are stored apart, under the names of Llama.
#[derive(Module, Debug)]
pub struct SplitSwiGlu {
    /// `width` to `hidden`: what gates.
    pub w1: Linear,
    /// `width` to `hidden`
    pub w3: Linear,
    /// `hidden` to `width`
    pub w2: Linear,
}

impl SplitSwiGlu {
    /// From `width` through `hidden` to `width`, by layers from `linear`.
    pub fn new(width: usize, hidden: usize, linear: impl Fn(usize, usize) -> Linear) -> Self {
        Self { w1: linear(width, hidden), w3: linear(width, hidden), w2: linear(hidden, width) }
    }
}

impl FeedForward for SplitSwiGlu {
    fn forward(&self, x: Recomputed) -> Recomputed {
        self.w2.forward_of(Linear::forward_all([&self.w1, &self.w3], x).map(ops::swiglu))
    }
}

impl Perceptron {
    /// From `width` through `hidden` to `width`, by layers from `linear`.
    pub fn new(width: usize, hidden: usize, kind: PerceptronKind, linear: impl Fn(usize, usize) -> Linear) -> Self {
        match kind {
            PerceptronKind::SwiGlu => {
                Self::SwiGlu(SwiGlu { w12: linear(width, 2 * hidden), w3: linear(hidden, width) })
            }
            PerceptronKind::Gelu => Self::Gelu(Mlp::new(width, hidden, Gelu::Tanh, linear)),
        }
    }
}

impl FeedForward for Perceptron {
    fn forward(&self, x: Recomputed) -> Recomputed {
        match self {
            Self::SwiGlu(SwiGlu { w12, w3 }) => w3.forward_of(w12.forward_of(x).map(ops::swiglu)),
            Self::Gelu(mlp) => mlp.forward(x),
        }
    }
}
