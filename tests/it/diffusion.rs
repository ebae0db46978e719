//! Diffusion on discrete steps against the official code of DiT: path, loss and samplers.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use mixflow::objective::{Batch, Hybrid, Objective};
use mixflow::sampling::solver::{Ancestral, Ddim, Solver};
use mixflow::sampling::{Flow, Guidance};
use mixflow_backbones::dit::{Dit, official_key};
use mixflow_backbones::{ClassLabels, Condition};
use mixflow_schedules::{Ddpm, Posterior, Prediction, Schedule, TimeGrid};
use mixflow_tests::{Fixture, Tolerance, assert_gradients, close};

const CASE: &str = "dit/dit_p2_learnsigma";

/// In double precision, as the official numbers: in single precision, the sines of steps up to 999 are not as near.
struct Double;

impl ModuleMapper for Double {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|values| {
            let trained = values.is_require_grad();
            Tensor::from_data(values.to_data(), (&values.device(), DType::F64)).set_require_grad(trained)
        })
    }
}

fn network(fixture: &Fixture, device: &Device) -> Dit {
    crate::dit::network(fixture, device).map(&mut Double)
}

fn labels(fixture: &Fixture, device: &Device) -> ClassLabels {
    ClassLabels { labels: fixture.integers("in.y", device), null: 10 }
}

fn steps(fixture: &Fixture, name: &str) -> Vec<usize> {
    fixture.values(name).into_iter().map(|step| step as usize).collect()
}

/// The records are in single precision.
const SINGLE: Tolerance = Tolerance { relative: 1e-6, absolute: 0.0 };

#[test]
fn steps_of_the_path_are_the_official_ones() {
    let fixture = Fixture::read(CASE);
    let at = |step| Ddpm.at(Ddpm::time(step));
    let shares: Vec<f64> = (0..1000).map(|step| at(step).alpha.powi(2)).collect();
    close("alphas_cumprod", &shares, &fixture.values("out.alphas_cumprod"), SINGLE);
    let variance = |step: usize| Posterior::between(&at(step.max(1)), &at(step.max(1) - 1)).variance.ln();
    let found: Vec<f64> = (0..1000).map(variance).collect();
    close("posterior", &found, &fixture.values("out.posterior_log_variance_clipped"), SINGLE);
    let noise = 1.0 - Ddpm.at(Ddpm::time(0)).alpha.powi(2);
    assert!((noise - 1e-4).abs() < 1e-12, "{noise}");
}

#[test]
fn losses_and_their_gradients_are_the_official_ones() {
    let fixture = Fixture::read(CASE);
    let device = Device::default().autodiff();
    let dit = network(&fixture, &device);
    let tensor = |name: &str| fixture.tensor::<4>(name, &device).cast(DType::F64);
    let losses = Hybrid::default().losses(
        &dit,
        tensor("in.x"),
        labels(&fixture, &device),
        tensor("in.noise"),
        &steps(&fixture, "in.t"),
    );
    let tolerance = fixture.tolerance(None);
    fixture.assert_close("out.mse", losses.noise.clone().into_data(), tolerance);
    fixture.assert_close("out.vb", losses.bound.clone().into_data(), tolerance);
    let loss = losses.noise + losses.bound;
    fixture.assert_close("out.loss", loss.clone().into_data(), tolerance);
    let mut gradients = loss.mean().backward();
    let compared = assert_gradients(&fixture, &dit, &mut gradients, official_key);
    assert_eq!(compared, fixture.names("out.grad.").len());
}

#[test]
fn steps_and_noise_are_drawn_for_positions() {
    let fixture = Fixture::read(CASE);
    let device = Device::default();
    let dit = crate::dit::network(&fixture, &device);
    let hybrid = Hybrid { condition_dropout: 0.5 };
    let loss = |first: usize, count: usize| {
        let images = fixture.tensor::<4>("in.x", &device).narrow(0, first, count);
        let labels = ClassLabels { labels: fixture.integers::<1>("in.y", &device).narrow(0, first, count), null: 10 };
        hybrid.loss(&dit, Batch::new(images, labels, 7 + first as u64), 3).total.into_scalar::<f32>()
    };
    let (whole, parts) = (loss(0, 4), (loss(0, 2) + loss(2, 2)) / 2.0);
    assert!((whole - parts).abs() < 1e-5 * whole, "{whole} is not {parts}");
    assert!(loss(0, 1) != loss(1, 1) && whole.is_finite());
}

#[test]
fn ddim_is_the_official_one() {
    let fixture = Fixture::read(CASE);
    let device = Device::default();
    let dit = network(&fixture, &device);
    let flow = Flow::of(&Ddpm, Prediction::Noise, &dit, labels(&fixture, &device));
    let times = TimeGrid::ddim(8).expect("125 divides a thousand").times();
    let found: Vec<usize> = times[..8].iter().rev().map(|&t| (1000.0 * Ddpm.at(t).time).round() as usize).collect();
    assert_eq!(found, steps(&fixture, "in.ddim_steps"));
    let mut states: Vec<Tensor<4>> = vec![];
    let mut silent = |_, _| panic!("no noise is drawn");
    Ddim.solve(&flow, fixture.tensor::<4>("in.noise", &device).cast(DType::F64), &times, &mut silent, &mut |_, x| {
        states.push(x.clone())
    })
    .expect("finite states");
    let found = Tensor::stack::<5>(states[1..].to_vec(), 0);
    fixture.assert_close("out.ddim", found.into_data(), fixture.tolerance(Some("samplers")));
}

/// Each step from the recorded state before it: states of this untrained network grow to 800, where what frequencies differ in
/// their last bit has grown as well.
#[test]
fn ancestral_steps_are_the_official_ones() {
    let fixture = Fixture::read(CASE);
    let device = Device::default();
    let dit = network(&fixture, &device);
    let flow = Flow::of(&Ddpm, Prediction::Noise, &dit, labels(&fixture, &device));
    let steps = steps(&fixture, "in.ancestral_steps");
    let times: Vec<f64> = steps.iter().rev().map(|&step| Ddpm::time(step)).chain([1.0]).collect();
    let rows = |name: &str| fixture.tensor::<5>(name, &device).cast(DType::F64).iter_dim(0).collect::<Vec<_>>();
    let (states, noise) = (rows("out.ancestral"), rows("in.ancestral_noise"));
    let mut x = fixture.tensor::<4>("in.noise", &device).cast(DType::F64);
    let mut found = vec![];
    for (step, interval) in times.windows(2).enumerate() {
        let mut draw = |_, _: [usize; 4]| noise[step].clone().squeeze_dim(0);
        found.push(Ancestral.solve(&flow, x, interval, &mut draw, &mut |_, _| {}).expect("finite states"));
        x = states[step].clone().squeeze_dim(0);
    }
    let found = Tensor::stack::<5>(found, 0).into_data();
    fixture.assert_close("out.ancestral", found, fixture.tolerance(Some("samplers")));
}

/// Guidance is for three of four channels of the noise, and leaves the variance alone.
#[test]
fn guided_noise_is_the_official_one() {
    let fixture = Fixture::read(CASE);
    let device = Device::default();
    let dit = network(&fixture, &device);
    let recorded = fixture.tensor::<4>("out.cfg_scale_1.5", &device);
    let guidance = Guidance::new(1.5).and_then(|guidance| guidance.first_channels(3)).expect("the scale is valid");
    for (row, step) in steps(&fixture, "in.cfg_t")[..2].iter().enumerate() {
        let of = |name: &str| fixture.tensor::<4>(name, &device).narrow(0, row, 1).cast(DType::F64);
        let labels = ClassLabels { labels: fixture.integers::<1>("in.cfg_y", &device).narrow(0, row, 1), null: 10 };
        let flow = |labels| Flow::of(&Ddpm, Prediction::Noise, &dit, labels);
        let flow = flow(labels.clone()).guided(flow(labels.null()), guidance);
        let t = Ddpm::time(*step);
        let noise = flow.predict(of("in.cfg_x"), t, Prediction::Noise);
        let fraction = flow.data_and_variance(of("in.cfg_x"), t).1.expect("a learned variance");
        let found = Tensor::cat(vec![noise, fraction * 2.0 - 1.0], 1).into_data();
        let expected: Vec<f64> = recorded.clone().narrow(0, row, 1).into_data().iter().collect();
        close("guided", &found.iter().collect::<Vec<f64>>(), &expected, fixture.tolerance(None));
    }
}
