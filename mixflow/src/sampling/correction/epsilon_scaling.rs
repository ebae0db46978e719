//! Epsilon Scaling (Ning et al. 2023, arXiv 2308.15321): noise predictions, which are too large, are divided by a number.

use mixflow_backbones::Invalid;
use mixflow_schedules::Schedule;
use serde::{Deserialize, Serialize};

use super::Correction;
use crate::sampling::{Flow, VelocityMap};

/// `ε' = ε / scale`, with the data that the state then has: `x' = (x_t − σ ε') / α`.
///
/// Nothing is changed where `α = 0`, at noise, and outside of the interval. Published scales are 1.017 for CIFAR at 100 steps,
/// 1.005 to 1.006 for larger images, 1.0006 for EDM; found in 6 to 10 trials.
///
/// # Source
/// `forever208/ADM-ES` at 54ad3ad, `gaussian_diffusion.py`; `forever208/EDM-ES` at d9cf406 has it in both stages of Heun.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpsilonScaling {
    /// What noise is divided by, above 0.
    pub scale: f64,
    /// The first and the last paper time where it is: at the first steps of a flow the change is largest, as `1/t`.
    #[serde(default = "always")]
    pub interval: [f64; 2],
}

fn always() -> [f64; 2] {
    [0.0, 1.0]
}

/// Of a step, in how much it changes the state: published grids begin at noise, where nothing is changed, and their next step
/// has 1.
const MOST_GROWN: f64 = 2.0;

impl EpsilonScaling {
    /// At all times but noise.
    pub fn new(scale: f64) -> Self {
        Self { scale, interval: always() }
    }

    pub(super) fn check(&self, schedule: &dyn Schedule, times: &[f64]) -> Result<(), Invalid> {
        if !self.scale.is_finite() || self.scale <= 0.0 {
            return Err(Invalid::new("scale", format!("must be a number above 0, found {}", self.scale)));
        }
        let [start, end] = self.interval;
        if !(0.0 <= start && start <= end && end <= 1.0) {
            let reason = format!("must rise within [0, 1] (0 is noise, 1 is data), found [{start}, {end}]");
            return Err(Invalid::new("interval", reason));
        }
        if self.scale == 1.0 {
            return Ok(());
        }
        // How often a step from `t` takes the signal's share of the state over into it.
        let grown = |from: f64, to: f64| {
            let at = schedule.at(from);
            if at.alpha > 0.0 { (to - from) * at.d_alpha / at.alpha } else { 0.0 }
        };
        match times.windows(2).find(|step| (start..=end).contains(&step[0]) && grown(step[0], step[1]) > MOST_GROWN) {
            Some(&[from, to]) => {
                let reason = format!(
                    "must leave out the step from {from:.3} to {to:.3}, in which what is changed grows by more than twice the \
                     state, as 1/t, found [{start}, {end}]"
                );
                Err(Invalid::new("interval", reason))
            }
            _ => Ok(()),
        }
    }
}

impl Correction for EpsilonScaling {
    fn correct<'a>(&self, flow: Flow<'a>) -> Flow<'a> {
        let (Self { scale, interval: [start, end] }, schedule) = (*self, flow.schedule());
        flow.mapped(move |t| {
            let at = schedule.at(t);
            if at.alpha <= 0.0 || !(start..=end).contains(&t.clamp(0.0, 1.0)) {
                return VelocityMap::NONE;
            }
            // From v = α' x + σ' ε and x_t = α x + σ ε, both with ε / scale.
            let kept = 1.0 / scale;
            VelocityMap { x: (1.0 - kept) * at.d_alpha / at.alpha, velocity: kept, score: kept }
        })
    }
}
