//! `cargo xtask bench`: speed and memory of training and sampling.

use std::process::{Command, ExitCode};
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use clap::Args;
use mixflow::backbones::sit::SitConfig;
use mixflow::backbones::{Backbone, ClassLabels};
use mixflow::inception::Inception;
use mixflow::random::Stream;
use mixflow::schedules::{Linear, MixFlow, TimestepSampler, Uniform};
use mixflow::train::{OptimizerConfig, TrainState};
use mixflow::{Batch, FlowMatching};
use serde::{Deserialize, Serialize};

use crate::read_latents;
use crate::run::Result;

const CASES: [&str; 7] = [
    "tiny-train",
    "tiny-sample",
    "small-train",
    "small-sample",
    "tiny-train-mixflow",
    "small-train-mixflow",
    "inception",
];

#[derive(Args)]
pub(crate) struct Bench {
    /// Run one case in this process and print it as JSON
    #[arg(long, value_parser = CASES)]
    case: Option<String>,
    /// Steps of a case; the first is not counted
    #[arg(long)]
    steps: Option<usize>,
    /// Train the tiny network for this many steps and print how much its memory grows
    #[arg(long, value_name = "STEPS")]
    memory: Option<usize>,
    /// Print how many stored latents a second the loader gives to training
    #[arg(long)]
    latents: bool,
}

/// What one case measured.
#[derive(Serialize, Deserialize)]
struct Measured {
    case: String,
    /// Median wall time of a step.
    seconds: f64,
    batch: usize,
    /// Largest memory of the process.
    peak_bytes: u64,
    /// Arithmetic of a step: a multiplication and an addition are two.
    operations: f64,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(steps) = self.memory {
            return memory(steps);
        }
        if self.latents {
            return read_latents::measure();
        }
        if let Some(case) = self.case {
            println!("{}", serde_json::to_string(&measure(&case, self.steps.unwrap_or(10).max(2)))?);
            return Ok(ExitCode::SUCCESS);
        }
        let rate = matmul_rate();
        let threads = rayon::current_num_threads();
        println!("matrix products of 1,024 x 1,024: {:.1} GFLOP/s on {threads} threads\n", rate / 1e9);
        println!("case                 steps/s  images/s  peak MB  GFLOP/s  of matmul");
        for case in CASES {
            let steps = self.steps.unwrap_or(if case.starts_with("tiny") { 40 } else { 6 });
            // A process of its own, so that the peak is the case's.
            let arguments = ["bench", "--case", case, "--steps", &steps.to_string()];
            let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
            let m: Measured = serde_json::from_slice(&output.stdout)
                .map_err(|_| format!("case {case} failed: {}", String::from_utf8_lossy(&output.stderr)))?;
            let speed = m.operations / m.seconds;
            let (images, peak) = (m.batch as f64 / m.seconds, m.peak_bytes as f64 / 1e6);
            println!(
                "{case:<20} {:>7.2} {images:>9.1} {peak:>8.0} {:>8.1} {:>9.0} %",
                1.0 / m.seconds,
                speed / 1e9,
                100.0 * speed / rate
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn configuration(case: &str) -> (SitConfig, usize) {
    if case.starts_with("tiny") {
        let tiny = SitConfig {
            input_size: 8,
            width: 128,
            depth: 4,
            heads: 4,
            hidden: 512,
            classes: 10,
            ..SitConfig::small(2)
        };
        (tiny, 64)
    } else {
        (SitConfig::small(2), 8)
    }
}

fn measure(case: &str, steps: usize) -> Measured {
    if case == "inception" {
        return inception(steps);
    }
    let (config, batch) = configuration(case);
    let forward = 2.0 * config.multiply_adds() as f64 * batch as f64;
    let (times, passes) = match case.split_once('-').map_or("", |(_, mode)| mode) {
        "sample" => (sample(&config, batch, steps), 1.0),
        "train" => (train(&config, batch, steps, Uniform, |_| {}), 3.0),
        _ => (train(&config, batch, steps, MixFlow::new(0.8), |_| {}), 3.0),
    };
    measured(case, times, batch, passes * forward)
}

fn measured(case: &str, times: Vec<f64>, batch: usize, operations: f64) -> Measured {
    let mut times = times[1..].to_vec();
    times.sort_by(f64::total_cmp);
    Measured { case: case.into(), seconds: times[times.len() / 2], batch, peak_bytes: status("VmHWM"), operations }
}

/// Features of images that are resized already.
fn inception(steps: usize) -> Measured {
    let (device, batch) = (Device::default(), 8);
    let network = Inception::new(&device);
    let x = Tensor::random([batch, 3, 299, 299], Distribution::Default, &device);
    let step = |_| {
        let start = Instant::now();
        let _ = network.forward(x.clone()).pool().into_data();
        start.elapsed().as_secs_f64()
    };
    let times = (0..steps).map(step).collect();
    measured("inception", times, batch, 2.0 * Inception::MULTIPLY_ADDS * batch as f64)
}

fn train(
    config: &SitConfig,
    batch: usize,
    steps: usize,
    law: impl TimestepSampler,
    mut after: impl FnMut(usize),
) -> Vec<f64> {
    let device = Device::default().autodiff();
    let objective = FlowMatching::new(Linear).timesteps(law);
    let optimizer = OptimizerConfig::default();
    let shape = [batch, config.channels, config.input_size, config.input_size];
    let images = mixflow::noise(0, Stream::Sample, 0, shape, &device);
    let mut state = Some(TrainState::new(config.init(0, &Device::default())));
    let step = |step: usize| {
        let condition = ClassLabels::new(&vec![1; batch], config.classes, &device);
        let examples = Batch::new(images.clone(), condition, (step * batch) as u64);
        let start = Instant::now();
        let (next, _) = state.take().expect("put back below").step(&objective, [examples], 0, &optimizer);
        state = Some(next);
        let seconds = start.elapsed().as_secs_f64();
        after(step);
        seconds
    };
    (0..steps).map(step).collect()
}

fn sample(config: &SitConfig, batch: usize, steps: usize) -> Vec<f64> {
    let device = Device::default();
    let network = config.init(0, &device);
    let shape = [batch, config.channels, config.input_size, config.input_size];
    let x = mixflow::noise(0, Stream::Sample, 0, shape, &device);
    let step = |_| {
        let condition = ClassLabels::new(&vec![1; batch], config.classes, &device);
        let start = Instant::now();
        let y = network.forward(x.clone(), Tensor::full([batch], 0.5, &device), condition);
        let _ = y.into_data();
        start.elapsed().as_secs_f64()
    };
    (0..steps).map(step).collect()
}

/// Operations a second of the largest matrix products, the best of several.
pub(crate) fn matmul_rate() -> f64 {
    let size = 1024;
    let device = Device::default();
    let random = || Tensor::<2>::random([size, size], Distribution::Default, &device);
    let (a, b) = (random(), random());
    let rate = |_| {
        let start = Instant::now();
        let _ = a.clone().matmul(b.clone()).into_data();
        2.0 * (size as f64).powi(3) / start.elapsed().as_secs_f64()
    };
    (0..10).map(rate).fold(0.0, f64::max)
}

/// Memory after a tenth of the steps and at their end.
fn memory(steps: usize) -> Result<ExitCode> {
    let (config, batch) = configuration("tiny");
    let early = (steps / 10).max(1);
    let mut found = (0, 0);
    train(&config, batch, steps, MixFlow::new(0.8), |step| {
        if step + 1 == early {
            found.0 = status("VmRSS");
        }
        found.1 = status("VmRSS");
    });
    let growth = 100.0 * (found.1 as f64 / found.0 as f64 - 1.0);
    println!(
        "after {early} steps {:.1} MB, after {steps} steps {:.1} MB: {growth:+.2} %",
        found.0 as f64 / 1e6,
        found.1 as f64 / 1e6
    );
    Ok(ExitCode::SUCCESS)
}

/// A line of the process's status in bytes; 0 where the system does not tell.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
}
