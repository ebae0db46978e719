//! One denoising step.

use crate::Coefficients;

/// The law of the state nearer to data, given the state farther from it and the data: `N(state · x_t + data · x, variance)`.
///
/// Between the two the path is taken to scale the state and to add noise that is independent of it.
///
/// # Source
/// Ho et al. 2020 (arXiv 2006.11239), equations 6 and 7, for any `α` and `σ`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// Factor of the state `x_t`.
    pub state: f64,
    /// Factor of the data `x`.
    pub data: f64,
    /// Variance, `β̃`: the least that a step can have, if the data are one image. 0 where the step ends at data.
    pub variance: f64,
    /// Variance of the noise that the path adds from the one state to the other, `β`: the most that a step can have, if the
    /// data are noise themselves, on paths that preserve variance.
    pub added: f64,
}

impl Posterior {
    /// The step from a point of a path to another, nearer to data.
    pub fn between(from: &Coefficients, to: &Coefficients) -> Self {
        let kept = from.alpha / to.alpha;
        let [total, left] = [from.sigma.powi(2), to.sigma.powi(2)];
        let added = total - kept.powi(2) * left;
        Self { state: kept * left / total, data: added * to.alpha / total, variance: added * left / total, added }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::tests::all;
    use crate::{Ddpm, Schedule};

    /// Drawing the state and then the step gives the state nearer to data, mean and variance, whatever the data.
    #[test]
    fn steps_lead_from_state_to_state() {
        for schedule in all() {
            for (from, to) in [(0.1, 0.2), (0.3, 0.9), (0.0, 0.5), (0.8, 1.0)] {
                let [from, to] = [from, to].map(|t| schedule.at(t));
                let Posterior { state, data, variance, .. } = Posterior::between(&from, &to);
                assert!((state * from.alpha + data - to.alpha).abs() < 1e-12, "{schedule:?}");
                assert!(
                    (state.powi(2) * from.sigma.powi(2) + variance - to.sigma.powi(2)).abs() < 1e-12,
                    "{schedule:?}"
                );
            }
        }
    }

    #[test]
    fn a_step_of_the_discrete_path_adds_its_beta() {
        for step in [1, 2, 500, 999] {
            let [from, to] = [step, step - 1].map(|step| Ddpm.at(Ddpm::time(step)));
            let (found, beta) = (Posterior::between(&from, &to), 1e-4 + (0.02 - 1e-4) * step as f64 / 999.0);
            assert!((found.added / beta - 1.0).abs() < 1e-9, "step {step}: {found:?}");
            let variance = beta * to.sigma.powi(2) / from.sigma.powi(2);
            assert!((found.variance / variance - 1.0).abs() < 1e-9, "step {step}: {found:?}");
        }
    }
}
