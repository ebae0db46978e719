//! The likelihood of data under a flow.

use std::cell::{Cell, RefCell};
use std::f64::consts::{LN_2, TAU};

use burn::prelude::*;
use mixflow_schedules::{Prediction, noise_scale};

use crate::sampling::Flow;
use crate::sampling::solver::{Deterministic, NoiseSource, SampleError};

/// How likely a batch is, and the noise that it came from.
#[derive(Clone, Debug)]
pub struct Likelihood {
    /// Log density of each sample in nats: `[batch]`.
    pub nats: Tensor<1>,
    /// The states at the noise end: `[batch, channels, height, width]`.
    pub noise: Tensor<4>,
    /// Network evaluations; each came with one backward pass.
    pub evaluations: usize,
}

impl Likelihood {
    /// Bits per dimension of each sample, `−log₂ p(x) / dimensions`, for the scale that the data was given in: `[batch]`.
    ///
    /// For 8-bit pixels that were mapped to [-1, 1], add 7 (`log₂ 128`).
    #[must_use]
    pub fn bits_per_dimension(&self) -> Tensor<1> {
        let [_, channels, height, width] = self.noise.dims();
        self.nats.clone() / (-LN_2 * (channels * height * width) as f64)
    }
}

/// The log density of `data` under `flow`, by the instantaneous change of variables with Hutchinson's estimate of the
/// divergence: `log p(x₁) = log N(x₀; 0, s² I) − ∫ εᵀ (∂v/∂x) ε dt`, with the path's `s`, mostly 1
/// ([`noise_scale`]).
///
/// The states and the integral are solved together, from the last of `times` to the first. Each evaluation takes a
/// fresh Rademacher probe `ε`: the signs of what `probes` draws for it, counted from 0. The flow's network is called
/// with tensors that record gradients.
///
/// # Shapes
/// - data: `[batch, channels, height, width]`
/// - times: as for sampling, upwards in paper time
///
/// # Errors
/// [`SampleError`] where the solver stops, and for a flow that a correction changes after each step.
///
/// # Source
/// Grathwohl et al. 2019 (arXiv 1810.01367); `sample_ode_likelihood` of SiT (`willisma/SiT`, transport/transport.py,
/// commit 947f95b).
pub fn log_likelihood(
    flow: &Flow<'_>,
    solver: &impl Deterministic,
    data: Tensor<4>,
    times: &[f64],
    probes: &mut dyn NoiseSource,
) -> Result<Likelihood, SampleError> {
    if flow.finished_steps().is_some() {
        let reason =
            "a correction acts after each step of this flow, whose states have no density by its velocity alone";
        return Err(SampleError::Config(reason.into()));
    }
    let before = flow.evaluations();
    let dims = data.dims();
    let probes = RefCell::new(probes);
    let drawn = Cell::new(0);
    let joint = Flow::labelled(flow.schedule(), Prediction::Velocity, |state, t| {
        let probe = probes.borrow_mut().draw(drawn.replace(drawn.get() + 1), dims).sign();
        let (x, _) = unpack(state, dims);
        let (velocity, divergence) = velocity_and_divergence(flow, x, t, probe);
        pack(velocity, divergence)
    })
    .carrying(1);
    let downwards: Vec<f64> = times.iter().rev().copied().collect();
    let none = Tensor::zeros([dims[0]], (&data.device(), data.dtype()));
    let mut no_noise = |_, _| unreachable!("a deterministic solver draws no noise");
    let state = solver.solve(&joint, pack(data, none), &downwards, &mut no_noise, &mut |_, _| {})?;
    let (noise, change) = unpack(state, dims);
    let nats = log_normal(noise.clone(), noise_scale(flow.schedule())) + change;
    Ok(Likelihood { nats, noise, evaluations: flow.evaluations() - before })
}

/// The velocity, and `εᵀ (∂v/∂x) ε` of each sample.
fn velocity_and_divergence(flow: &Flow<'_>, x: Tensor<4>, t: f64, probe: Tensor<4>) -> (Tensor<4>, Tensor<1>) {
    let x = x.autodiff().require_grad();
    let velocity = flow.velocity(x.clone(), t);
    let product = (velocity.clone() * probe.clone()).sum();
    // A velocity that does not depend on the state has no gradient, and where it depends on nothing no graph either.
    let gradient = if product.is_tracked() { x.grad(&product.backward()) } else { None };
    let gradient = gradient.unwrap_or_else(|| probe.zeros_like());
    (velocity.without_autodiff(), (gradient * probe).flatten::<2>(1, 3).sum_dim(1).squeeze_dim(1))
}

/// `log N(x; 0, deviation² I)` of each sample.
fn log_normal(x: Tensor<4>, deviation: f64) -> Tensor<1> {
    let x: Tensor<2> = x.flatten(1, 3) / deviation;
    let dimensions = x.dims()[1] as f64;
    x.square().sum_dim(1).squeeze_dim(1) * -0.5 - dimensions * (0.5 * TAU.ln() + deviation.ln())
}

/// One number per sample behind its state: `[batch, dimensions + 1, 1, 1]`.
fn pack(x: Tensor<4>, number: Tensor<1>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let dimensions = channels * height * width;
    Tensor::cat(vec![x.reshape([batch, dimensions, 1, 1]), number.reshape([batch, 1, 1, 1])], 1)
}

fn unpack(packed: Tensor<4>, dims: [usize; 4]) -> (Tensor<4>, Tensor<1>) {
    let [batch, dimensions, ..] = packed.dims();
    let x = packed.clone().narrow(1, 0, dimensions - 1).reshape(dims);
    (x, packed.narrow(1, dimensions - 1, 1).reshape([batch]))
}

#[cfg(test)]
mod tests {
    use mixflow_schedules::{Linear, Schedule};

    use super::*;
    use crate::sampling::correction::{Correction, Dcw, Weights};
    use crate::sampling::solver::testing::{Fixture, numbers};
    use crate::sampling::solver::{Adaptive, Euler, Heun, Pair};

    fn assert_recorded(fixture: &Fixture, name: &str, found: &Likelihood) {
        fixture.assert_close(name, &found.nats, &fixture.tensor(&format!("out.{name}.logp")), "/tolerance");
        fixture.assert_close(name, &found.noise, &fixture.tensor(&format!("out.{name}.x_end")), "/tolerance");
    }

    fn times(steps: u32) -> Vec<f64> {
        (0..=steps).map(|step| f64::from(step) / f64::from(steps)).collect()
    }

    /// The recorded flow of data `N(0, 0.49)`. Its Jacobian is diagonal, so any probe gives the exact divergence.
    fn gaussian() -> Flow<'static> {
        Flow::new(&Linear, Prediction::Velocity, |x, t| {
            let at = Linear.at(t);
            x * ((at.alpha * 0.49 - at.sigma) / (at.alpha.powi(2) * 0.49 + at.sigma.powi(2)))
        })
    }

    #[test]
    fn a_gaussian_matches_sit() {
        let fixture = Fixture::read("sit_likelihood");
        let run = |solver: &dyn Fn(&Flow<'_>, &mut dyn NoiseSource) -> Likelihood| {
            let x: Tensor<4> = fixture.tensor("in.x");
            solver(&gaussian(), &mut |_, _| x.ones_like())
        };
        let x = || fixture.tensor("in.x");
        let euler = run(&|flow, probes| log_likelihood(flow, &Euler, x(), &times(19), probes).unwrap());
        assert_recorded(&fixture, "gauss.euler20", &euler);
        let heun = run(&|flow, probes| log_likelihood(flow, &Heun, x(), &times(19), probes).unwrap());
        assert_recorded(&fixture, "gauss.heun2_20", &heun);
        let loose = Adaptive::new(Pair::DormandPrince5, 1e-6, 1e-3).unwrap();
        let adaptive = run(&|flow, probes| log_likelihood(flow, &loose, x(), &[0.0, 1.0], probes).unwrap());
        assert_recorded(&fixture, "gauss.dopri5", &adaptive);
        let tight = Adaptive::new(Pair::DormandPrince5, 1e-9, 1e-9).unwrap();
        let exact = run(&|flow, probes| log_likelihood(flow, &tight, x(), &[0.0, 1.0], probes).unwrap());
        fixture.assert_close("analytic", &exact.nats, &fixture.tensor("out.gauss.analytic_logp"), "/tolerance");
        // `−log₂ p / 8`.
        let bits = numbers(&exact.bits_per_dimension())[0];
        assert!((bits + numbers(&exact.nats)[0] / 8.0 / LN_2).abs() < 1e-12);
    }

    #[test]
    fn a_flow_that_is_changed_after_its_steps_has_no_density() {
        let flow = Dcw { low: 0.01, high: 0.01, weights: Weights::Noise }.correct(gaussian());
        let x = Fixture::read("sit_likelihood").tensor("in.x");
        let error = log_likelihood(&flow, &Euler, x, &times(3), &mut |_, _| unreachable!()).unwrap_err().to_string();
        assert!(error.contains("a correction acts after each step"), "{error}");
    }

    /// A flow that moves everything alike has no divergence: the density is that of the noise it came from.
    #[test]
    fn a_velocity_that_ignores_the_state_only_moves() {
        let device = Device::default();
        let flows = [
            Flow::new(&Linear, Prediction::Velocity, |x, _| x.zeros_like() + 0.5),
            Flow::new(&Linear, Prediction::Velocity, |x, _| Tensor::full(x.dims(), 0.5, (&device, x.dtype()))),
            // Depends on a tracked tensor, but not on the state.
            Flow::new(&Linear, Prediction::Velocity, |x, _| {
                Tensor::<4>::full(x.dims(), 0.25, (&device, x.dtype())).autodiff().require_grad() * 2.0
            }),
        ];
        for flow in flows {
            let data = Tensor::<4>::from_data([[[[1.0], [-0.3]]]], (&device, burn::tensor::DType::F64));
            let mut probes = |_, shape| Tensor::ones(shape, (&device, burn::tensor::DType::F64));
            let found = log_likelihood(&flow, &Heun, data, &times(4), &mut probes).unwrap();
            let expected = -0.5 * (0.25 + 0.64) - TAU.ln();
            assert!((numbers(&found.nats)[0] - expected).abs() < 1e-12, "{found:?} is not {expected}");
        }
    }

    #[test]
    fn a_network_with_given_probes_matches_sit() {
        let fixture = Fixture::read("sit_likelihood");
        let probes = fixture.rows("in.eps");
        let flow = fixture.flow(&Linear, Prediction::Velocity);
        let mut draw = |evaluation: usize, _| probes[evaluation].clone();
        let found = log_likelihood(&flow, &Euler, fixture.tensor("in.x"), &times(5), &mut draw).unwrap();
        assert_recorded(&fixture, "tiny.euler6", &found);
        assert_eq!(found.evaluations, 5);
    }
}
