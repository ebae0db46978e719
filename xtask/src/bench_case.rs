//! What `cargo xtask bench` measures: one case a process.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use mixflow::backbones::autoencoder::KlAutoencoderConfig;
use mixflow::backbones::dit_dh::{DitDhConfig, Stack};
use mixflow::backbones::repa::RepaConfig;
use mixflow::backbones::sit::SitConfig;
use mixflow::backbones::{Autoencoder, Backbone, ClassLabels, NetworkConfig, Precision};
use mixflow::evaluation::inception::Inception;
use mixflow::objective::InPrecision;
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
    Measured::new(case, &times[1..], batch, multiply_adds)
}

impl Measured {
    /// `multiply_adds` for each image of a batch.
    pub(crate) fn new(case: &str, times: &[f64], batch: usize, multiply_adds: f64) -> Self {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        let operations = 2.0 * multiply_adds * batch as f64;
        Self { case: case.into(), seconds: times[times.len() / 2], batch, peak_bytes: status("VmHWM"), operations }
    }
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
        let (network, condition) =
            (config.init(0, device), ClassLabels::new(&vec![1; batch], config.classes(), device));
        let times = sample(&network, &images(config.shape(), batch, device), &condition, steps);
        return (times, batch, config.multiply_adds() as f64);
    }
    let law: Box<dyn TimestepSampler> = match case.ends_with("-mixflow") {
        true => Box::new(MixFlow::new(0.8)),
        false => Box::new(Uniform),
    };
    let times = train_in(Precision::F32, &config, batch, steps, law, device, |_| {});
    (times, batch, 3.0 * config.training_multiply_adds() as f64)
}

/// Steps of a network that multiplies in a precision.
pub(crate) fn train_in(
    precision: Precision,
    config: &NetworkConfig,
    batch: usize,
    steps: usize,
    law: impl TimestepSampler,
    device: &Device,
    after: impl FnMut(usize),
) -> Vec<f64> {
    let objective = FlowMatching::new(Linear).timesteps(law);
    let autodiff = device.clone().autodiff();
    let [rows, columns] = config.token_grid();
    let feature = |&width| Tensor::random([batch, rows * columns, width], Distribution::Default, &autodiff);
    let features: Vec<Tensor<3>> = config.projections().iter().map(feature).collect();
    let condition = ClassLabels::new(&vec![1; batch], config.classes(), &autodiff);
    let examples = Batch::new(images(config.shape(), batch, &autodiff), condition, 0).with_features(features);
    let network = config.init(0, device);
    match config.projections().is_empty() {
        true => train_with(&InPrecision { objective: &objective, precision }, network, &examples, steps, after),
        false => {
            let objective = Alignment { objective, weight: 0.5 };
            train_with(&InPrecision { objective: &objective, precision }, network, &examples, steps, after)
        }
    }
}

/// Seconds of each of some steps on the same examples with other noise.
pub(crate) fn train_with<B: Backbone>(
    objective: &impl Objective<B>,
    network: B,
    examples: &Batch<B::Condition>,
    steps: usize,
    mut after: impl FnMut(usize),
) -> Vec<f64> {
    let optimizer = OptimizerConfig::default();
    let batch = examples.images.dims()[0] as u64;
    let mut state = Some(TrainState::new(network));
    let step = |step: usize| {
        let examples = Batch { first: step as u64 * batch, ..examples.clone() };
        let start = Instant::now();
        let (next, _) = state.take().expect("put back below").step(objective, [examples], 0, &optimizer);
        state = Some(next);
        let seconds = start.elapsed().as_secs_f64();
        after(step);
        seconds
    };
    (0..steps).map(step).collect()
}

/// Seconds of each of some evaluations of a network.
pub(crate) fn sample<B: Backbone>(network: &B, x: &Tensor<4>, condition: &B::Condition, steps: usize) -> Vec<f64> {
    timed(steps, || {
        let time = Tensor::full([x.dims()[0]], 0.5, &x.device());
        let _ = network.forward(x.clone(), time, condition.clone()).into_data();
    })
}

/// Noise of channels, height and width.
pub(crate) fn images([channels, height, width]: [usize; 3], batch: usize, device: &Device) -> Tensor<4> {
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
    train_in(Precision::F32, &config, batch, steps, MixFlow::new(0.8), device, |step| {
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
