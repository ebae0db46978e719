//! What a training step minimises.

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
}

/// A differentiable loss of a backbone on a batch.
pub trait Objective<B: Backbone>: Debug {
    /// The mean over the batch, `[1]`, on the backbone's device. `seed` and the batch's positions determine all draws.
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Tensor<1>;
}
