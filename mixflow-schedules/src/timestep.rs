//! The two times of a training example.

use std::fmt::Debug;

use rand::{Rng, RngExt};

/// The two times of a training example, in paper time: the input is noised at `m`, the network is told `t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timestep {
    /// Time label, in [0, 1].
    pub t: f64,
    /// Time of the input, in [0, 1]; equal to `t` except under [`MixFlow`](crate::MixFlow).
    pub m: f64,
}

/// Draws the times of training examples.
///
/// Every [`TimeLaw`](crate::TimeLaw) is one, with `m = t`; implement this trait only where `m` differs.
///
/// ```
/// use mixflow_schedules::{Timestep, TimestepSampler};
/// use rand::{SeedableRng, rngs::ChaCha8Rng};
///
/// /// Inputs always slightly noisier than their label says.
/// #[derive(Debug)]
/// struct Late;
///
/// impl TimestepSampler for Late {
///     fn timestep(&self, [u, _]: [f64; 2]) -> Timestep {
///         Timestep { t: u, m: 0.9 * u }
///     }
/// }
/// let example = Late.sample(&mut ChaCha8Rng::seed_from_u64(0));
/// assert_eq!(example.m, 0.9 * example.t);
/// ```
pub trait TimestepSampler: Debug + Send + Sync {
    /// The times that two independent draws from the uniform distribution on [0, 1) stand for.
    fn timestep(&self, u: [f64; 2]) -> Timestep;

    /// Draws the times of one example.
    ///
    /// Two uniform numbers are taken whatever the law, so that exchanging one law for another leaves the noise and
    /// everything else drawn from `rng` as it was: arms of a comparison differ in their times only.
    fn sample(&self, rng: &mut dyn Rng) -> Timestep {
        self.timestep([rng.random(), rng.random()])
    }
}

impl TimestepSampler for Box<dyn TimestepSampler> {
    fn timestep(&self, u: [f64; 2]) -> Timestep {
        (**self).timestep(u)
    }
}
