//! Conformance checks for any path and any law of times.

use crate::{Schedule, TimeLaw};

/// Points that are looked at.
const POINTS: u32 = 200;

/// Checks everything that training and sampling take for granted about a path.
///
/// - All numbers are finite within (0, 1), the same at every call, and no share is negative.
/// - From noise to data the share of data never falls, that of noise never rises, and data are all that is left.
/// - The label runs within [0, 1], either way, and never stands still.
/// - The derivatives are those of the shares by the label.
///
/// ```
/// mixflow_schedules::testing::check_schedule(&mixflow_schedules::Cosine);
/// ```
///
/// # Panics
/// If a property does not hold: the message starts with its name.
pub fn check_schedule(schedule: &dyn Schedule) {
    let inside = |point: u32| f64::from(point) / f64::from(POINTS);
    let all: Vec<_> = (1..POINTS).map(|point| schedule.at(inside(point))).collect();
    for (point, at) in (1..).zip(&all) {
        let t = inside(point);
        let numbers = [at.time, at.alpha, at.sigma, at.d_alpha, at.d_sigma];
        assert!(numbers.iter().all(|number| number.is_finite()), "finiteness: {at:?} at t = {t}");
        assert!(at.alpha >= 0.0 && at.sigma >= 0.0, "shares: {at:?} at t = {t}, expected none below 0");
        assert!((0.0..=1.0).contains(&at.time), "label: {} at t = {t}, expected it within [0, 1]", at.time);
        assert!(schedule.at(t) == *at, "determinism: two calls at t = {t} differ");

        let step = 1e-6;
        let [before, after] = [t - step, t + step].map(|t| schedule.at(t));
        let by_label = |after: f64, before: f64, time: f64| (after - before) / time;
        let time = after.time - before.time;
        for (name, found, expected) in [
            ("d_alpha", at.d_alpha, by_label(after.alpha, before.alpha, time)),
            ("d_sigma", at.d_sigma, by_label(after.sigma, before.sigma, time)),
        ] {
            let near = (found - expected).abs() <= 1e-3 * (1.0 + expected.abs());
            assert!(near, "derivative: {name} is {found} at t = {t}, differences of the shares give {expected}");
        }
    }
    let up = all[1].time > all[0].time;
    for (point, pair) in (1..).zip(all.windows(2)) {
        let (t, [from, to]) = (inside(point), [pair[0], pair[1]]);
        assert!(to.alpha >= from.alpha && to.sigma <= from.sigma, "order: data fade or noise grows after t = {t}");
        assert!(to.time != from.time && (to.time > from.time) == up, "label: it turns or stands still after t = {t}");
    }
    let end = schedule.at(1.0);
    assert!(end.alpha > 0.99 && end.sigma < 0.01, "end: {end:?} at t = 1, expected data alone");
    assert!(all[0].sigma > all[0].alpha, "beginning: there is more data than noise at t = {}", inside(1));
}

/// Checks everything that training takes for granted about a law of times: its quantiles are within [0, 1], never fall, and
/// are the same at every call.
///
/// ```
/// mixflow_schedules::testing::check_time_law(&mixflow_schedules::Uniform);
/// ```
///
/// # Panics
/// As [`check_schedule`].
pub fn check_time_law(law: &dyn TimeLaw) {
    let share = |point: u32| f64::from(point) / f64::from(POINTS);
    let mut last = 0.0;
    for u in (0..=POINTS).map(share) {
        let t = law.quantile(u);
        assert!((0.0..=1.0).contains(&t), "range: {t} at u = {u}, expected a time within [0, 1]");
        assert!(t >= last, "order: the quantile falls from {last} to {t} at u = {u}");
        assert!(law.quantile(u) == t, "determinism: two calls at u = {u} differ");
        last = t;
    }
    assert!(last > law.quantile(0.0), "spread: all times are {last}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Beta, Coefficients, Cosine, Ddpm, Linear, LogitNormal, Reversed, Uniform, VariancePreserving};

    #[test]
    fn the_paths_and_laws_of_this_crate_conform() {
        let schedules: [&dyn Schedule; 6] =
            [&Linear, &Cosine, &VariancePreserving::default(), &Ddpm, &Reversed(Linear), &Reversed(Cosine)];
        schedules.into_iter().for_each(check_schedule);
        let laws: [&dyn TimeLaw; 3] = [&Uniform, &Beta::MIXFLOW, &LogitNormal::new(0.0, 1.0).unwrap()];
        laws.into_iter().for_each(check_time_law);
    }

    /// A straight path with one thing changed.
    #[derive(Debug)]
    struct Changed(fn(Coefficients) -> Coefficients);

    impl Schedule for Changed {
        fn at(&self, t: f64) -> Coefficients {
            self.0(Linear.at(t))
        }
    }

    fn complaint(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let cause = std::panic::catch_unwind(check).expect_err("the check finds the fault");
        let text = cause.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default()
    }

    #[test]
    fn every_fault_of_a_path_is_found() {
        type Change = fn(Coefficients) -> Coefficients;
        let faults: [(&str, Change); 6] = [
            ("finiteness", |c| Coefficients { sigma: f64::NAN, ..c }),
            ("shares", |c| Coefficients { alpha: -c.alpha, ..c }),
            ("label", |c| Coefficients { time: 2.0 * c.time, d_alpha: 0.5 * c.d_alpha, d_sigma: 0.5 * c.d_sigma, ..c }),
            ("derivative", |c| Coefficients { d_alpha: 2.0, ..c }),
            ("order", |c| Coefficients { alpha: c.sigma, sigma: c.alpha, d_alpha: c.d_sigma, d_sigma: c.d_alpha, ..c }),
            ("end", |c| Coefficients { alpha: 0.5 * c.alpha, d_alpha: 0.5 * c.d_alpha, ..c }),
        ];
        for (name, change) in faults {
            let found = complaint(|| check_schedule(&Changed(change)));
            assert!(found.starts_with(name), "{name}: {found}");
        }
    }

    #[test]
    fn every_fault_of_a_law_is_found() {
        #[derive(Debug)]
        struct Law(fn(f64) -> f64);
        impl TimeLaw for Law {
            fn quantile(&self, u: f64) -> f64 {
                self.0(u)
            }
        }
        type Quantile = fn(f64) -> f64;
        let faults: [(&str, Quantile); 3] =
            [("range", |u| 2.0 * u), ("order", |u| 4.0 * u * (1.0 - u)), ("spread", |_| 0.5)];
        for (name, law) in faults {
            let found = complaint(|| check_time_law(&Law(law)));
            assert!(found.starts_with(name), "{name}: {found}");
        }
    }
}
