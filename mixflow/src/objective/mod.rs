//! What a training step minimises.

mod adapter_dropout;
mod alignment;
mod batch;
mod defar;
mod dropout;
mod flow_matching;
mod hybrid;
mod in_precision;
mod loss;
mod perturbation;

pub use adapter_dropout::AdapterDropout;
pub use alignment::{Alignment, AlignmentConfig, AlignmentLosses, TargetEncoder};
pub use batch::{Batch, StepBatches};
pub use defar::{Defar, DefarConfig};
pub use dropout::EncoderDropout;
pub use flow_matching::{FlowMatching, Noised, Target, noise};
pub use hybrid::{Hybrid, HybridLosses};
pub use in_precision::InPrecision;
pub use loss::Loss;
pub use perturbation::Perturbation;

use std::fmt::Debug;

use mixflow_backbones::Backbone;

/// A differentiable loss of a backbone on a batch.
pub trait Objective<B: Backbone>: Debug + Sync {
    /// The mean over the batch. `seed` and the batch's positions determine all draws. A loss without parts to log
    /// is a tensor, `[1]`: `tensor.into()`.
    ///
    /// A loss that leaves [`mask`](Batch::mask) and [`weights`](Batch::weights) out is trained on data without them:
    /// see [`weighs`](Self::weighs).
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss;

    /// Whether the loss counts places by the batch's mask and images by its weights; provided: no. A training on data that
    /// have masks or prior images is refused then.
    fn weighs(&self) -> bool {
        false
    }
}

impl<B: Backbone> Objective<B> for Box<dyn Objective<B>> {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        (**self).loss(backbone, batch, seed)
    }

    fn weighs(&self) -> bool {
        (**self).weighs()
    }
}
