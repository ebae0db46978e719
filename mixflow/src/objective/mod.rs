//! What a training step minimises.

mod alignment;
mod batch;
mod flow_matching;
mod hybrid;

pub use alignment::{Alignment, AlignmentConfig, AlignmentLosses, TargetEncoder};
pub use batch::{Batch, StepBatches};
pub use flow_matching::{FlowMatching, Noised, Target, noise};
pub use hybrid::{Hybrid, HybridLosses};

use std::fmt::Debug;

use burn::tensor::Tensor;
use mixflow_backbones::Backbone;

/// A differentiable loss of a backbone on a batch.
pub trait Objective<B: Backbone>: Debug {
    /// The mean over the batch, `[1]`, on the backbone's device. `seed` and the batch's positions determine all draws.
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Tensor<1>;
}

impl<B: Backbone> Objective<B> for Box<dyn Objective<B>> {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Tensor<1> {
        (**self).loss(backbone, batch, seed)
    }
}
