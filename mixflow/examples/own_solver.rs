//! A solver of one's own: how its error falls with the number of steps, and how a recipe samples with it.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use burn::tensor::{Device, Tensor};
use mixflow::data::Classes;
use mixflow::recipe::Recipe;
use mixflow::sampling::solver::{
    Deterministic, Euler, Heun, NoiseSource, OwnSolver, SampleError, Solver, Step, StepSolver,
};
use mixflow::schedules::{Linear, Prediction, TimeGrid};
use mixflow::testing::check_solver;
use mixflow::{Flow, Sampler};

/// The two-step method of Adams and Bashforth: second order by one evaluation a step, since it remembers the last.
///
/// # Source
/// Hairer, Nørsett and Wanner 1993, *Solving Ordinary Differential Equations I*, section III.1; for steps of any sizes,
/// section III.5.
#[derive(Clone, Copy, Debug)]
struct AdamsBashforth2;

/// Remembers length and slope of the step before.
impl StepSolver for AdamsBashforth2 {
    type Memory = Option<(f64, Tensor<4>)>;

    fn step(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        Step { from, to, .. }: Step,
        last: &mut Self::Memory,
        _: &mut dyn NoiseSource,
    ) -> Tensor<4> {
        // In the network's own time, which may run backwards: signs come out right by themselves.
        let step = flow.elapsed(from, to);
        let slope = flow.velocity(x.clone(), from);
        let change = match last.replace((step, slope.clone())) {
            None => slope * step,
            Some((before, old)) => slope.clone() * step + (slope - old) * (step * step / (2.0 * before)),
        };
        x + change
    }
}

/// It draws no noise: likelihoods and Slow Flow may use it.
impl Deterministic for AdamsBashforth2 {}

/// Deviation of the data below.
const DEVIATION: f64 = 0.5;

/// The error of a solver on data from `N(0, DEVIATION²)`, and the evaluations that it took. On the linear path the
/// deviation at time t is `√(t² DEVIATION² + (1 − t)²)`, and the flow carries every point with it.
fn error(solver: impl Solver, steps: usize) -> Result<(f64, usize), Box<dyn std::error::Error>> {
    let flow = Flow::new(&Linear, Prediction::Velocity, |x, t| {
        let slope = t * DEVIATION.powi(2) - (1.0 - t);
        let variance = (t * DEVIATION).powi(2) + (1.0 - t).powi(2);
        x * (slope / variance)
    });
    let (sampler, device) = (Sampler { solver, grid: TimeGrid::new(steps)? }, Device::default());
    let mut start = None;
    let mut noise = mixflow::sampling::solver::SeededNoise::new(0, 0, &device);
    let first = noise.start([64, 1, 1, 1]);
    let samples = sampler.trajectory(&flow, first, &mut noise, |_, x| {
        start.get_or_insert_with(|| x.clone());
    })?;
    let exact = start.ok_or("a solver visits its start")? * DEVIATION;
    Ok(((samples.x - exact).abs().max().into_scalar::<f64>(), samples.evaluations))
}

/// A recipe samples with it wherever it samples: in comparisons, evaluations and reports, which call it by this name.
fn in_a_recipe() -> Result<(), mixflow::Error> {
    let mut recipe = Recipe::read("digits", &["network.depth=1", "sampling.grid.steps=4"].map(String::from))?;
    recipe.sampling.sampler.solver = OwnSolver::new("Adams–Bashforth 2", AdamsBashforth2).into();
    let network = recipe.network.init(0, &Device::default());
    let images = recipe.generator(&network, &Classes(10)).images(&[3, 7], 0)?;
    println!("{}: {} evaluations", recipe.sampling.describe(), images.evaluations);
    assert_eq!(images.evaluations, 4);

    // A file of the recipe says its name alone: who reads it puts the solver into it again, before anything is sampled.
    let read: Recipe = Recipe::parse("a run", &recipe.to_value().to_string(), &[])?;
    let lacking = read.generator(&network, &Classes(10)).images(&[3, 7], 0);
    assert!(matches!(lacking, Err(mixflow::Error::Sample(SampleError::NoSolver { .. }))));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    check_solver(&AdamsBashforth2);
    println!("evaluations      Euler       Heun  Adams–Bashforth");
    for evaluations in [16, 32, 64] {
        let [euler, heun, own] =
            [error(Euler, evaluations)?, error(Heun, evaluations / 2)?, error(AdamsBashforth2, evaluations)?];
        assert_eq!([euler.1, heun.1, own.1], [evaluations; 3]);
        println!("{evaluations:11}  {:9.6}  {:9.6}  {:15.6}", euler.0, heun.0, own.0);
    }
    let order = (error(AdamsBashforth2, 32)?.0 / error(AdamsBashforth2, 64)?.0).log2();
    println!("order {order:.2}");
    assert!((1.8..2.4).contains(&order), "twice the steps, a quarter of the error: order {order}");
    Ok(in_a_recipe()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
