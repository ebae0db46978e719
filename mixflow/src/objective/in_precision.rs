//! An objective of a network that computes less exactly.

use mixflow_backbones::{Backbone, Precision};

use crate::objective::{Batch, Loss, Objective};

/// An objective whose network multiplies in a [`Precision`]. Loss and gradients are those of the weights as they are
/// stored.
#[derive(Debug)]
pub struct InPrecision<'a, O> {
    /// The objective.
    pub objective: &'a O,
    /// Of matrix products, in both passes.
    pub precision: Precision,
}

/// # Panics
/// If the network does not know the precision: [`Backbone::in_precision`] says so before.
impl<B: Backbone, O: Objective<B>> Objective<B> for InPrecision<'_, O> {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        let backbone = backbone.in_precision(self.precision);
        self.objective.loss(&backbone.expect("a network that knows this precision"), batch, seed)
    }

    fn weighs(&self) -> bool {
        self.objective.weighs()
    }
}
