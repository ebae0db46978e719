//! Remedies for exposure bias while sampling: what a solver is told of a network, or goes on from, is changed, at no further
//! evaluation.

mod dcw;
mod epsilon_scaling;
mod schedule_corrector;
mod time_shift;

use std::fmt::{self, Debug, Display, Formatter};

use mixflow_backbones::Invalid;
use mixflow_schedules::Schedule;
use serde::{Deserialize, Serialize};

pub use dcw::{Dcw, Weights};
pub use epsilon_scaling::EpsilonScaling;
pub use schedule_corrector::ScheduleCorrector;
pub use time_shift::{Shifted, TimeShift};

use crate::sampling::{Flow, SolverConfig};

/// A change of a flow, guidance included, made of [`Flow::mapped`], [`Flow::relabelled`] and [`Flow::finished`].
///
/// # Example
/// No velocity near the data:
/// ```
/// use mixflow::sampling::{Flow, VelocityMap, correction::Correction};
///
/// #[derive(Debug)]
/// struct Stop;
///
/// impl Correction for Stop {
///     fn correct<'a>(&self, flow: Flow<'a>) -> Flow<'a> {
///         flow.mapped(|t| VelocityMap { velocity: if t < 0.99 { 1.0 } else { 0.0 }, ..VelocityMap::NONE })
///     }
/// }
/// ```
pub trait Correction: Debug {
    /// The flow that solvers follow in the place of `flow`.
    fn correct<'a>(&self, flow: Flow<'a>) -> Flow<'a>;
}

/// The corrections that a recipe can name, as `sampling.correction`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum CorrectionConfig {
    ScheduleCorrector(ScheduleCorrector),
    EpsilonScaling(EpsilonScaling),
    TimeShift(TimeShift),
    Dcw(Dcw),
}

impl CorrectionConfig {
    /// What is wrong with it for states of this shape, `[channels, height, width]`, on this path, with this solver and on a grid of these times.
    pub(crate) fn check(
        &self,
        shape: [usize; 3],
        schedule: &dyn Schedule,
        solver: &SolverConfig,
        times: &[f64],
    ) -> Result<(), Invalid> {
        let after_steps = match self {
            Self::ScheduleCorrector(correction) => return correction.check(),
            Self::EpsilonScaling(correction) => {
                // Adaptive solvers begin with steps of their own.
                let times = if matches!(solver, SolverConfig::Adaptive(_)) { &[] } else { times };
                return correction.check(schedule, times);
            }
            Self::TimeShift(correction) => {
                correction.check(shape, schedule)?;
                correction.of == Shifted::Target
            }
            Self::Dcw(correction) => {
                correction.check(shape)?;
                true
            }
        };
        let reason = match solver {
            SolverConfig::Adaptive(_) if after_steps => {
                "acts after each step of the grid, which an adaptive solver does not take: choose another solver"
            }
            SolverConfig::EulerMaruyama(_) | SolverConfig::StochasticHeun(_) | SolverConfig::Ancestral(_)
                if matches!(self, Self::TimeShift(TimeShift { of: Shifted::Target, .. })) =>
            {
                "moves the end of a step, but the noise of a stochastic step belongs to the end that it has: shift the label, \
                 or choose a solver without noise"
            }
            _ => return Ok(()),
        };
        Err(Invalid::new("kind", reason))
    }
}

impl Correction for CorrectionConfig {
    fn correct<'a>(&self, flow: Flow<'a>) -> Flow<'a> {
        match self {
            Self::ScheduleCorrector(correction) => correction.correct(flow),
            Self::EpsilonScaling(correction) => correction.correct(flow),
            Self::TimeShift(correction) => correction.correct(flow),
            Self::Dcw(correction) => correction.correct(flow),
        }
    }
}

/// In words, with its numbers.
impl Display for CorrectionConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // As it was written, where it was computed from that: 1.06 - 1 has a tail.
        let short = |number: f64| (number * 1e9).round() / 1e9;
        match self {
            Self::ScheduleCorrector(ScheduleCorrector { a, b }) if *b == 0.0 => {
                write!(f, "velocity times {}", short(1.0 + a))
            }
            Self::ScheduleCorrector(ScheduleCorrector { a, b }) => {
                write!(f, "Scale Schedule Corrector ({}, {})", short(*a), short(*b))
            }
            Self::EpsilonScaling(EpsilonScaling { scale, interval: [start, end] }) => {
                write!(f, "Epsilon Scaling ({scale}")?;
                let always = [*start, *end] == EpsilonScaling::new(*scale).interval;
                if always { write!(f, ")") } else { write!(f, " from t = {start} to {end})") }
            }
            Self::TimeShift(TimeShift { of, reach, until, data_variance }) => {
                let of = if *of == Shifted::Label { "labels" } else { "steps" };
                write!(f, "Time-Shift of {of} ({reach} until t = {until}, data variance {data_variance})")
            }
            Self::Dcw(Dcw { low, high, weights }) => {
                write!(f, "DCW ({low}, {high}")?;
                if *weights == Weights::default() {
                    write!(f, ")")
                } else {
                    write!(f, ", {})", serde_json::json!(weights))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
