//! A law kept away from the ends of a path.

use crate::{Error, TimeLaw};

/// A law conditioned on `start ≤ t ≤ end`, for networks that are singular at an end of the path.
///
/// [`interval`](crate::interval) names the ends that the published codes use. Noise and data networks cannot be read at both
/// ends, and RAE stays 0.001 away from noise in training. Place it inside [`Shifted`](crate::Shifted) to bound the time before the shift, as RAE does.
///
/// RAE's released MixFlow change bounds the uniform number behind Beta(2, 1) to [0, 0.999] instead, which is this law
/// with `end = √0.999`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truncated<L> {
    start: f64,
    end: f64,
    /// Share of the base law below `start`.
    low: f64,
    /// Share of the base law below `end`.
    high: f64,
    base: L,
}

impl<L: TimeLaw> Truncated<L> {
    /// `base` conditioned on the given interval of paper time.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for times outside [0, 1], and [`Error::Interval`] unless `start < end` and the base
    /// law puts some probability between them.
    pub fn new(start: f64, end: f64, base: L) -> Result<Self, Error> {
        let (start, end) = (Error::unit("start", start)?, Error::unit("end", end)?);
        let refuse = |problem| Err(Error::Interval { start, end, problem });
        if start >= end {
            return refuse("is empty: `start` must be below `end`");
        }
        let low = share(&base, |t| t < start);
        let high = share(&base, |t| t <= end);
        if high - low < 1e-9 {
            return refuse("is (almost) never reached by its base law: widen it or change the base");
        }
        Ok(Self { start, end, low, high, base })
    }
}

impl<L> Truncated<L> {
    /// Start, end and the law between them.
    pub fn parts(&self) -> (f64, f64, &L) {
        (self.start, self.end, &self.base)
    }
}

impl<L: TimeLaw> TimeLaw for Truncated<L> {
    fn quantile(&self, u: f64) -> f64 {
        self.base.quantile(self.low + (self.high - self.low) * u).clamp(self.start, self.end)
    }
}

/// The share of draws that are `below`, by bisection: exact at 0 and 1, else to 1e-16.
fn share(law: &impl TimeLaw, below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    if !below(law.quantile(low)) || below(law.quantile(high)) {
        return if below(law.quantile(high)) { high } else { low };
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if below(law.quantile(middle)) { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Beta, Uniform};

    proptest! {
        #![proptest_config(crate::seeded())]

        #[test]
        fn truncation_rescales_the_quantiles(u in 0.0..1.0_f64, start in 0.0..0.5_f64, end in 0.6..1.0_f64) {
            let uniform = Truncated::new(start, end, Uniform).unwrap();
            prop_assert!((uniform.quantile(u) - (start + (end - start) * u)).abs() < 1e-15);
            // Beta(2, 1) has the distribution function t².
            let beta = Truncated::new(start, end, Beta::MIXFLOW).unwrap();
            let expected = (start * start + (end * end - start * start) * u).sqrt();
            prop_assert!((beta.quantile(u) - expected).abs() < 1e-14);
        }
    }

    #[test]
    fn the_whole_interval_is_the_base_law_bit_for_bit() {
        let whole = Truncated::new(0.0, 1.0, Beta::MIXFLOW).unwrap();
        for u in [0.0, 0.1, 0.37, 0.999] {
            assert_eq!(whole.quantile(u), Beta::MIXFLOW.quantile(u));
        }
    }

    #[test]
    fn empty_and_unreachable_intervals_are_refused() {
        assert!(matches!(Truncated::new(0.5, 0.5, Uniform), Err(Error::Interval { .. })));
        assert!(matches!(Truncated::new(-0.1, 0.5, Uniform), Err(Error::OutOfRange { name: "start", .. })));
        let inner = Truncated::new(0.6, 0.8, Uniform).unwrap();
        assert!(matches!(Truncated::new(0.1, 0.5, inner), Err(Error::Interval { .. })));
    }
}
