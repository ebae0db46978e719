//! How two arms differ, seed by seed, and whether that is more than chance.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::Arm;
use super::per_seed::PerSeed;
use crate::evaluation::Best;
use crate::random::{self, Stream};

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
    /// Where the mean over seeds lies in 95 % of draws of as many seeds from these (bootstrap); none of a single seed. Of
    /// three seeds it is from the smallest to the largest.
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

/// Draws of a bootstrap.
const DRAWS: usize = 10_000;

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
    let values: Vec<f64> = values.finite().collect();
    if values.len() < 2 {
        return None;
    }
    let mut rng = random::rng(0, Stream::Metric, 0);
    let mut mean = || (0..values.len()).map(|_| values[rng.random_range(0..values.len())]).sum::<f64>();
    let mut means: Vec<f64> = (0..DRAWS).map(|_| mean() / values.len() as f64).collect();
    means.sort_unstable_by(f64::total_cmp);
    Some([means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(a: &[f64], b: &[f64], best: Best) -> Difference {
        let [a, b] = [a, b].map(|values| values.iter().copied().collect::<PerSeed>());
        Difference::new((&Arm::MixFlow, &a), (&Arm::Standard, &b), ("Fréchet", best), 20)
    }

    #[test]
    fn better_is_said_where_every_draw_says_so() {
        // Spreads overlap, but every seed agrees.
        let agreed = between(&[10.0, 12.0, 14.0], &[11.0, 13.5, 14.5], Best::Low);
        assert_eq!((agreed.values.clone(), agreed.verdict()), ([-1.0, -1.5, -0.5].into(), Verdict::Better));
        // One mean in 27 is that of the smallest alone, which is more than 2.5 %.
        assert_eq!(agreed.interval, Some([-1.5, -0.5]));
        assert_eq!(between(&[1.0, 2.0, 3.0], &[2.0, 1.0, 4.0], Best::Low).verdict(), Verdict::Unclear);
        assert_eq!(between(&[0.4, 0.5, 0.6], &[0.5, 0.6, 0.8], Best::High).verdict(), Verdict::Worse);
        // How far they are from 1: 0.1 and 0.1 against 0.05 and 0.2.
        assert_eq!(between(&[0.9, 0.9], &[1.05, 1.2], Best::One).verdict(), Verdict::Unclear);
        assert_eq!(between(&[0.9, 0.95], &[1.2, 1.2], Best::One).verdict(), Verdict::Better);
    }

    #[test]
    fn one_seed_decides_nothing_and_the_start_is_in_every_seed() {
        assert_eq!(between(&[1.0], &[2.0], Best::Low).verdict(), Verdict::Unclear);
        let start = between(&[5.0, 7.0, 6.0], &[8.0], Best::Low);
        assert_eq!((start.values.clone(), start.verdict()), ([-3.0, -1.0, -2.0].into(), Verdict::Better));
        assert!(between(&[f64::NAN, 1.0], &[1.0, 2.0], Best::Low).interval.is_none());
    }

    /// The interval of a normal mean: ± 1.96 deviations over the root of their number.
    #[test]
    fn many_seeds_have_the_interval_of_their_mean() {
        let mut values = vec![0.0f32; 400];
        random::normal(&mut random::rng(5, Stream::Metric, 3), &mut values);
        let values: PerSeed = values.into_iter().map(f64::from).collect();
        let [low, high] = interval(&values).unwrap();
        let half = 1.96 * values.deviation().unwrap() / 20.0;
        let mean = values.mean().unwrap();
        // The ends of 10,000 draws are known to about 3 %.
        assert!((low - (mean - half)).abs() < 0.1 * half && (high - (mean + half)).abs() < 0.1 * half, "{low} {high}");
    }
}
