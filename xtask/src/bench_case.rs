//! What `cargo xtask bench` measures: one case a process.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use mixflow::backbones::autoencoder::KlAutoencoderConfig;
use mixflow::backbones::dit_dh::{DitDhConfig, Stack};
use mixflow::backbones::repa::RepaConfig;
use mixflow::backbones::sit::SitConfig;
use mixflow::backbones::{Autoencoder, Backbone, ClassLabels, Network, NetworkConfig};
use mixflow::evaluation::inception::Inception;
use mixflow::random::Stream;
use mixflow::schedules::{Linear, MixFlow, TimestepSampler, Uniform};
use mixflow::train::{OptimizerConfig, TrainState};
use mixflow::{Alignment, Batch, FlowMatching, Objective};
use serde::{Deserialize, Serialize};

pub(crate) const CASES: [&str; 11] = [
    "tiny-train",
    "tiny-train-mixflow",
    "tiny-sample",
    "small-train",
    "small-train-mixflow",
    "small-sample",
    "repa-train",
    "dit-dh-train",
    "dit-dh-sample",
    "sd-decode",
    "inception",
];

/// What one case measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    case: String,
    /// Median wall time of a step.
    pub(crate) seconds: f64,
    pub(crate) batch: usize,
    /// Largest memory of the process.
    pub(crate) peak_bytes: u64,
    /// Arithmetic of a step: a multiplication and an addition are two.
    pub(crate) operations: f64,
}

/// One of [`CASES`], at least two steps, of which the first is not counted.
pub(crate) fn measure(case: &str, steps: usize, device: &Device) -> Measured {
    let (times, batch, multiply_adds) = match case {
        "inception" => inception(steps, device),
        "sd-decode" => decode(steps, device),
        _ => network(case, steps, device),
    };
    let mut times = times[1..].to_vec();
    times.sort_by(f64::total_cmp);
    let operations = 2.0 * multiply_adds * batch as f64;
    Measured { case: case.into(), seconds: times[times.len() / 2], batch, peak_bytes: status("VmHWM"), operations }
}

/// The network of a case and its batch.
fn configuration(case: &str) -> (NetworkConfig, usize) {
    let small = SitConfig::small(2);
    let tiny = SitConfig { input_size: 8, width: 128, depth: 4, heads: 4, hidden: 512, classes: 10, ..small.clone() };
    let SitConfig { width, depth, heads, hidden, .. } = small;
    // DiT^DH-S would take a minute a step on two cores: its latents and proportions, thinner.
    let stack = |width, depth, heads, hidden| Stack { width, depth, heads, hidden };
    let [encoder, head] = [stack(256, 4, 4, 682), stack(512, 2, 8, 1365)];
    match case.split('-').next() {
        Some("tiny") => (NetworkConfig::Sit(tiny), 64),
        Some("repa") => (NetworkConfig::Repa(RepaConfig { width, depth, heads, hidden, ..RepaConfig::base(2) }), 8),
        Some("dit") => (NetworkConfig::DitDh(DitDhConfig { encoder, head, ..DitDhConfig::small() }), 4),
        _ => (NetworkConfig::Sit(small), 8),
    }
}

fn network(case: &str, steps: usize, device: &Device) -> (Vec<f64>, usize, f64) {
    let (config, batch) = configuration(case);
    if case.ends_with("-sample") {
        return (sample(&config, batch, steps, device), batch, config.multiply_adds() as f64);
    }
    let times = if case.ends_with("-mixflow") {
        train(&config, batch, steps, MixFlow::new(0.8), device, |_| {})
    } else {
        train(&config, batch, steps, Uniform, device, |_| {})
    };
    (times, batch, 3.0 * config.training_multiply_adds() as f64)
}

fn train(
    config: &NetworkConfig,
    batch: usize,
    steps: usize,
    law: impl TimestepSampler,
    device: &Device,
    after: impl FnMut(usize),
) -> Vec<f64> {
    let objective = FlowMatching::new(Linear).timesteps(law);
    if config.projections().is_empty() {
        return train_with(&objective, config, batch, steps, device, after);
    }
    train_with(&Alignment { objective, weight: 0.5 }, config, batch, steps, device, after)
}

fn train_with(
    objective: &impl Objective<Network>,
    config: &NetworkConfig,
    batch: usize,
    steps: usize,
    device: &Device,
    mut after: impl FnMut(usize),
) -> Vec<f64> {
    let network = config.init(0, device);
    let device = device.clone().autodiff();
    let optimizer = OptimizerConfig::default();
    let images = images(config, batch, &device);
    let [rows, columns] = config.token_grid();
    let feature = |&width| Tensor::random([batch, rows * columns, width], Distribution::Default, &device);
    let features: Vec<Tensor<3>> = config.projections().iter().map(feature).collect();
    let mut state = Some(TrainState::new(network));
    let step = |step: usize| {
        let condition = ClassLabels::new(&vec![1; batch], config.classes(), &device);
        let examples = Batch::new(images.clone(), condition, (step * batch) as u64).with_features(features.clone());
        let start = Instant::now();
        let (next, _) = state.take().expect("put back below").step(objective, [examples], 0, &optimizer);
        state = Some(next);
        let seconds = start.elapsed().as_secs_f64();
        after(step);
        seconds
    };
    (0..steps).map(step).collect()
}

fn sample(config: &NetworkConfig, batch: usize, steps: usize, device: &Device) -> Vec<f64> {
    let network = config.init(0, device);
    let x = images(config, batch, device);
    timed(steps, || {
        let condition = ClassLabels::new(&vec![1; batch], config.classes(), device);
        let y = network.forward(x.clone(), Tensor::full([batch], 0.5, device), condition);
        let _ = y.into_data();
    })
}

fn images(config: &NetworkConfig, batch: usize, device: &Device) -> Tensor<4> {
    let [channels, height, width] = config.shape();
    mixflow::objective::noise(0, Stream::Sample, 0, [batch, channels, height, width], device)
}

/// Features of images that are resized already.
fn inception(steps: usize, device: &Device) -> (Vec<f64>, usize, f64) {
    let batch = 8;
    let network = Inception::new(device);
    let x = Tensor::random([batch, 3, 299, 299], Distribution::Default, device);
    let times = timed(steps, || {
        let _ = network.forward(x.clone()).pool().into_data();
    });
    (times, batch, Inception::MULTIPLY_ADDS)
}

/// An image of 256 px from the latents of Stable Diffusion.
fn decode(steps: usize, device: &Device) -> (Vec<f64>, usize, f64) {
    let autoencoder = KlAutoencoderConfig::stable_diffusion().init(0, device);
    let latents = Tensor::random([1, 4, 32, 32], Distribution::Normal(0.0, 1.0), device);
    let times = timed(steps, || {
        let _ = autoencoder.decode(latents.clone()).into_data();
    });
    (times, 1, 311.1e9) // PyTorch's `FlopCounterMode` for `benches/pytorch/vae.py`
}

fn timed(steps: usize, step: impl Fn()) -> Vec<f64> {
    let time = |_| {
        let start = Instant::now();
        step();
        start.elapsed().as_secs_f64()
    };
    (0..steps).map(time).collect()
}

/// Trains the tiny network and tells its memory after a tenth of the steps and at their end.
pub(crate) fn growth(steps: usize, device: &Device) -> [u64; 2] {
    let (config, batch) = configuration("tiny-train");
    let early = (steps / 10).max(1);
    let mut found = [0, 0];
    train(&config, batch, steps, MixFlow::new(0.8), device, |step| {
        found[1] = status("VmRSS");
        if step + 1 == early {
            found[0] = found[1];
        }
    });
    found
}

/// A line of the process's status in bytes; 0 where the system does not tell.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
}
