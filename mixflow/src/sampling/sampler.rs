//! From noise to samples.

use burn::prelude::*;
use mixflow_backbones::Invalid;
use mixflow_schedules::{Linear, TimeGrid, noise_scale, time_between};
use serde::{Deserialize, Serialize};

use crate::sampling::solver::{
    Adaptive, Ancestral, Ddim, DpmPlusPlus2M, Euler, EulerMaruyama, Heun, KarrasHeun, LastStep, Method, NoiseSource,
    OwnSolver, Pair, RungeKutta, SampleError, SeededNoise, Solver, StochasticHeun,
};
use crate::sampling::{Flow, Guidance};

/// A solver and the times it visits.
///
/// ```
/// use mixflow::sampling::Sampler;
///
/// let sampler: Sampler = serde_json::from_str(r#"{ "solver": { "kind": "heun" }, "grid": { "steps": 20 } }"#)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler<S = SolverConfig> {
    /// How to get from one time to the next.
    pub solver: S,
    /// The times to stop at, from noise to data.
    pub grid: TimeGrid,
}

/// What came out, and what it cost.
#[derive(Clone, Debug)]
pub struct Samples {
    /// `[batch, channels, height, width]`
    pub x: Tensor<4>,
    /// Network evaluations, each for the whole batch; guided steps count both networks.
    pub evaluations: usize,
}

impl<S: Solver> Sampler<S> {
    /// Samples from the noise of a seed: those that a [`Generator`](crate::Generator) makes of it.
    ///
    /// # Shapes
    /// - `[batch, channels, height, width]` in `shape`
    ///
    /// # Errors
    /// [`SampleError`] where the solver stops.
    pub fn draw(&self, flow: &Flow<'_>, shape: [usize; 4], seed: u64, device: &Device) -> Result<Samples, SampleError> {
        let mut noise = SeededNoise::new(seed, 0, device);
        self.sample(flow, noise.start(shape), &mut noise)
    }

    /// Carries `noise`, drawn from `N(0, I)`, to samples; a path of [`Scaled`](mixflow_schedules::Scaled) noise begins with as
    /// many times that.
    ///
    /// # Errors
    /// [`SampleError`] where the solver stops, and if it does not take the steps after which the flow is
    /// [`finished`](Flow::finished).
    pub fn sample(
        &self,
        flow: &Flow<'_>,
        noise: Tensor<4>,
        source: &mut dyn NoiseSource,
    ) -> Result<Samples, SampleError> {
        self.trajectory(flow, noise, source, |_, _| {})
    }

    /// As [`sample`](Self::sample), showing `visit` every time of the grid with its state: first the noise, last the
    /// samples.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn trajectory(
        &self,
        flow: &Flow<'_>,
        noise: Tensor<4>,
        source: &mut dyn NoiseSource,
        mut visit: impl FnMut(f64, &Tensor<4>),
    ) -> Result<Samples, SampleError> {
        let (before, finished) = (flow.evaluations(), flow.finished_steps());
        let start = noise * noise_scale(flow.schedule());
        let x = self.solver.solve(flow, start, &self.grid.times(), source, &mut visit)?;
        if finished.is_some() && flow.finished_steps() == finished {
            let reason = "the correction of this flow acts after each step of the grid, which the solver does not take";
            return Err(SampleError::Config(reason.into()));
        }
        Ok(Samples { x, evaluations: flow.evaluations() - before })
    }
}

/// The solvers that a recipe can name, and any other by [`OwnSolver`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum SolverConfig {
    Euler(Euler),
    Heun(Heun),
    KarrasHeun(KarrasHeun),
    RungeKutta(RungeKutta),
    Adaptive(Adaptive),
    #[serde(rename = "dpmpp-2m")]
    DpmPlusPlus2M(DpmPlusPlus2M),
    EulerMaruyama(EulerMaruyama),
    StochasticHeun(StochasticHeun),
    Ddim(Ddim),
    Ancestral(Ancestral),
    Own(OwnSolver),
}

impl From<OwnSolver> for SolverConfig {
    fn from(solver: OwnSolver) -> Self {
        Self::Own(solver)
    }
}

impl SolverConfig {
    /// In words, such as "Heun".
    pub fn describe(&self) -> &str {
        match self {
            Self::Euler(_) => "Euler",
            Self::Heun(_) => "Heun",
            Self::KarrasHeun(_) => "Heun with a last step of Euler's",
            Self::RungeKutta(solver) => match solver.method {
                Method::Midpoint => "midpoint rule",
                Method::Heun3 => "Heun of third order",
                Method::ThreeEighths => "3/8 rule",
            },
            Self::Adaptive(solver) => match solver.pair() {
                Pair::DormandPrince5 => "Dormand–Prince 5",
                Pair::BogackiShampine3 => "Bogacki–Shampine 3",
                Pair::HeunEuler => "adaptive Heun",
            },
            Self::DpmPlusPlus2M(_) => "DPM-Solver++ (2M)",
            Self::EulerMaruyama(_) => "Euler–Maruyama",
            Self::StochasticHeun(_) => "stochastic Heun",
            Self::Ddim(_) => "DDIM",
            Self::Ancestral(_) => "ancestral sampling",
            Self::Own(solver) => solver.name(),
        }
    }

    /// Where in a step guidance is decided, as shares of it, once for each evaluation of the flow; none where the solver
    /// chooses its own steps, or is one's own.
    fn decisions(&self, last: bool) -> Option<Vec<f64>> {
        Some(match self {
            Self::Euler(_) | Self::EulerMaruyama(_) | Self::DpmPlusPlus2M(_) | Self::Ddim(_) | Self::Ancestral(_) => {
                vec![0.0]
            }
            Self::KarrasHeun(_) if last => vec![0.0],
            Self::KarrasHeun(_) => vec![0.0, 0.0],
            Self::StochasticHeun(solver) if last && solver.last_step != LastStep::None => vec![0.0],
            Self::Heun(_) | Self::StochasticHeun(_) => vec![0.0, 1.0],
            Self::RungeKutta(solver) => std::iter::once(0.0).chain(solver.method.nodes().iter().copied()).collect(),
            Self::Adaptive(_) | Self::Own(_) => return None,
        })
    }
}

impl Sampler {
    /// Evaluations of the network that is guided, and of those that it is led away from by each of `guidance`; none where
    /// the solver chooses its own steps, or is one's own. Exact on every path whose label runs evenly, as all of
    /// [`ScheduleConfig`](mixflow_schedules::ScheduleConfig) do.
    pub fn evaluations(&self, guidance: &[Guidance]) -> Option<[usize; 2]> {
        let times = self.grid.times();
        let mut counted = [0, 0];
        for (step, interval) in times.windows(2).enumerate() {
            for share in self.solver.decisions(step + 2 == times.len())? {
                let t = time_between(&Linear, interval[0], interval[1], share);
                counted[0] += 1;
                counted[1] += guidance.iter().filter(|guidance| guidance.is_active(t)).count();
            }
        }
        Some(counted)
    }

    /// What is wrong with it as a way from noise to data, if anything.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let times = self.grid.times();
        let (start, end) = (times[0], times[times.len() - 1]);
        if start > end {
            let reason = format!("runs from data to noise, from t = {start} to {end}: images are made the other way");
            return Err(Invalid::new("grid", reason));
        }
        match &self.solver {
            SolverConfig::EulerMaruyama(EulerMaruyama { last_step, .. })
            | SolverConfig::StochasticHeun(StochasticHeun { last_step, .. }) => last_step
                .check(Some(end))
                .map_err(|error| Invalid::new("solver", format!("does not fit the grid: {error}"))),
            _ => Ok(()),
        }
    }
}

impl Solver for SolverConfig {
    fn solve(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        times: &[f64],
        noise: &mut dyn NoiseSource,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Tensor<4>, SampleError> {
        let solver: &dyn Solver = match self {
            Self::Euler(solver) => solver,
            Self::Heun(solver) => solver,
            Self::KarrasHeun(solver) => solver,
            Self::RungeKutta(solver) => solver,
            Self::Adaptive(solver) => solver,
            Self::DpmPlusPlus2M(solver) => solver,
            Self::EulerMaruyama(solver) => solver,
            Self::StochasticHeun(solver) => solver,
            Self::Ddim(solver) => solver,
            Self::Ancestral(solver) => solver,
            Self::Own(solver) => solver,
        };
        solver.solve(flow, x, times, noise, visit)
    }
}

#[cfg(test)]
mod tests {
    use mixflow_schedules::{Prediction, ScheduleConfig};

    use super::*;
    use crate::sampling::solver::testing::{numbers, point, silent};

    const SOLVERS: [&str; 8] = [
        r#"{"kind":"euler"}"#,
        r#"{"kind":"heun"}"#,
        r#"{"kind":"runge-kutta","method":"three-eighths"}"#,
        r#"{"kind":"adaptive","pair":"dormand-prince-5","atol":1e-6,"rtol":0.001,"max_steps":1000}"#,
        r#"{"kind":"adaptive","pair":"bogacki-shampine-3","atol":1e-6,"rtol":0.001,"max_steps":9}"#,
        r#"{"kind":"dpmpp-2m","clock":"log-sigma"}"#,
        r#"{"kind":"euler-maruyama","diffusion":{"kind":"sigma","norm":1.0},"last_step":"mean"}"#,
        r#"{"kind":"stochastic-heun","diffusion":{"kind":"linear","norm":0.5},"last_step":"tweedie"}"#,
    ];

    #[test]
    fn recipes_round_trip_and_run() {
        for solver in SOLVERS {
            let json = format!(r#"{{"solver":{solver},"grid":{{"steps":4}}}}"#);
            let sampler: Sampler = serde_json::from_str(&json).unwrap();
            let value: serde_json::Value = serde_json::to_value(&sampler).unwrap();
            assert_eq!(value["solver"], serde_json::from_str::<serde_json::Value>(solver).unwrap());
            assert_eq!(serde_json::from_value::<Sampler>(value).unwrap(), sampler);
            let flow = Flow::new(&Linear, Prediction::Velocity, |x, _| x * 0.5);
            let mut draw = |_, shape| point(0.1).expand(shape);
            let (mut times, mut states) = (vec![], vec![]);
            let visit = |t, x: &Tensor<4>| {
                times.push(t);
                states.push(numbers(x));
            };
            let samples = sampler.trajectory(&flow, point(1.0), &mut draw, visit).unwrap();
            assert_eq!(times, [0.0, 0.25, 0.5, 0.75, 1.0]);
            assert_eq!(states.last().unwrap(), &numbers(&samples.x));
            assert_eq!(samples.evaluations, flow.evaluations());
        }
    }

    /// Every solver with every last step.
    fn solvers() -> Vec<SolverConfig> {
        let mut solvers: Vec<String> = SOLVERS[..6].iter().map(|solver| (*solver).into()).collect();
        solvers.extend(["karras-heun", "dpmpp-2m", "ddim", "ancestral"].map(|kind| format!(r#"{{"kind":"{kind}"}}"#)));
        for method in ["midpoint", "heun-3"] {
            solvers.push(format!(r#"{{"kind":"runge-kutta","method":"{method}"}}"#));
        }
        for kind in ["euler-maruyama", "stochastic-heun"] {
            for last in ["none", "mean", "tweedie", "euler"] {
                solvers.push(format!(
                    r#"{{"kind":"{kind}","diffusion":{{"kind":"constant","norm":0.1}},"last_step":"{last}"}}"#
                ));
            }
        }
        solvers.iter().map(|solver| serde_json::from_str(solver).unwrap()).collect()
    }

    #[test]
    fn evaluations_stated_are_evaluations_counted() {
        let always = |scale| Guidance::new(scale).unwrap();
        // Ends on times of the grids, where a solver asks, between them, and beyond all.
        let limited = |start, end| always(1.5).within(start, end).unwrap();
        let guidances = [
            vec![],
            vec![always(1.0)],
            vec![always(2.0)],
            vec![limited(0.25, 0.75)],
            vec![limited(0.1, 0.3)],
            vec![limited(0.5, 0.5)],
            vec![limited(0.99, 1.0)],
            vec![always(2.0), limited(0.0, 0.4)],
            vec![always(1.0), limited(0.2, 0.6), limited(0.3, 0.96)],
        ];
        let mut stated = 0;
        for grid in [
            r#"{"steps": 1}"#,
            r#"{"steps": 4}"#,
            r#"{"steps": 10, "start": 0.1, "end": 1}"#,
            r#"{"steps": 3, "end": 0.96, "last": 1}"#,
            r#"{"steps": 1, "end": 0.96, "last": 1}"#,
            r#"{"steps": 5, "shift": 6.93}"#,
        ] {
            for solver in solvers() {
                let sampler = Sampler { solver, grid: serde_json::from_str(grid).unwrap() };
                for (reversed, lambda) in [(false, 1.0), (true, 0.9)] {
                    let schedule = ScheduleConfig::Linear { reversed, noise: 1.0 };
                    for guidance in &guidances {
                        let network = || Flow::new(&schedule, Prediction::Velocity, |x, _| x * 0.1);
                        let guided = guidance.iter().fold(network(), |flow, g| flow.guided_also(network(), *g));
                        let flow = guided.scaled(lambda);
                        let mut draw = |_, shape| point(0.1).expand(shape);
                        // A stochastic step to data ends in a score that is not finite, all evaluations done.
                        let _ = sampler.sample(&flow, point(1.0), &mut draw);
                        match sampler.evaluations(guidance) {
                            Some([strong, weak]) => {
                                assert_eq!(strong + weak, flow.evaluations(), "{sampler:?} {guidance:?} {lambda}");
                                stated += 1;
                            }
                            None => assert!(matches!(sampler.solver, SolverConfig::Adaptive(_))),
                        }
                    }
                }
            }
        }
        // Grids, solvers but for the adaptive ones, directions of time with a factor, guidances.
        assert_eq!(stated, 6 * 18 * 2 * 9);
    }

    #[test]
    fn each_run_counts_its_own_evaluations() {
        let sampler: Sampler = serde_json::from_str(r#"{"solver": {"kind": "heun"}, "grid": {"steps": 3}}"#).unwrap();
        let flow = Flow::new(&Linear, Prediction::Velocity, |x, _| x);
        for _ in 0..2 {
            assert_eq!(sampler.sample(&flow, point(1.0), &mut silent).unwrap().evaluations, 6);
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        for (json, complaint) in [
            (r#"{"solver": {"kind": "eular"}, "grid": {"steps": 3}}"#, "unknown variant `eular`"),
            (r#"{"solver": {"kind": "euler", "order": 1}, "grid": {"steps": 3}}"#, "Euler"),
            (r#"{"solver": {"kind": "dpmpp-2m", "clock": "time"}, "grid": {"steps": 3}}"#, "unknown variant `time`"),
            (r#"{"solver": {"kind": "euler"}, "grid": {"steps": 0}}"#, "`steps`"),
            (r#"{"solver": {"kind": "euler"}, "grid": {"steps": 3}, "noise": 1}"#, "unknown field `noise`"),
            (
                r#"{"solver": {"kind": "euler-maruyama", "diffusion": {"kind": "sigma"}, "last": 1}, "grid": {"steps": 3}}"#,
                "`last`",
            ),
        ] {
            let error = serde_json::from_str::<Sampler>(json).unwrap_err().to_string();
            assert!(error.contains(complaint), "{json}: {error}");
        }
    }
}
