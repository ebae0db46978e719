//! Solvers carry noise along a [`Flow`] to samples.

mod adaptive;
mod ancestral;
mod ddim;
mod dpm_plus_plus_2m;
mod euler;
mod heun;
mod karras_heun;
mod noise;
mod own;
mod pair;
mod runge_kutta;
mod sde;
mod tableau;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt::Debug;

use burn::prelude::*;

pub use crate::error::sample::SampleError;
pub use adaptive::Adaptive;
pub use ancestral::Ancestral;
pub use ddim::Ddim;
pub use dpm_plus_plus_2m::{Clock, DpmPlusPlus2M};
pub use euler::Euler;
pub use heun::Heun;
pub use karras_heun::KarrasHeun;
pub use noise::{NoiseSource, SeededNoise};
pub use own::OwnSolver;
pub use pair::Pair;
pub use runge_kutta::{Method, RungeKutta};
pub use sde::{EulerMaruyama, LastStep, StochasticHeun};

use crate::sampling::Flow;
pub use crate::sampling::step::Step;

/// Carries a state through a grid of times. Most methods go step by step, and implement [`StepSolver`] instead.
pub trait Solver: Debug + Send + Sync {
    /// Carries `x` from the first of `times` to the last and returns the state there.
    ///
    /// `visit` sees every time with its state, the first included, and nothing in between. Deterministic solvers leave
    /// `noise` alone.
    ///
    /// # Shapes
    /// - x: `[batch, channels, height, width]`
    /// - times: paper time, strictly monotone, upwards for sampling
    ///
    /// # Errors
    /// Times that are not monotone; a state that is not finite; for adaptive solvers also a step that is too small, or too
    /// many steps.
    fn solve(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        times: &[f64],
        noise: &mut dyn NoiseSource,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Tensor<4>, SampleError>;
}

/// A [`Solver`] that takes one step for each interval of the grid.
///
/// # Example
/// The midpoint method:
/// ```
/// use burn::prelude::*;
/// use mixflow::sampling::Flow;
/// use mixflow::sampling::solver::{NoiseSource, Step, StepSolver};
///
/// #[derive(Debug)]
/// struct Midpoint;
///
/// impl StepSolver for Midpoint {
///     type Memory = ();
///
///     fn step(&self, flow: &Flow, x: Tensor<4>, step: Step, _: &mut (), _: &mut dyn NoiseSource) -> Tensor<4> {
///         let middle = flow.between(step.from, step.to, 0.5);
///         let half = x.clone() + flow.velocity(x.clone(), step.from) * flow.elapsed(step.from, middle);
///         x + flow.velocity(half, middle) * flow.elapsed(step.from, step.to)
///     }
/// }
/// ```
pub trait StepSolver: Debug + Send + Sync {
    /// What is remembered from one step to the next; `()` is nothing.
    type Memory: Default;

    /// The state at the end of a step.
    fn step(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        step: Step,
        memory: &mut Self::Memory,
        noise: &mut dyn NoiseSource,
    ) -> Tensor<4>;

    /// Refuses times that it cannot follow; provided: takes all that are monotone.
    ///
    /// # Errors
    /// [`SampleError::Config`] says why.
    fn check(&self, _flow: &Flow<'_>, _times: &[f64]) -> Result<(), SampleError> {
        Ok(())
    }
}

/// The loop of every solver with fixed steps.
impl<S: StepSolver> Solver for S {
    fn solve(
        &self,
        flow: &Flow<'_>,
        mut x: Tensor<4>,
        times: &[f64],
        noise: &mut dyn NoiseSource,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Tensor<4>, SampleError> {
        self.check(flow, times)?;
        check_times(times)?;
        if let Some(&start) = times.first() {
            visit(start, &x);
        }
        let mut memory = S::Memory::default();
        for (index, interval) in times.windows(2).enumerate() {
            let step = Step { index, from: interval[0], to: interval[1], last: index + 2 == times.len() };
            let next = flow.step(step, x, |x| self.step(flow, x, step, &mut memory, noise));
            x = finite(next, step.to)?;
            visit(step.to, &x);
        }
        Ok(x)
    }
}

/// A [`Solver`] that draws no noise, so that it can be run from data to noise as well.
pub trait Deterministic: Solver {}

/// Refuses to start at data, for methods that divide by the noise of a state.
fn check_start(flow: &Flow<'_>, times: &[f64], name: &str) -> Result<(), SampleError> {
    match times.first() {
        Some(&start) if flow.schedule().at(start).sigma <= 0.0 => {
            Err(SampleError::Config(format!("{name} cannot start at data: choose another solver")))
        }
        _ => Ok(()),
    }
}

/// Refuses times that stand still, turn back or are no numbers.
fn check_times(times: &[f64]) -> Result<(), SampleError> {
    let upwards = times.first() < times.last();
    let goes_on = |pair: &[f64]| if upwards { pair[0] < pair[1] } else { pair[0] > pair[1] };
    match times.windows(2).find(|pair| !goes_on(pair)) {
        None => Ok(()),
        Some(pair) => Err(SampleError::Config(format!(
            "times must rise, or fall, from each to the next, found {} and then {}",
            pair[0], pair[1]
        ))),
    }
}

/// `x`, unless a number in it is not finite.
fn finite(x: Tensor<4>, t: f64) -> Result<Tensor<4>, SampleError> {
    if x.clone().is_finite().all().into_scalar::<bool>() { Ok(x) } else { Err(SampleError::NonFinite { t }) }
}

#[cfg(test)]
mod tests {
    use mixflow_schedules::{Interval, Linear, Prediction, PublishedCode, TimeGrid, Use, interval};

    use super::testing::{Fixture, Gaussian, numbers, order, path, point, prediction, schedules, silent};
    use super::*;

    const MIDPOINT: RungeKutta = RungeKutta { method: Method::Midpoint };
    const HEUN_3: RungeKutta = RungeKutta { method: Method::Heun3 };
    const THREE_EIGHTHS: RungeKutta = RungeKutta { method: Method::ThreeEighths };

    const LOG_SNR: DpmPlusPlus2M = DpmPlusPlus2M { clock: Clock::LogSnr };
    const LOG_SIGMA: DpmPlusPlus2M = DpmPlusPlus2M { clock: Clock::LogSigma };

    const METHODS: [(&str, &dyn Solver); 5] =
        [("euler", &Euler), ("heun2", &Heun), ("midpoint", &MIDPOINT), ("heun3", &HEUN_3), ("rk4", &THREE_EIGHTHS)];

    fn states(solver: &dyn Solver, flow: &Flow<'_>, x: Tensor<4>, times: &[f64]) -> Vec<Tensor<4>> {
        let mut states = vec![];
        let end = solver.solve(flow, x, times, &mut silent, &mut |_, x| states.push(x.clone())).unwrap();
        assert_eq!(numbers(&end), numbers(states.last().unwrap()));
        states
    }

    fn assert_recorded(fixture: &Fixture, name: &str, states: &[Tensor<4>], tolerance: &str) {
        let recorded = fixture.rows(&format!("out.{name}"));
        assert_eq!(states.len(), recorded.len(), "{name}");
        for (found, recorded) in states.iter().zip(&recorded) {
            fixture.assert_close(name, found, recorded, tolerance);
        }
    }

    /// The five steps of the recorded runs.
    fn times(interval: Interval) -> Vec<f64> {
        TimeGrid::new(5).unwrap().interval(interval).unwrap().times()
    }

    #[test]
    fn fixed_steps_match_sit() {
        let fixture = Fixture::read("sit_ode");
        let mut compared = 0;
        for path_name in ["Linear", "GVP", "VP"] {
            for kind in ["velocity", "noise", "score"] {
                for (method, solver) in METHODS {
                    let (schedule, prediction) = (path(path_name), prediction(kind));
                    let flow = fixture.flow(&schedule, prediction);
                    let times = times(interval(&schedule, prediction, Use::Ode, PublishedCode::Sit));
                    let name = format!("{path_name}.{kind}.{method}");
                    if !fixture.has(&format!("out.{name}")) {
                        continue;
                    }
                    compared += 1;
                    let states = states(solver, &flow, fixture.tensor("in.z"), &times);
                    assert_recorded(&fixture, &name, &states, "/tolerance");
                    assert_eq!(fixture.manifest["function_evaluations"][&name], flow.evaluations(), "{name}");
                }
            }
        }
        assert_eq!(compared, 21, "the record has nine flows by Euler and by Heun, and one by three other methods");
    }

    #[test]
    fn data_to_noise_matches_sit() {
        let fixture = Fixture::read("sit_ode");
        let flow = fixture.flow(&Linear, Prediction::Velocity);
        let states = states(&Euler, &flow, fixture.tensor("in.z"), &times(Interval { start: 1.0, end: 0.0 }));
        assert_recorded(&fixture, "Linear.velocity.euler_reverse", &states, "/tolerance");
    }

    #[test]
    fn adaptive_steps_match_torchdiffeq() {
        let fixture = Fixture::read("sit_ode");
        let loose = |pair| Adaptive::new(pair, 1e-6, 1e-3).unwrap();
        let tight = Adaptive::new(Pair::DormandPrince5, 1e-9, 1e-9).unwrap();
        for (path_name, kind, method, solver, tolerance) in [
            ("Linear", "velocity", "dopri5", loose(Pair::DormandPrince5), "/tolerance/dopri5_default_tolerances"),
            ("GVP", "noise", "dopri5", loose(Pair::DormandPrince5), "/tolerance/dopri5_default_tolerances"),
            ("VP", "velocity", "dopri5", loose(Pair::DormandPrince5), "/tolerance/dopri5_default_tolerances"),
            ("Linear", "velocity", "dopri5_tight", tight, "/tolerance"),
            ("Linear", "velocity", "bosh3", loose(Pair::BogackiShampine3), "/tolerance"),
            ("Linear", "velocity", "adaptive_heun", loose(Pair::HeunEuler), "/tolerance"),
        ] {
            let (schedule, prediction) = (path(path_name), prediction(kind));
            let flow = fixture.flow(&schedule, prediction);
            let times = times(interval(&schedule, prediction, Use::Ode, PublishedCode::Sit));
            let name = format!("{path_name}.{kind}.{method}");
            let states = states(&solver, &flow, fixture.tensor("in.z"), &times);
            assert_recorded(&fixture, &name, &states, tolerance);
            assert_eq!(fixture.manifest["function_evaluations"][&name], flow.evaluations(), "{name}");
        }
    }

    /// When the step halves, the error halves as often as the order says, or more often: once more for the midpoint rule on
    /// the linear path. VP stays away from both ends: its velocity grows without bound at data.
    #[test]
    fn fixed_steps_have_their_orders() {
        for schedule in schedules() {
            for (start, end) in [(0.2, 0.9), (0.9, 0.2)] {
                for (expected, steps, solver) in [
                    (1.0, 256, &Euler as &dyn Solver),
                    (1.0, 256, &Ddim),
                    (2.0, 256, &Heun),
                    (2.0, 256, &KarrasHeun),
                    (2.0, 256, &MIDPOINT),
                    (2.0, 512, &LOG_SNR),
                    (2.0, 256, &LOG_SIGMA),
                    (3.0, 128, &HEUN_3),
                    (4.0, 128, &THREE_EIGHTHS),
                ] {
                    let gaussian = Gaussian(&schedule);
                    let error = |steps| {
                        let times = TimeGrid::new(steps).unwrap().interval(Interval { start, end }).unwrap().times();
                        let end_state = states(solver, &gaussian.flow(), point(1.3), &times).pop().unwrap();
                        (numbers(&end_state)[0] - gaussian.carry(1.3, start, end)).abs()
                    };
                    let found = order(error, steps);
                    assert!(found > expected - 0.1, "{schedule:?} {solver:?}: order {found}");
                }
            }
        }
    }

    #[test]
    fn times_that_turn_back_or_stand_still_are_refused() {
        let flow = Flow::new(&Linear, Prediction::Velocity, |x, _| x);
        let adaptive = Adaptive::new(Pair::DormandPrince5, 1e-6, 1e-3).unwrap();
        for solver in [&Euler as &dyn Solver, &Ddim, &LOG_SNR, &adaptive] {
            for (times, complaint) in [
                ([0.0, 0.6, 0.3, 1.0], "found 0.6 and then 0.3"),
                ([0.9, 0.5, 0.5, 0.1], "found 0.5 and then 0.5"),
                ([0.0, 0.5, f64::NAN, 1.0], "found 0.5 and then NaN"),
            ] {
                let error = solver.solve(&flow, point(1.0), &times, &mut silent, &mut |_, _| {}).unwrap_err();
                assert!(error.to_string().contains(complaint), "{solver:?}: {error}");
            }
        }
    }

    #[test]
    fn a_state_that_is_not_finite_stops_every_solver() {
        let flow = Flow::new(&Linear, Prediction::Velocity, |x, t| x * if t > 0.5 { f64::NAN } else { 1.0 });
        let adaptive = Adaptive::new(Pair::DormandPrince5, 1e-6, 1e-3).unwrap();
        for solver in [&Euler as &dyn Solver, &Ddim, &Heun, &KarrasHeun, &THREE_EIGHTHS, &LOG_SNR, &adaptive] {
            let result = solver.solve(&flow, point(1.0), &[0.0, 0.4, 0.8, 1.0], &mut silent, &mut |_, _| {});
            assert!(matches!(result, Err(SampleError::NonFinite { .. })), "{solver:?}: {result:?}");
        }
    }
}
