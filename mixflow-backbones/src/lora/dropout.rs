//! Dropout of what adapters are given.

use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::Tensor;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use super::LowRank;
use crate::ops::Dropped;

/// `network` as it computes in a training step: of what each of its adapters is given, a share of `rate` is dropped and the
/// rest divided by `1 − rate`. What is dropped of an example is decided by `seed` and by its training position, which is
/// `first` for the first one of a batch and counts up from there, where the network runs a batch in its order: others have a
/// [`Backbone::dropping`](crate::Backbone::dropping) of their own. The network shares its parameters with the one given, whose
/// own forward pass drops nothing.
///
/// # Panics
/// If `rate` is not in [0, 1).
///
/// # Source
/// `peft` 0.21.2, `tuners/lora/layer.py`, `lora_dropout`; its draws are others.
#[must_use]
pub fn dropping<M: Module>(network: M, rate: f64, seed: u64, first: u64) -> M {
    assert!((0.0..1.0).contains(&rate), "the rate of a dropout is in [0, 1), found {rate}");
    // Positions that are 2³² apart drop alike.
    let (end, first) = (format!(".{}.a", LowRank::NAME), first as u32);
    network.apply_reparameterization(Dropping { rate, seeds: ChaCha8Rng::seed_from_u64(seed), first, end })
}

struct Dropping {
    rate: f64,
    /// One for each adapter, in the network's order.
    seeds: ChaCha8Rng,
    first: u32,
    /// Of the paths of factors that are given the layers' inputs.
    end: String,
}

impl Reparameterizer for Dropping {
    type Reparam = Dropped;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        factor: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Dropped>) {
        let Self { rate, first, .. } = *self;
        let drops = path.ends_with(&self.end).then(|| Dropped { rate, seed: self.seeds.random(), first });
        (factor, drops)
    }
}
