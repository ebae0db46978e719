//! The Time-Shift Sampler (Li et al. 2023, arXiv 2305.15583): a state is taken for the time that its variance tells.

use burn::prelude::*;
use mixflow_backbones::Invalid;
use mixflow_schedules::Schedule;
use serde::{Deserialize, Serialize};

use super::Correction;
use crate::sampling::{Flow, TakenStep};

/// Of the times within `reach` of the nominal one, that whose variance `α² data_variance + σ²` is nearest to the variance of
/// the state, image by image: before the time `until`, and of a thousand times, as published.
///
/// The variance of a path falls from noise to `t = 1 / (1 + data_variance)` on the linear path and rises again: a shift is
/// told by the variance before that alone. A Gaussian whose numbers all have the variance of the data keeps its times.
///
/// # Source
/// `Mingxiao-Li/TS-DPM` at 146954f: labels as in `deis_sampler.py`, steps as in `pnm_solver.py`. Its window of `w` thousandths
/// is a reach of `w / 1000` for labels and `w / 2000` for steps, its cutoff `c` is `until = 1 − c / 1000`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeShift {
    /// What is shifted.
    pub of: Shifted,
    /// How far at most, in paper time, in (0, 1].
    pub reach: f64,
    /// The paper time from which on nothing is shifted, in (0, 1].
    pub until: f64,
    /// Variance of the numbers of an example about their mean, mean over the data, above 0.
    pub data_variance: f64,
}

/// What a [`TimeShift`] shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shifted {
    /// The time that the network is told, by the variance of its input.
    Label,
    /// The time to which a step leads, by the variance of the state before, from the second step on. The network is told
    /// nominal times, and the next step begins as if the state were where it should be. For solvers without noise.
    Target,
}

const TIMES: usize = 1000;

impl TimeShift {
    pub(super) fn check(&self, shape: [usize; 3], schedule: &dyn Schedule) -> Result<(), Invalid> {
        for (key, value) in [("reach", self.reach), ("until", self.until)] {
            if !(value > 0.0 && value <= 1.0) {
                return Err(Invalid::new(key, format!("must be above 0 and at most 1, found {value}")));
            }
        }
        if !self.data_variance.is_finite() || self.data_variance <= 0.0 {
            return Err(Invalid::new("data_variance", format!("must be above 0, found {}", self.data_variance)));
        }
        if shape.iter().product::<usize>() < 2 {
            return Err(Invalid::new("kind", "needs images of two numbers or more, whose variance it takes"));
        }
        let variance = |index: &usize| self.variance(schedule, *index);
        let (numbers, at_noise) = (shape.iter().product::<usize>() as f64, self.variance(schedule, TIMES - 1));
        let least = (0..TIMES).min_by(|a, b| variance(a).total_cmp(&variance(b)));
        let turn = least.map_or(1.0, time);
        // The variance of so many numbers is known to within the root of two over their number.
        let falls = 1.0 - least.map_or(at_noise, |index| self.variance(schedule, index)) / at_noise;
        if falls < 0.5 * (2.0 / numbers).sqrt() {
            let reason = format!(
                "leaves the variance of this path between {at_noise:.3} and {:.3}, which tells no time in images of {numbers} \
                 numbers, found {}",
                at_noise * (1.0 - falls),
                self.data_variance
            );
            return Err(Invalid::new("data_variance", reason));
        }
        if self.until + self.reach > turn {
            let reason = format!(
                "and reach must come to {turn:.3} at most, where the variance of this path is least and no longer tells the \
                 time, found {} and {}",
                self.until, self.reach
            );
            return Err(Invalid::new("until", reason));
        }
        Ok(())
    }

    /// That of a state at a time of the thousand.
    fn variance(&self, schedule: &dyn Schedule, index: usize) -> f64 {
        let at = schedule.at(time(index));
        at.sigma.powi(2) + at.alpha.powi(2) * self.data_variance
    }

    /// For each row of `x` the time near `t` that fits its variance; none where nothing is shifted.
    fn fitting(&self, schedule: &dyn Schedule, x: &Tensor<4>, t: f64) -> Option<Vec<f64>> {
        let [nominal, cutoff, reach] =
            [1.0 - t, 1.0 - self.until, self.reach].map(|t| (t * TIMES as f64).round() as usize);
        let nominal = nominal.min(TIMES - 1);
        if nominal <= cutoff {
            return None;
        }
        let near = nominal.saturating_sub(reach)..=(nominal + reach).min(TIMES - 1);
        let table: Vec<(f64, f64)> = near.map(|index| (time(index), self.variance(schedule, index))).collect();
        let variances = x.clone().flatten::<2>(1, 3).var(1).into_data();
        let fitting = |variance: f64| {
            let away = |(_, expected): &&(f64, f64)| (variance - expected).abs();
            table.iter().min_by(|a, b| away(a).total_cmp(&away(b))).map_or(t, |(time, _)| *time)
        };
        Some(variances.iter::<f64>().map(fitting).collect())
    }
}

/// Of a thousand times, 0 is data.
fn time(index: usize) -> f64 {
    1.0 - index as f64 / TIMES as f64
}

impl Correction for TimeShift {
    fn correct<'a>(&self, flow: Flow<'a>) -> Flow<'a> {
        let (this, schedule) = (*self, flow.schedule());
        match self.of {
            Shifted::Label => flow.relabelled(move |x, t| this.fitting(schedule, x, t)),
            Shifted::Target => flow.finished(move |TakenStep { step, from, to, .. }| {
                let Some(ends) = this.fitting(schedule, &from, step.to).filter(|_| step.index > 0) else { return to };
                // The data and noise that lead from one state to the other lead to all other times, too.
                let [f, n] = [step.from, step.to].map(|t| schedule.at(t));
                let area = f.alpha * n.sigma - n.alpha * f.sigma;
                let ends: Vec<_> = ends.into_iter().map(|t| schedule.at(t)).collect();
                let column = |of: &dyn Fn(f64, f64) -> f64| {
                    let shares: Vec<f64> = ends.iter().map(|at| of(at.alpha, at.sigma) / area).collect();
                    Tensor::<1>::from_data(shares.as_slice(), (&to.device(), to.dtype())).reshape([-1, 1, 1, 1])
                };
                from * column(&|alpha, sigma| alpha * n.sigma - n.alpha * sigma)
                    + to.clone() * column(&|alpha, sigma| f.alpha * sigma - alpha * f.sigma)
            }),
        }
    }
}
