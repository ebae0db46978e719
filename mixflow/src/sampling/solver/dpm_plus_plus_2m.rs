//! DPM-Solver++ with two steps.

use burn::prelude::*;
use mixflow_schedules::{Coefficients, Prediction};
use serde::{Deserialize, Serialize};

use super::{NoiseSource, SampleError, Step, StepSolver, check_start};
use crate::sampling::Flow;

/// DPM-Solver++(2M): second order with one evaluation a step, since it remembers that of the step before.
///
/// Each step solves the linear part of the equation exactly and takes the prediction of the data as a line through the last
/// two, in time as the [`clock`](Self::clock) tells it. The first step has one prediction, and a step to where the clock
/// stands at infinity, such as the last one to data, takes the newest alone.
///
/// Starts anywhere but at data, where noise is no part of the state.
///
/// # Source
/// Lu et al. 2022 (arXiv 2211.01095), algorithm 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmPlusPlus2M {
    /// The time in which predictions lie on a line.
    pub clock: Clock,
}

/// What [`DpmPlusPlus2M`] counts time in. All give second order; the error differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// `log(α / σ)`, as in the paper. Infinite at noise on paths that start there (`α = 0`), so that the second step is of
    /// first order too.
    #[default]
    LogSnr,
    /// `−log σ`, as the code of Stable Diffusion 3 has it on the linear path: `sample_dpmpp_2m` of `Stability-AI/sd3.5` at
    /// fbf8f48, `sd3_impls.py`, after k-diffusion.
    LogSigma,
}

impl Clock {
    fn at(self, at: &Coefficients) -> f64 {
        match self {
            Self::LogSnr => at.alpha.ln() - at.sigma.ln(),
            Self::LogSigma => -at.sigma.ln(),
        }
    }
}

/// Remembers prediction and clock of the step before.
impl StepSolver for DpmPlusPlus2M {
    type Memory = Option<(Tensor<4>, f64)>;

    fn check(&self, flow: &Flow<'_>, times: &[f64]) -> Result<(), SampleError> {
        check_start(flow, times, "DPM-Solver++")
    }

    fn step(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        step: Step,
        last: &mut Self::Memory,
        _: &mut dyn NoiseSource,
    ) -> Tensor<4> {
        let [from, to] = [step.from, step.to].map(|t| flow.schedule().at(t));
        let data = flow.predict(x.clone(), step.from, Prediction::Data);
        let (now, next) = (self.clock.at(&from), self.clock.at(&to));
        let line = match last.replace((data.clone(), now)) {
            Some((before, then)) => {
                // 1 / 2r in the paper's symbols: half of this step, in units of the one before.
                let share = (next - now) / (2.0 * (now - then));
                if share.is_finite() { data.clone() + (data - before) * share } else { data }
            }
            None => data,
        };
        let kept = to.sigma / from.sigma;
        x * kept + line * (to.alpha - from.alpha * kept)
    }
}

#[cfg(test)]
mod tests {
    use mixflow_schedules::{Linear, TimeGrid};

    use super::*;
    use crate::sampling::solver::Solver;
    use crate::sampling::solver::testing::{Gaussian, numbers, path, point, schedules, silent};

    /// The formulas of the paper, in its own symbols, on numbers.
    #[test]
    fn steps_are_those_of_the_paper() {
        for name in ["Linear", "GVP", "VP"] {
            let schedule = path(name);
            let times = [0.1, 0.3, 0.45, 0.8, 0.95];
            let network = |x: f64, t: f64| 0.3 * x + (2.0 * t).cos();
            let (alpha, sigma) = (|i: usize| schedule.at(times[i]).alpha, |i: usize| schedule.at(times[i]).sigma);
            let lambda = |i: usize| (alpha(i) / sigma(i)).ln();
            let mut x = 1.2;
            let mut before = 0.0;
            for i in 1..times.len() {
                let h = lambda(i) - lambda(i - 1);
                let now = network(x, times[i - 1]);
                let d = if i == 1 {
                    now
                } else {
                    let r = (lambda(i - 1) - lambda(i - 2)) / h;
                    (1.0 + 1.0 / (2.0 * r)) * now - before / (2.0 * r)
                };
                x = sigma(i) / sigma(i - 1) * x - alpha(i) * ((-h).exp() - 1.0) * d;
                before = now;
            }
            let flow = Flow::labelled(&schedule, Prediction::Data, |x, t| x * 0.3 + (2.0 * t).cos());
            let solver = DpmPlusPlus2M::default();
            let found = solver.solve(&flow, point(1.2), &times, &mut silent, &mut |_, _| {}).unwrap();
            assert!((numbers(&found)[0] - x).abs() < 1e-12, "{name}: {} is not {x}", numbers(&found)[0]);
            assert_eq!(flow.evaluations(), 4);
        }
    }

    /// From noise to data, both ends included, where clocks are infinite and two steps are of first order. With eight times
    /// as many steps, a method of first order has an eighth of the error.
    #[test]
    fn the_ends_cost_less_than_an_order() {
        for schedule in schedules() {
            for clock in [Clock::LogSnr, Clock::LogSigma] {
                let gaussian = Gaussian(&schedule);
                let error = |steps| {
                    let (solver, times) = (DpmPlusPlus2M { clock }, TimeGrid::new(steps).unwrap().times());
                    let end = solver.solve(&gaussian.flow(), point(1.3), &times, &mut silent, &mut |_, _| {}).unwrap();
                    (numbers(&end)[0] - gaussian.carry(1.3, 0.0, 1.0)).abs()
                };
                let (few, many) = (error(64), error(512));
                assert!(many < few / 12.0, "{schedule:?} {clock:?}: {few}, then {many}");
            }
        }
    }

    #[test]
    fn data_is_no_place_to_start() {
        let flow = Flow::new(&Linear, Prediction::Velocity, |x, _| x);
        let solver = DpmPlusPlus2M::default();
        let error = solver.solve(&flow, point(1.0), &[1.0, 0.5], &mut silent, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("cannot start at data"), "{error}");
    }
}
