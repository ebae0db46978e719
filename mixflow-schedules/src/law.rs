//! Laws of the time label.

use std::fmt::Debug;

use crate::{Timestep, TimestepSampler};

/// A law of the time label `t`, given by its quantile function.
///
/// A law is a [`TimestepSampler`] with `m = t`, and can be bent by [`Shifted`](crate::Shifted) and
/// [`Truncated`](crate::Truncated) and slowed by [`MixFlow`](crate::MixFlow).
///
/// ```
/// use mixflow_schedules::{MixFlow, TimeLaw, TimestepSampler};
///
/// /// Density 3t².
/// #[derive(Debug)]
/// struct NearData;
///
/// impl TimeLaw for NearData {
///     fn quantile(&self, u: f64) -> f64 {
///         u.cbrt()
///     }
/// }
/// assert_eq!(MixFlow::wrap(0.8, NearData).timestep([0.125, 0.0]).t, 0.5);
/// ```
pub trait TimeLaw: Debug + Send + Sync {
    /// The time below which a share `u` ∈ [0, 1] of all draws falls: non-decreasing, in paper time.
    fn quantile(&self, u: f64) -> f64;
}

impl<L: TimeLaw + ?Sized> TimeLaw for &L {
    fn quantile(&self, u: f64) -> f64 {
        (**self).quantile(u)
    }
}

impl<L: TimeLaw + ?Sized> TimeLaw for Box<L> {
    fn quantile(&self, u: f64) -> f64 {
        (**self).quantile(u)
    }
}

impl<L: TimeLaw> TimestepSampler for L {
    fn timestep(&self, [u, _]: [f64; 2]) -> Timestep {
        let t = self.quantile(u);
        Timestep { t, m: t }
    }
}

/// Every time equally often: plain flow matching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uniform;

impl TimeLaw for Uniform {
    fn quantile(&self, u: f64) -> f64 {
        u
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Angular, Beta, LogitNormal, Shifted, Truncated};

    /// Laws of every kind of the crate.
    pub(crate) fn all() -> Vec<Box<dyn TimeLaw>> {
        vec![
            Box::new(Uniform),
            Box::new(Beta::new(2.0, 1.0).unwrap()),
            Box::new(Beta::new(0.7, 3.5).unwrap()),
            Box::new(LogitNormal::new(-0.5, 0.8).unwrap()),
            Box::new(Angular(LogitNormal::new(0.0, 1.0).unwrap())),
            Box::new(Shifted::new(6.9, Uniform).unwrap()),
            Box::new(Shifted::new(3.0, LogitNormal::new(0.0, 1.0).unwrap()).unwrap()),
            Box::new(Truncated::new(0.1, 0.999, Beta::new(2.0, 1.0).unwrap()).unwrap()),
        ]
    }

    proptest! {
        #![proptest_config(crate::seeded())]

        #[test]
        fn quantiles_are_non_decreasing_times(a in 0.0..1.0_f64, b in 0.0..1.0_f64) {
            for law in all() {
                let (low, high) = (law.quantile(a.min(b)), law.quantile(a.max(b)));
                // The general Beta is inverted to 1e-14.
                prop_assert!(0.0 <= low && low <= high + 1e-13 && high <= 1.0, "{law:?}: {low} {high}");
            }
        }
    }

    #[test]
    fn quantiles_reach_the_ends() {
        for law in all() {
            assert!(law.quantile(0.0) >= 0.0 && law.quantile(1.0) <= 1.0, "{law:?}");
        }
    }
}
