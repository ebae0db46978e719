//! Interpolants between noise and data.

use std::fmt::Debug;

/// The interpolant `x_t = α x + σ ε` at one time, with `x` data and `ε ~ N(0, I)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Time in the network's own convention, in [0, 1]: the label it is given.
    pub time: f64,
    /// Share of the data, α.
    pub alpha: f64,
    /// Share of the noise, σ.
    pub sigma: f64,
    /// dα/d`time`.
    pub d_alpha: f64,
    /// dσ/d`time`.
    pub d_sigma: f64,
}

impl Coefficients {
    /// The same point of the path with its time counted from data (0) to noise (1).
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { time: 1.0 - self.time, d_alpha: -self.d_alpha, d_sigma: -self.d_sigma, ..self }
    }
}

/// A path from noise to data, and the time label that its network reads.
///
/// ```
/// use mixflow_schedules::{Coefficients, Schedule};
///
/// /// Straight in the direction, quadratic in the speed.
/// #[derive(Debug)]
/// struct Quadratic;
///
/// impl Schedule for Quadratic {
///     fn at(&self, t: f64) -> Coefficients {
///         Coefficients { time: t, alpha: t * t, sigma: 1.0 - t * t, d_alpha: 2.0 * t, d_sigma: -2.0 * t }
///     }
/// }
/// assert_eq!(Quadratic.at(0.5).alpha, 0.25);
/// ```
pub trait Schedule: Debug + Send + Sync {
    /// The path at paper time `t` ∈ [0, 1]: 0 is noise, 1 is data.
    fn at(&self, t: f64) -> Coefficients;
}

impl<S: Schedule + ?Sized> Schedule for &S {
    fn at(&self, t: f64) -> Coefficients {
        (**self).at(t)
    }
}

impl<S: Schedule + ?Sized> Schedule for Box<S> {
    fn at(&self, t: f64) -> Coefficients {
        (**self).at(t)
    }
}

/// The same path labelled from data (0) to noise (1), as in REPA, RAE and SD3.
///
/// It is still asked in paper time; only the label and the derivatives, hence the sign of the velocity, change.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reversed<S>(
    /// The path in paper time.
    pub S,
);

impl<S: Schedule> Schedule for Reversed<S> {
    fn at(&self, t: f64) -> Coefficients {
        self.0.at(t).reversed()
    }
}

/// The paper time at which `share` of the label's way from paper time `from` to paper time `to` is done.
///
/// Labels that run evenly give `from + share (to − from)`. Any other is searched by bisection, and must be monotone; beyond
/// `from` and `to` as far as it runs on.
pub fn time_between(schedule: &dyn Schedule, from: f64, to: f64, share: f64) -> f64 {
    let mix = |from: f64, to: f64| from * (1.0 - share) + to * share;
    let (label, even) = (|t| schedule.at(t).time, mix(from, to));
    let wanted = mix(label(from), label(to));
    if (label(even) - wanted).abs() <= 8.0 * f64::EPSILON {
        return even;
    }
    let direction = (label(to) - label(from)).signum();
    let short = |t: f64| (label(t) - wanted) * direction < 0.0;
    let (mut low, mut high) = (from, to);
    for _ in 0..64 {
        if short(high) {
            (low, high) = (high, high + (to - from));
        }
    }
    loop {
        let middle = low + (high - low) / 2.0;
        if middle == low || middle == high {
            return high;
        }
        if short(middle) { low = middle } else { high = middle }
    }
}

/// Whether two schedules are one path, whatever way they count its time: `α` and `σ` are compared at nine times.
pub fn same_path(one: &dyn Schedule, other: &dyn Schedule) -> bool {
    (1..10).map(|tenth| f64::from(tenth) / 10.0).all(|t| {
        let (one, other) = (one.at(t), other.at(t));
        (one.alpha - other.alpha).abs() < 1e-9 && (one.sigma - other.sigma).abs() < 1e-9
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Cosine, Linear, VariancePreserving};

    /// Every schedule of the crate, in both directions.
    pub(crate) fn all() -> Vec<Box<dyn Schedule>> {
        vec![
            Box::new(Linear),
            Box::new(Cosine),
            Box::new(VariancePreserving::default()),
            Box::new(Reversed(Linear)),
            Box::new(Reversed(Cosine)),
            Box::new(Reversed(VariancePreserving::default())),
        ]
    }

    proptest! {
        #![proptest_config(crate::seeded())]

        /// Central differences have error `h²/6 |α‴|`; VP's third derivative is below 2e3 on this interval.
        #[test]
        fn derivatives_match_finite_differences(t in 0.05..0.95_f64) {
            let h = 1e-5;
            for schedule in all() {
                let (low, at, high) = (schedule.at(t - h), schedule.at(t), schedule.at(t + h));
                let elapsed = high.time - low.time;
                prop_assert!(((high.alpha - low.alpha) / elapsed - at.d_alpha).abs() < 1e-6, "{schedule:?}");
                prop_assert!(((high.sigma - low.sigma) / elapsed - at.d_sigma).abs() < 1e-6, "{schedule:?}");
            }
        }

        #[test]
        fn curved_paths_preserve_variance(t in 0.0..=1.0_f64) {
            for schedule in [&Cosine as &dyn Schedule, &VariancePreserving::default()] {
                let at = schedule.at(t);
                prop_assert!((at.alpha.powi(2) + at.sigma.powi(2) - 1.0).abs() < 1e-14, "{schedule:?}");
            }
        }

        /// `reversed(t).time` and the path's time add up to 1; velocity and SDE change their sign and nothing else.
        #[test]
        fn directions_mirror_each_other(t in 0.01..0.99_f64) {
            for schedule in all() {
                let (forward, back) = (schedule.at(t), Reversed(&schedule).at(t));
                prop_assert!((forward.time + back.time - 1.0).abs() < 1e-15);
                prop_assert_eq!((forward.alpha, forward.sigma), (back.alpha, back.sigma));
                prop_assert_eq!((forward.d_alpha, forward.d_sigma), (-back.d_alpha, -back.d_sigma));
                prop_assert_eq!(forward.sde().diffusion, -back.sde().diffusion);
            }
        }
    }

    #[test]
    fn a_path_is_the_same_in_both_directions_and_no_other() {
        let schedules = all();
        for (i, one) in schedules.iter().enumerate() {
            for (j, other) in schedules.iter().enumerate() {
                assert_eq!(same_path(one, other), i % 3 == j % 3, "{one:?} {other:?}");
            }
        }
        let other = VariancePreserving::new(0.1, 19.0).unwrap();
        assert!(!same_path(&VariancePreserving::default(), &other));
    }

    /// The straight path, whose label is `t (1 + t) / 2`.
    #[derive(Debug)]
    struct Quadratic;

    impl Schedule for Quadratic {
        fn at(&self, t: f64) -> Coefficients {
            let speed = 0.5 + t;
            Coefficients {
                time: t * (1.0 + t) / 2.0,
                alpha: t,
                sigma: 1.0 - t,
                d_alpha: 1.0 / speed,
                d_sigma: -1.0 / speed,
            }
        }
    }

    #[test]
    fn times_between_others_go_by_the_label() {
        for schedule in all() {
            assert!((time_between(&schedule, 0.2, 0.6, 0.25) - 0.3).abs() < 1e-15, "{schedule:?}");
            assert_eq!([0.0, 1.0].map(|share| time_between(&schedule, 0.2, 0.6, share)), [0.2, 0.6]);
        }
        for (schedule, from, to) in
            [(&Quadratic as &dyn Schedule, 0.1, 0.7), (&Quadratic, 0.7, 0.1), (&Reversed(Quadratic), 0.1, 0.7)]
        {
            let label = |t: f64| schedule.at(t).time;
            for share in [0.0, 0.3, 0.5, 1.0, 1.2] {
                let wanted = label(from) + share * (label(to) - label(from));
                let found = label(time_between(schedule, from, to, share));
                assert!((found - wanted).abs() < 1e-15, "{schedule:?} {share}: {found} is not {wanted}");
            }
        }
    }

    #[test]
    fn paths_end_in_data() {
        for schedule in all() {
            let end = schedule.at(1.0);
            assert!((end.alpha - 1.0).abs() < 1e-15 && end.sigma.abs() < 1e-15, "{schedule:?}: {end:?}");
        }
    }
}
