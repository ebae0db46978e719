//! Stochastic solvers.

use burn::prelude::*;
use mixflow_schedules::{Diffusion, Prediction};
use serde::{Deserialize, Serialize};

use super::{NoiseSource, SampleError, Step, StepSolver};
use crate::sampling::Flow;

/// The Euler–Maruyama method, one evaluation per step.
///
/// Integrates `dx = (v + w s) dt + √(2w) dW`, whose states have the same law as the flow's for every diffusion `w(t) ≥ 0`,
/// with `v` the velocity and `s` the score. The score of a velocity network is singular at data (`t = 1`), so the last
/// interval of the grid is usually taken without noise and without evaluating its end.
///
/// # Source
/// `Sampler.sample_sde` of SiT (`willisma/SiT`, transport/transport.py and integrators.py, commit 947f95b).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EulerMaruyama {
    /// How much noise is added and removed on the way.
    pub diffusion: Diffusion,
    /// What is done in the last interval of the grid.
    #[serde(default)]
    pub last_step: LastStep,
}

/// Heun's method after adding the noise of a step, two evaluations per step.
///
/// First order as an SDE solver, like [`EulerMaruyama`], with a smaller error in the drift.
///
/// # Source
/// As [`EulerMaruyama`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StochasticHeun {
    /// How much noise is added and removed on the way.
    pub diffusion: Diffusion,
    /// What is done in the last interval of the grid.
    #[serde(default)]
    pub last_step: LastStep,
}

/// What a stochastic solver does in the last interval of its grid, always with one evaluation at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastStep {
    /// Nothing special: a stochastic step as the others, with the evaluations that those have.
    None,
    /// A step of Euler–Maruyama without its noise.
    #[default]
    Mean,
    /// The expected data given the state, by Tweedie's formula `(x + σ² s) / α`: for grids that end at `t = 1`.
    Tweedie,
    /// A step of Euler's method for the flow.
    Euler,
}

impl LastStep {
    /// Refuses Tweedie's formula for a grid that ends before data.
    pub(crate) fn check(self, end: Option<f64>) -> Result<(), SampleError> {
        match end {
            Some(end) if self == Self::Tweedie && end != 1.0 => Err(SampleError::Config(format!(
                "the last step by Tweedie's formula leads to data, t = 1, but the grid ends at t = {end}: add \"last\": 1 to \
                 the grid, or choose another last_step"
            ))),
            _ => Ok(()),
        }
    }
}

impl StepSolver for EulerMaruyama {
    type Memory = ();

    fn check(&self, _: &Flow<'_>, times: &[f64]) -> Result<(), SampleError> {
        self.last_step.check(times.last().copied())
    }

    fn step(&self, flow: &Flow<'_>, x: Tensor<4>, step: Step, _: &mut (), noise: &mut dyn NoiseSource) -> Tensor<4> {
        let sde = Sde { flow, diffusion: self.diffusion, step };
        self.last_step.of(&sde, x, |x| {
            let noise = noise.draw(step.index, x.dims()) * sde.spread();
            sde.drift(x.clone(), step.from) + x + noise
        })
    }
}

impl StepSolver for StochasticHeun {
    type Memory = ();

    fn check(&self, _: &Flow<'_>, times: &[f64]) -> Result<(), SampleError> {
        self.last_step.check(times.last().copied())
    }

    fn step(&self, flow: &Flow<'_>, x: Tensor<4>, step: Step, _: &mut (), noise: &mut dyn NoiseSource) -> Tensor<4> {
        let sde = Sde { flow, diffusion: self.diffusion, step };
        self.last_step.of(&sde, x, |x| {
            let x = noise.draw(step.index, x.dims()) * sde.spread() + x;
            let first = sde.drift(x.clone(), step.from);
            let second = sde.drift(x.clone() + first.clone(), step.to);
            x + (first + second) / 2.0
        })
    }
}

/// A step of a stochastic solver.
struct Sde<'f> {
    flow: &'f Flow<'f>,
    diffusion: Diffusion,
    step: Step,
}

impl Sde<'_> {
    /// `w` at paper time `t`.
    fn diffusion(&self, t: f64) -> f64 {
        self.diffusion.at(t, &self.flow.schedule().at(t))
    }

    /// `(v + w s) Δ` over the step, taken at `t`.
    fn drift(&self, x: Tensor<4>, t: f64) -> Tensor<4> {
        let Step { from, to, .. } = self.step;
        let (velocity, score) = self.flow.velocity_and_score(x, t);
        velocity * self.flow.elapsed(from, to) + score * (self.diffusion(t) * (to - from).abs())
    }

    /// `√(2w Δ)`, the deviation of the noise of the step.
    fn spread(&self) -> f64 {
        let Step { from, to, .. } = self.step;
        (2.0 * self.diffusion(from) * (to - from).abs()).sqrt()
    }
}

impl LastStep {
    /// The step as `usual`, or if it is the last as this says.
    fn of(self, sde: &Sde<'_>, x: Tensor<4>, usual: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        let Step { from, to, last, .. } = sde.step;
        match self {
            _ if !last => usual(x),
            Self::None => usual(x),
            Self::Mean => sde.drift(x.clone(), from) + x,
            Self::Tweedie => sde.flow.predict(x, from, Prediction::Data),
            Self::Euler => sde.flow.velocity(x.clone(), from) * sde.flow.elapsed(from, to) + x,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use mixflow_schedules::Linear;

    use super::super::testing::{Fixture, Gaussian, numbers, path, point, prediction, schedules};
    use super::*;
    use crate::random::{Stream, normal, rng};
    use crate::sampling::solver::Solver;

    /// The diffusion as the fixtures call it.
    fn diffusion(name: &str) -> Diffusion {
        match name {
            "SBDM" | "SBDM_eps1e-3" => Diffusion::Sbdm { norm: 1.0 },
            "sigma" => Diffusion::Sigma { norm: 1.0 },
            "sigma_norm0.5" => Diffusion::Sigma { norm: 0.5 },
            "linear" => Diffusion::Linear { norm: 1.0 },
            "decreasing" => Diffusion::Decreasing { norm: 1.0 },
            "increasing-decreasing" => Diffusion::IncreasingDecreasing { norm: 1.0 },
            "constant_norm0.3" => Diffusion::Constant { norm: 0.3 },
            _ => panic!("no diffusion is called {name}"),
        }
    }

    /// The interval of the official sampler, its five steps, and the last one.
    fn times(path: &str, kind: &str, form: &str, last_step: LastStep) -> Vec<f64> {
        let start = match (path, kind, form) {
            ("VP", _, _) => 0.0,
            (_, "noise" | "score", _) | (_, _, "SBDM_eps1e-3") => 1e-3,
            _ => 0.0,
        };
        let end = if last_step == LastStep::None { 1.0 } else { 0.96 };
        let mut times: Vec<f64> = (0..6).map(|k| start + (end - start) * f64::from(k) / 5.0).collect();
        if last_step != LastStep::None {
            times.push(1.0);
        }
        times
    }

    #[test]
    fn every_recorded_run_of_sit_is_matched() {
        let fixture = Fixture::read("sit_sde");
        let noise = fixture.rows("in.w");
        let runs = fixture.manifest["tensors"].as_array().unwrap().iter();
        let runs: Vec<&str> = runs.filter_map(|tensor| tensor["name"].as_str()?.strip_prefix("out.")).collect();
        assert_eq!(runs.len(), 22);
        for name in runs {
            let (rest, last) = name.rsplit_once('.').unwrap();
            let [path_name, kind, method, form] = *rest.splitn(4, '.').collect::<Vec<_>>() else { panic!("{name}") };
            let last_step: LastStep = serde_json::from_value(last.to_lowercase().into()).unwrap();
            let diffusion = diffusion(form);
            let solver: &dyn Solver = match method {
                "Euler" => &EulerMaruyama { diffusion, last_step },
                _ => &StochasticHeun { diffusion, last_step },
            };
            let schedule = path(path_name);
            let flow = fixture.flow(&schedule, prediction(kind));
            let mut states = vec![];
            let end = solver
                .solve(
                    &flow,
                    fixture.tensor("in.z"),
                    &times(path_name, kind, form, last_step),
                    &mut |step: usize, _| noise[step].clone(),
                    &mut |_, x| states.push(x.clone()),
                )
                .unwrap();
            // The record leaves the first state out, and repeats the last one where there is no last step.
            states.remove(0);
            if last_step == LastStep::None {
                states.push(end);
            }
            let recorded = fixture.rows(&format!("out.{name}"));
            assert_eq!(states.len(), recorded.len(), "{name}");
            for (found, recorded) in states.iter().zip(&recorded) {
                fixture.assert_close(name, found, recorded, "/tolerance");
            }
            let per_step = if method == "Euler" { 1 } else { 2 };
            assert_eq!(flow.evaluations(), 5 * per_step + usize::from(last_step != LastStep::None), "{name}");
        }
    }

    /// Mean and deviation of 4,096 samples have standard errors of 0.008 and 0.006; the rest of the tolerance is the bias
    /// of 100 steps.
    #[test]
    fn states_have_the_moments_of_the_flow_for_every_diffusion() {
        let noise: Vec<Tensor<4>> = (0..=100)
            .map(|step| {
                let mut z = vec![0.0; 4096];
                normal(&mut rng(7, Stream::Solver, step), &mut z);
                Tensor::from_data(TensorData::new(z, [4096, 1, 1, 1]), (&Device::default(), DType::F64))
            })
            .collect();
        let forms = ["SBDM", "sigma", "linear", "decreasing", "increasing-decreasing", "constant_norm0.3"];
        for schedule in schedules() {
            for form in forms {
                let gaussian = Gaussian(&schedule);
                let diffusion = diffusion(form);
                let last_step = LastStep::None;
                for solver in
                    [&EulerMaruyama { diffusion, last_step } as &dyn Solver, &StochasticHeun { diffusion, last_step }]
                {
                    let (start, end) = (0.1, 0.9);
                    let [mean, deviation] = gaussian.moments(start);
                    let x = noise[100].clone() * deviation + mean;
                    let times: Vec<f64> = (0..=100).map(|k| start + (end - start) * f64::from(k) / 100.0).collect();
                    let x = solver
                        .solve(&gaussian.flow(), x, &times, &mut |step: usize, _| noise[step].clone(), &mut |_, _| {})
                        .unwrap();
                    let (x, [mean, deviation]) = (numbers(&x), gaussian.moments(end));
                    let found = x.iter().sum::<f64>() / x.len() as f64;
                    let spread = (x.iter().map(|x| (x - found).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
                    assert!((found - mean).abs() < 0.03, "{schedule:?} {solver:?}: mean {found}, not {mean}");
                    assert!(
                        (spread - deviation).abs() < 0.03,
                        "{schedule:?} {solver:?}: deviation {spread}, not {deviation}"
                    );
                }
            }
        }
    }

    #[test]
    fn data_is_not_expected_before_the_grid_reaches_it() {
        let flow = Flow::new(&Linear, Prediction::Velocity, |x, _| x);
        let solver = EulerMaruyama { diffusion: diffusion("sigma"), last_step: LastStep::Tweedie };
        let mut noise = |_, shape| Tensor::ones(shape, (&Device::default(), DType::F64));
        let solve =
            |times: &[f64], noise: &mut dyn NoiseSource| solver.solve(&flow, point(1.0), times, noise, &mut |_, _| {});
        let error = solve(&[0.0, 0.5, 0.96], &mut noise).unwrap_err().to_string();
        assert!(error.contains("the grid ends at t = 0.96"), "{error}");
        assert!(solve(&[0.0, 0.5, 0.96, 1.0], &mut noise).is_ok());
    }

    #[test]
    fn a_singular_start_is_an_error() {
        let fixture = Fixture::read("sit_sde");
        let flow = fixture.flow(&Linear, Prediction::Velocity);
        let solver = EulerMaruyama { diffusion: diffusion("SBDM"), last_step: LastStep::Mean };
        let mut noise = |_, shape| Tensor::ones(shape, (&Device::default(), DType::F64));
        let result = solver.solve(&flow, fixture.tensor("in.z"), &[0.0, 0.5, 1.0], &mut noise, &mut |_, _| {});
        assert_eq!(result.unwrap_err(), SampleError::NonFinite { t: 0.5 });
    }
}
