//! One training step, or one evaluation, of a small transformer as Stable Diffusion 3.5 medium, FLUX.1 or MiniT2I has: one case a
//! process,
//! as `cargo xtask bench --case CASE` prints it, so that `mixflow/benches/pytorch/side_by_side.py` can put it beside PyTorch.
//!
//! usage: `mmdit bench --case mmdit-train|mmdit-sample|flux-train|flux-sample|minit2i-train|minit2i-sample --steps STEPS`
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use mixflow::backbones::Backbone;
use mixflow::schedules::{Linear, MixFlow, Prediction, Reversed, Scaled, Weighting};
use mixflow::train::{OptimizerConfig, TrainState};
use mixflow::{Batch, FlowMatching, Objective};
use mixflow_t2i::{FluxConfig, MmDitConfig, MmJitConfig, TextEmbedding};

const BATCH: usize = 4;

/// 256 tokens of an image and 77 of a text.
fn mmdit() -> MmDitConfig {
    MmDitConfig {
        input_size: 32,
        width: 384,
        depth: 6,
        heads: 6,
        context_width: 768,
        pooled_width: 768,
        table: 32,
        dual_attention: vec![0, 1, 2],
        ..MmDitConfig::stable_diffusion_3_5_medium()
    }
}

/// The same numbers of tokens.
fn flux() -> FluxConfig {
    FluxConfig {
        input_size: 32,
        width: 384,
        depth: 3,
        single_depth: 6,
        heads: 6,
        axes: [16, 24, 24],
        context_width: 768,
        ..FluxConfig::dev()
    }
}

/// The same numbers of tokens, of pixels.
fn minit2i() -> MmJitConfig {
    MmJitConfig {
        input_size: 256,
        width: 384,
        depth: 6,
        heads: 6,
        hidden: 1024,
        context_width: 768,
        context_length: 77,
        ..MmJitConfig::base()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| arguments.iter().position(|argument| argument == flag).and_then(|i| arguments.get(i + 1));
    let case = after("--case").map_or("mmdit-sample", String::as_str);
    let steps = after("--steps").and_then(|steps| steps.parse().ok()).unwrap_or(8).max(2);
    let device = &Device::default();
    let straight = FlowMatching::new(Reversed(Linear)).timesteps(MixFlow::new(0.8));
    let pixels = FlowMatching::new(Scaled { path: Linear, noise: 2.0 }).timesteps(MixFlow::new(0.8));
    let pixels = FlowMatching { prediction: Prediction::Data, weighting: Weighting::Velocity, floor: 0.05, ..pixels };
    let mut times = match case {
        "mmdit-train" => train(&mmdit().init(0, device), mmdit().shape(), &straight, steps),
        "flux-train" => train(&flux().init(0, device), flux().shape(), &straight, steps),
        "flux-sample" => sample(&flux().init(0, device), flux().shape(), steps),
        "minit2i-train" => train(&minit2i().init(0, device), minit2i().shape(), &pixels, steps),
        "minit2i-sample" => sample(&minit2i().init(0, device), minit2i().shape(), steps),
        _ => sample(&mmdit().init(0, device), mmdit().shape(), steps),
    };
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    println!(r#"{{"case": "{case}", "seconds": {seconds}, "batch": {BATCH}, "peak_bytes": {}}}"#, peak());
}

fn inputs([channels, height, width]: [usize; 3], device: &Device) -> (Tensor<4>, TextEmbedding) {
    let text = TextEmbedding::new(random([BATCH, 77, 768], device), random([BATCH, 768], device));
    (random([BATCH, channels, height, width], device), text)
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn train<B: Backbone<Condition = TextEmbedding>>(
    network: &B,
    shape: [usize; 3],
    objective: &impl Objective<B>,
    steps: usize,
) -> Vec<f64> {
    let (images, text) = inputs(shape, &Device::default().autodiff());
    let mut state = Some(TrainState::new(network.clone()));
    let step = |step| {
        let batch = Batch::new(images.clone(), text.clone(), (step * BATCH) as u64);
        let start = Instant::now();
        let before = state.take().expect("put back below");
        state = Some(before.step(objective, [batch], 0, &OptimizerConfig::default()).0);
        start.elapsed().as_secs_f64()
    };
    (0..steps).map(step).collect()
}

fn sample<B: Backbone<Condition = TextEmbedding>>(network: &B, shape: [usize; 3], steps: usize) -> Vec<f64> {
    let device = Device::default();
    let (x, text) = inputs(shape, &device);
    let step = |_| {
        let start = Instant::now();
        let _ = network.forward(x.clone(), Tensor::full([BATCH], 0.5, &device), text.clone()).into_data();
        start.elapsed().as_secs_f64()
    };
    (0..steps).map(step).collect()
}

/// Most memory of the process, bytes; 0 where the system does not tell.
fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
}
