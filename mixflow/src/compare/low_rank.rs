//! What MixFlow costs a perfect network: the exact optimum of its loss on Gaussian data of low rank.

use rayon::prelude::*;

use crate::random::{self, Stream};

/// The network that minimises MixFlow's loss on data `N(0, I)` within a subspace and zero beside it, whose label is `t` and
/// whose input was mixed at `m ~ U[(1 − γ) t, t]`.
///
/// It cannot see `m`, so that its velocity is the mean of those at all `m` by how likely they are for its input. That depends
/// on the two lengths of the input alone, within the subspace and beside it, and leaves both directions as they are.
#[derive(Clone, Copy, Debug)]
struct Optimum {
    gamma: f64,
    /// Dimensions within the subspace, and beside it.
    dimensions: [f64; 2],
}

/// Times `m` at which the velocities are added up.
const TIMES: u32 = 400;

/// Steps of Heun's method, the last one of Euler's: 50 and 800 give the same four digits.
const STEPS: u32 = 100;

impl Optimum {
    /// How fast both lengths grow at label `t`, as shares of them.
    fn growth(&self, lengths: [f64; 2], t: f64) -> [f64; 2] {
        let [within, beside] = [0, 1].map(|part| lengths[part] * lengths[part]);
        let [rank, rest] = self.dimensions;
        // Nearly all that is known of m is in the length beside the subspace, √rest (1 − m): a dozen deviations of that.
        let noise = (beside / rest).sqrt();
        let earliest = (1.0 - self.gamma) * t;
        let likely = (1.0 - noise).clamp(earliest, t);
        let reach = 12.0 * noise.max(1.0 - t) / (2.0 * rest).sqrt();
        let (from, to) = ((likely - reach).max(earliest), (likely + reach).min(t));
        let at = |step: u32| {
            let m = from + (to - from) * f64::from(step) / f64::from(TIMES);
            let (noise, variance) = (1.0 - m, m * m + (1.0 - m) * (1.0 - m));
            let likelihood = -rest * noise.ln()
                - beside / (2.0 * noise * noise)
                - rank / 2.0 * variance.ln()
                - within / (2.0 * variance);
            (step.is_multiple_of(TIMES), likelihood, [(2.0 * m - 1.0) / variance, -1.0 / noise])
        };
        let all: Vec<_> = (0..=TIMES).map(at).collect();
        let most = all.iter().map(|(_, likelihood, _)| *likelihood).fold(f64::NEG_INFINITY, f64::max);
        let (sum, sums) = all.into_iter().fold((0.0, [0.0; 2]), |(sum, sums), (ends, likelihood, growth)| {
            let weight = if ends { 0.5 } else { 1.0 } * (likelihood - most).exp();
            (sum + weight, [sums[0] + weight * growth[0], sums[1] + weight * growth[1]])
        });
        sums.map(|growth| growth / sum)
    }

    /// The length within the subspace that noise of these lengths is led to.
    fn carry(&self, mut lengths: [f64; 2]) -> f64 {
        let width = 1.0 / f64::from(STEPS);
        for step in 0..STEPS {
            let t = f64::from(step) * width;
            let growth = self.growth(lengths, t);
            let slope = [0, 1].map(|part| growth[part] * lengths[part]);
            let next = [0, 1].map(|part| lengths[part] + width * slope[part]);
            if step + 1 == STEPS {
                return next[0];
            }
            let after = self.growth(next, t + width);
            lengths = [0, 1].map(|part| lengths[part] + width / 2.0 * (slope[part] + after[part] * next[part]));
        }
        lengths[0]
    }
}

/// By what share the deviation of images within the subspace is below that of the data, where a perfect network of MixFlow
/// draws them: of data with so many `dimensions`, 2 or more, whose rank is a tenth of that, mean over `draws` of the noise.
///
/// A perfect network of flow matching has 0.
pub fn contraction(dimensions: usize, gamma: f64, draws: u64) -> f64 {
    let rank = (dimensions / 10).max(1);
    let optimum = Optimum { gamma, dimensions: [rank as f64, (dimensions - rank) as f64] };
    let squares = |draw: u64| {
        let mut noise = vec![0.0f32; dimensions];
        random::normal(&mut random::rng(0, Stream::Sample, draw), &mut noise);
        let length = |part: &[f32]| part.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let [within, beside] = [length(&noise[..rank]), length(&noise[rank..])];
        (optimum.carry([within.sqrt(), beside.sqrt()]).powi(2), within)
    };
    let all: Vec<_> = (0..draws).into_par_iter().map(squares).collect();
    let [drawn, given] = all.into_iter().fold([0.0; 2], |[a, b], (drawn, given)| [a + drawn, b + given]);
    1.0 - (drawn / given).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found for this project before, by simulation: 10 to 12 %, 6 %, 3.3 %, 1.7 % and 0.6 %.
    #[test]
    fn the_cost_falls_with_the_root_of_the_dimensions() {
        for (dimensions, low, high) in [
            (64, 0.095, 0.125),
            (256, 0.053, 0.066),
            (1024, 0.027, 0.036),
            (4096, 0.014, 0.019),
            (32_768, 0.005, 0.007),
        ] {
            let found = contraction(dimensions, 0.8, 96);
            assert!((low..high).contains(&found), "{dimensions}: {found}");
        }
        // It hardly depends on γ, but for none.
        let [some, all] = [0.4, 1.0].map(|gamma| contraction(1024, gamma, 32));
        assert!((some / all - 1.0).abs() < 0.1, "{some} {all}");
        assert!(contraction(64, 0.0, 4).abs() < 1e-3, "{}", contraction(64, 0.0, 4));
    }

    /// The mean over all m, not only those near the likely one.
    #[test]
    fn the_velocity_is_the_mean_over_all_times() {
        let optimum = Optimum { gamma: 0.8, dimensions: [4.0, 36.0] };
        for (lengths, t) in [([1.5, 3.0], 0.6), ([2.0, 2.0], 0.5), ([2.0, 6.5], 0.3)] {
            let (mut sum, mut sums) = (0.0, [0.0; 2]);
            for step in 0..=200_000 {
                let m = 0.2 * t + 0.8 * t * f64::from(step) / 200_000.0;
                let (noise, variance) = (1.0 - m, m * m + (1.0 - m).powi(2));
                let density = |length: f64, deviation: f64, dimensions: f64| {
                    (-dimensions * deviation.ln() - length * length / (2.0 * deviation * deviation)).exp()
                };
                let weight = density(lengths[0], variance.sqrt(), 4.0) * density(lengths[1], noise, 36.0);
                sum += weight;
                sums = [sums[0] + weight * (m - noise) / variance, sums[1] - weight / noise];
            }
            for (found, sum_of) in optimum.growth(lengths, t).into_iter().zip(sums) {
                assert!((found - sum_of / sum).abs() < 1e-3 * found.abs(), "{t}: {found} is not {}", sum_of / sum);
            }
        }
    }
}
