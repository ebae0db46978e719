//! How two arms differ, seed by seed, and whether that is more than chance.

use serde::{Deserialize, Serialize};

use super::Arm;
use super::per_seed::PerSeed;
use crate::evaluation::Best;

/// How a measure of one arm differs from that of another one. Both have the same seeds, examples and noise, so that what
/// these have in common falls out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Of this arm,
    pub arm: Arm,
    /// less that of this one.
    pub than: Arm,
    /// Network evaluations for each image, of the first arm.
    pub evaluations: u64,
    /// What was measured.
    pub measure: String,
    /// Which values of it are good.
    pub best: Best,
    /// The difference in each seed; of a measure that is best at 1, of its distance from 1.
    pub values: PerSeed,
    /// The 95 % confidence interval of the mean over seeds, by Student's t; none of a single seed. Of three seeds it reaches
    /// 2.5 of their standard deviations to either side: that they agree is chance in one case of four.
    pub interval: Option<[f64; 2]>,
}

/// What a [`Difference`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is on the good side of 0.
    Better,
    /// It is not, on either side, or there is none.
    Unclear,
    /// The whole interval is on the bad side of 0.
    Worse,
}

impl Difference {
    /// Of values of each seed, in the same order; an arm that has one value, as the start, has it in every seed.
    pub fn new(
        (arm, a): (&Arm, &PerSeed),
        (than, b): (&Arm, &PerSeed),
        (measure, best): (&str, Best),
        at: u64,
    ) -> Self {
        let values = paired(a, b, best);
        let interval = interval(&values);
        Self { arm: arm.clone(), than: than.clone(), evaluations: at, measure: measure.into(), best, values, interval }
    }

    /// Whether the arm is better than the other one.
    pub fn verdict(&self) -> Verdict {
        match (self.interval, self.best) {
            (Some([_, high]), Best::Low | Best::One) if high < 0.0 => Verdict::Better,
            (Some([low, _]), Best::Low | Best::One) if low > 0.0 => Verdict::Worse,
            (Some([low, _]), Best::High) if low > 0.0 => Verdict::Better,
            (Some([_, high]), Best::High) if high < 0.0 => Verdict::Worse,
            _ => Verdict::Unclear,
        }
    }
}

/// Differences of the values of each seed.
fn paired(a: &PerSeed, b: &PerSeed, best: Best) -> PerSeed {
    let value = |x: &PerSeed, seed: usize| match &x.0[..] {
        [one] => *one,
        all => all[seed],
    };
    let count = match (a.0.len(), b.0.len()) {
        (1, count) | (count, 1) => count,
        (a, b) => a.min(b),
    };
    let difference = |seed| {
        let [a, b] = [value(a, seed), value(b, seed)].map(|x| if best == Best::One { (x - 1.0).abs() } else { x });
        a - b
    };
    (0..count).map(difference).collect()
}

fn interval(values: &PerSeed) -> Option<[f64; 2]> {
    let (mean, deviation, count) = (values.mean()?, values.deviation()?, values.count());
    let half = student(count - 1) * deviation / (count as f64).sqrt();
    Some([mean - half, mean + half])
}

/// What 97.5 % of Student's t distribution with so many degrees of freedom, at least 1, are below.
///
/// # Source
/// Fisher 1925, table IV; beyond it the expansion about the normal distribution of Abramowitz and Stegun 1964, 26.7.5.
fn student(freedom: usize) -> f64 {
    const FEW: [f64; 9] = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622];
    let (z, many) = (1.959_964_f64, freedom as f64);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    FEW.get(freedom - 1).copied().unwrap_or(z + first / many + second / many.powi(2) + third / many.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{self, Stream};

    fn between(a: &[f64], b: &[f64], best: Best) -> Difference {
        let [a, b] = [a, b].map(|values| values.iter().copied().collect::<PerSeed>());
        Difference::new((&Arm::MixFlow, &a), (&Arm::Standard, &b), ("Fréchet", best), 20)
    }

    #[test]
    fn better_is_said_where_the_seeds_differ_less_than_the_arms() {
        // Spreads overlap, but every seed agrees. `scipy.stats.t.interval(0.95, 2, -1, 0.2 / 3 ** 0.5)`.
        let agreed = between(&[10.0, 12.0, 14.0], &[11.0, 13.2, 14.8], Best::Low);
        let [low, high] = agreed.interval.unwrap();
        assert!((low + 1.496_828).abs() < 1e-4 && (high + 0.503_172).abs() < 1e-4, "{low} {high}");
        assert_eq!(agreed.verdict(), Verdict::Better);
        // As they do by chance in one case of four.
        assert_eq!(between(&[10.0, 12.0, 14.0], &[11.0, 13.5, 14.5], Best::Low).verdict(), Verdict::Unclear);
        assert_eq!(between(&[1.0, 2.0, 3.0], &[2.0, 1.0, 4.0], Best::Low).verdict(), Verdict::Unclear);
        assert_eq!(between(&[0.4, 0.5, 0.6], &[0.5, 0.61, 0.7], Best::High).verdict(), Verdict::Worse);
        // How far they are from 1: 0.1 and 0.1 against 0.05 and 0.2.
        assert_eq!(between(&[0.9, 0.9], &[1.05, 1.2], Best::One).verdict(), Verdict::Unclear);
        assert_eq!(between(&[0.9, 0.901], &[1.2, 1.2], Best::One).verdict(), Verdict::Better);
    }

    /// No difference is found in one case of twenty, whatever the number of seeds.
    #[test]
    fn equal_arms_differ_in_one_case_of_twenty() {
        for seeds in [2, 3, 5, 10, 20] {
            let found = (0..4_000).filter(|case| {
                let mut values = vec![0.0f32; seeds];
                random::normal(&mut random::rng(*case, Stream::Metric, seeds as u64), &mut values);
                let values: Vec<f64> = values.into_iter().map(f64::from).collect();
                between(&values, &[0.0], Best::Low).verdict() != Verdict::Unclear
            });
            // 200 of 4,000, and five of their standard errors.
            let found = found.count();
            assert!(found.abs_diff(200) < 69, "{seeds} seeds: {found} of 4,000");
        }
    }

    #[test]
    fn one_seed_decides_nothing_and_the_start_is_in_every_seed() {
        assert_eq!(between(&[1.0], &[2.0], Best::Low).verdict(), Verdict::Unclear);
        let start = between(&[5.5, 6.5, 6.0], &[8.0], Best::Low);
        assert_eq!((start.values.clone(), start.verdict()), ([-2.5, -1.5, -2.0].into(), Verdict::Better));
        assert!(between(&[f64::NAN, 1.0], &[1.0, 2.0], Best::Low).interval.is_none());
    }

    /// `scipy.stats.t.ppf(0.975, freedom)`.
    #[test]
    fn student_is_that_of_tables() {
        for (freedom, expected) in
            [(1, 12.706_205), (2, 4.302_653), (9, 2.262_157), (10, 2.228_139), (30, 2.042_272), (399, 1.965_927)]
        {
            assert!((student(freedom) - expected).abs() < 1e-3, "{freedom}: {}", student(freedom));
        }
    }
}
