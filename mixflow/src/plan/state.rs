//! What a training keeps of its parameters on each device.

use mixflow_backbones::Precision;

use super::{Machine, bytes};
use crate::recipe::{NetworkSettings, Recipe};

/// Bytes from step to step.
pub(super) struct State {
    pub(super) weights: u64,
    pub(super) gradients: u64,
    pub(super) moments: u64,
    pub(super) average: u64,
    /// Weights in 32 bits beside those that are stored as they are multiplied, in 16.
    pub(super) masters: u64,
    /// Weights in 16 bits beside those in 32, which a step keeps with its graph.
    pub(super) rounded: u64,
    /// All that the CPU remembers for the devices.
    pub(super) offloaded: u64,
}

impl State {
    /// Of a network of so many `parameters`, or of an adapter of so many beside it, in a precision on so many devices.
    pub(super) fn of<N: NetworkSettings>(
        recipe: &Recipe<N>,
        (parameters, adapter): (u64, Option<u64>),
        precision: Precision,
        (machine, devices): (&Machine, usize),
    ) -> Self {
        let training = &recipe.training;
        let trained = adapter.unwrap_or(parameters);
        let low = !precision.is_full();
        let stored = low && (adapter.is_some() || training.keeps_elsewhere(devices));
        // In 16 bits, each of those that are rounded has as many bytes less as it takes.
        let whole = bytes(&[parameters]);
        let halves = if low { whole.saturating_sub(recipe.frozen_bytes(precision)) } else { 0 };
        let weights = if stored { whole - halves } else { whole };
        // An adapter is in 32 bits.
        let trained_low = stored && adapter.is_none();
        let masters = if trained_low { 2 * halves } else { 0 };
        // What is added up is in 32 bits: parts of a batch, or on every device all gradients.
        let added = training.accumulation > 1 || devices > 1 && !training.shard;
        let gradients = if trained_low && !added { weights } else { bytes(&[trained]) };
        // Each device remembers a share of the parameters or all, or the CPU does for it.
        let sharers = if training.shard { devices as u64 } else { 1 };
        let offload = training.offload && !machine.is_cpu;
        let remembered = |bytes: u64| if offload { 0 } else { bytes.div_ceil(sharers) };
        let all = bytes(&[3, trained]).saturating_add(masters).saturating_mul(devices as u64) / sharers;
        Self {
            weights,
            gradients,
            moments: remembered(bytes(&[2, trained])),
            average: remembered(bytes(&[trained])),
            masters: remembered(masters),
            rounded: if stored { 0 } else { halves },
            offloaded: if offload { all } else { 0 },
        }
    }

    pub(super) fn on_device(&self) -> u64 {
        let Self { weights, gradients, moments, average, masters, rounded, offloaded: _ } = *self;
        [weights, gradients, moments, average, masters, rounded].into_iter().fold(0, u64::saturating_add)
    }
}
