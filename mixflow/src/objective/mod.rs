//! What a training step minimises.

mod alignment;
mod flow_matching;

pub use alignment::{Alignment, AlignmentConfig, AlignmentLosses, TargetEncoder};
pub use flow_matching::{FlowMatching, Noised, Target, noise};

use std::fmt::Debug;

use burn::tensor::Tensor;
use mixflow_backbones::Backbone;

/// Images and what the network is told about them.
#[derive(Clone, Debug)]
pub struct Batch<C> {
    /// `[batch, channels, height, width]`, images or latents, normalised.
    pub images: Tensor<4>,
    /// One row an image.
    pub condition: C,
    /// Training position of the first image; image `i` has position `first + i`. Random numbers are drawn for
    /// positions, so that they depend neither on the size of a batch nor on where a run was resumed.
    pub first: u64,
    /// Encoder features of the clean images, `[batch, tokens, width]`, one tensor for each target encoder; empty unless
    /// an objective aligns.
    pub features: Vec<Tensor<3>>,
}

impl<C> Batch<C> {
    /// Images whose positions start at `first`, without features.
    pub fn new(images: Tensor<4>, condition: C, first: u64) -> Self {
        Self { images, condition, first, features: vec![] }
    }

    /// The same with encoder features.
    #[must_use]
    pub fn with_features(self, features: Vec<Tensor<3>>) -> Self {
        Self { features, ..self }
    }
}

/// A differentiable loss of a backbone on a batch.
pub trait Objective<B: Backbone>: Debug {
    /// The mean over the batch, `[1]`, on the backbone's device. `seed` and the batch's positions determine all draws.
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Tensor<1>;
}
