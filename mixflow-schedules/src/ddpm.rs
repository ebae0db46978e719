//! The discrete path of denoising diffusion.

use std::sync::LazyLock;

use crate::{Coefficients, Schedule};

/// The path of DDPM, ADM and DiT: a thousand noising steps, `β` from 1e-4 to 0.02 in equal parts.
///
/// Step `n` from 0 to 999 is at paper time `t = 1 − (n + 1) / 1000`, `α = √ᾱ_n` and `σ = √(1 − ᾱ_n)` with `ᾱ_n = Π (1 − β_i)`
/// over the steps up to it; `t = 1` is data, the state before the first step. Between steps `ln ᾱ` is a cubic in `t` with the
/// slopes of central differences (Catmull and Rom 1974), so that velocities have no jumps.
///
/// The label is `n / 1000`, so that a network which was trained on the numbers of steps multiplies it by 1000. It runs from
/// data to noise, as under [`Reversed`](crate::Reversed), and is −0.001 at `t = 1`, where no network was trained. As on
/// [`VariancePreserving`](crate::VariancePreserving), noise is not quite pure (`α ≈ 0.006`) and `dσ/dt → −∞` at data.
///
/// # Source
/// Ho et al. 2020 (arXiv 2006.11239), equation 4 and section 4, whose steps count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ddpm;

/// `ln ᾱ` after so many steps.
static LOG_ALPHA_BAR: LazyLock<[f64; Ddpm::STEPS + 1]> = LazyLock::new(|| {
    let mut log = [0.0; Ddpm::STEPS + 1];
    for n in 0..Ddpm::STEPS {
        let beta = 1e-4 + (0.02 - 1e-4) * n as f64 / (Ddpm::STEPS - 1) as f64;
        log[n + 1] = log[n] + (-beta).ln_1p();
    }
    log
});

impl Ddpm {
    /// How many steps there are.
    pub const STEPS: usize = 1000;

    /// The paper time of a step.
    ///
    /// # Panics
    /// If there is no such step.
    pub fn time(step: usize) -> f64 {
        assert!(step < Self::STEPS, "step {step} of {}", Self::STEPS);
        1.0 - (step + 1) as f64 / Self::STEPS as f64
    }
}

impl Schedule for Ddpm {
    fn at(&self, t: f64) -> Coefficients {
        let (table, steps) = (&*LOG_ALPHA_BAR, Self::STEPS as f64);
        let done = (1.0 - t) * steps;
        let first = (done.max(0.0) as usize).min(Self::STEPS - 1);
        let (u, [low, high]) = (done - first as f64, [table[first], table[first + 1]]);
        let rise = high - low;
        // Beyond an end the line through the last two goes on.
        let before = first.checked_sub(1).map_or(low - rise, |before| table[before]);
        let after = table.get(first + 2).map_or(high + rise, |after| *after);
        let [slope, next] = [(high - before) / 2.0, (after - low) / 2.0];
        let (square, cube) = (3.0 * rise - 2.0 * slope - next, slope + next - 2.0 * rise);
        let log = low + u * (slope + u * (square + u * cube));
        let d_log = steps * (slope + u * (2.0 * square + 3.0 * u * cube));
        let alpha = (0.5 * log).exp();
        // Beyond data there is no path: solvers that look ahead see that.
        let sigma = if t > 1.0 { f64::NAN } else { (-log.exp_m1()).abs().sqrt() };
        let d_alpha = 0.5 * alpha * d_log;
        Coefficients { time: (done - 1.0) / steps, alpha, sigma, d_alpha, d_sigma: -alpha * d_alpha / sigma }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Products of the paper, one factor after another, and its end points.
    #[test]
    fn steps_are_the_products_of_the_paper() {
        let mut product = 1.0;
        for step in 0..1000 {
            product *= 1.0 - (1e-4 + (0.02 - 1e-4) / 999.0 * step as f64);
            let at = Ddpm.at(Ddpm::time(step));
            assert!((at.alpha.powi(2) / product - 1.0).abs() < 1e-10, "step {step}: {at:?}, not {product}");
            assert!((at.sigma.powi(2) / (1.0 - product) - 1.0).abs() < 1e-10, "step {step}: {at:?}");
            assert!((1000.0 * at.time - step as f64).abs() < 1e-10, "step {step}: {at:?}");
        }
        assert_eq!((Ddpm.at(1.0).alpha, Ddpm.at(1.0).sigma), (1.0, 0.0));
        assert!((Ddpm.at(0.0).alpha - 0.00635).abs() < 1e-5);
    }

    #[test]
    fn beyond_data_there_is_no_path() {
        assert!(Ddpm.at(1.0 + 1e-9).sigma.is_nan() && Ddpm.at(1.0 - 1e-9).sigma > 0.0);
    }

    /// Between steps: the closed form `ᾱ = δᵏ Γ(c) / Γ(c − k)` of a product of equally spaced factors `δ (c − i)`, whose
    /// logarithm is the sum of `ln δ + ψ(c − u)` over the way; `ψ(z) ≈ ln(z − ½)` to 1e-11 here.
    #[test]
    fn between_steps_the_product_goes_on() {
        let delta = (0.02 - 1e-4) / 999.0;
        let c = (1.0 - 1e-4) / delta + 1.0;
        let slope = |k: f64| (delta * (c - k - 0.5)).ln();
        for tenths in 1..10_000 {
            let k = f64::from(tenths) / 10.0;
            let (at, expected) = (Ddpm.at(1.0 - k / 1000.0), 1000.0 * slope(k));
            let found = 2.0 * at.d_alpha / at.alpha;
            // At both ends the line goes on where the product bends.
            let near = if (1.0..999.0).contains(&k) { 1e-6 } else { 0.2 };
            assert!((found / expected - 1.0).abs() < near, "{k}: {found} is not {expected}");
        }
    }
}
