//! `cargo xtask bench`: speed and memory of training and sampling.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device, Distribution, Tensor};
use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use mixflow::backbones::Precision;

use crate::arguments::DeviceArgument;
use crate::bench_case::{CASES, Measured, growth, measure};
use crate::bench_suite::{self, Setting};
use crate::read_latents;
use crate::terminal::{Result, print};

/// What only cases are measured with.
const OF_CASES: [&str; 6] = ["suite", "case", "batch", "precision", "minutes", "steps"];

#[derive(Args)]
pub(crate) struct Bench {
    /// The networks: small ones for a CPU, or published ones for a GPU, in 16 bits
    #[arg(long, value_enum, default_value_t = Suite::Cpu)]
    suite: Suite,
    /// Run one case in this process and print it as JSON
    #[arg(long, value_parser = known_case)]
    case: Option<String>,
    /// Of the suite for GPUs: images of a batch [default: what fits 80 GB in training]
    #[arg(long, value_name = "N", value_parser = steps())]
    batch: Option<usize>,
    /// Of the suite for GPUs: what products are multiplied in
    #[arg(long, default_value = "bf16", value_parser = PossibleValuesParser::new(["f32", "bf16"]).map(precision))]
    precision: Precision,
    /// Of the suite for GPUs: begin no case after so many minutes
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Steps of a case; the first is not counted, of the suite for GPUs the first quarter
    #[arg(long, value_parser = steps())]
    steps: Option<usize>,
    /// Train the tiny network for this many steps and print how much its memory grows
    #[arg(long, value_name = "STEPS", value_parser = steps(), conflicts_with_all = OF_CASES)]
    memory: Option<usize>,
    /// Print how many stored latents a second the loader gives to training
    #[arg(long, conflicts_with_all = OF_CASES, conflicts_with_all = ["memory", "device"])]
    latents: bool,
    #[command(flatten)]
    device: DeviceArgument,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    Cpu,
    Gpu,
}

/// One of either suite.
fn known_case(name: &str) -> std::result::Result<String, String> {
    let known: Vec<String> = CASES.map(String::from).into_iter().chain(bench_suite::cases()).collect();
    match known.iter().any(|case| case == name) {
        true => Ok(name.into()),
        false => Err(format!("expected one of {}", known.join(", "))),
    }
}

fn precision(name: String) -> Precision {
    if name == "f32" { Precision::F32 } else { Precision::Bf16 }
}

/// The time of every step is kept.
fn steps() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1_000_000)
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(steps) = self.memory {
            let [early, late] = growth(steps, &self.device.find()?).map(|bytes| bytes as f64);
            let (tenth, growth) = ((steps / 10).max(1), 100.0 * (late / early - 1.0));
            let [early, late] = [early / 1e6, late / 1e6];
            print(format_args!("after {tenth} steps {early:.1} MB, after {steps} steps {late:.1} MB: {growth:+.2} %"))?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.latents {
            return read_latents::measure();
        }
        let steps = self.steps.unwrap_or(if self.suite == Suite::Gpu { 20 } else { 10 }).max(2);
        let setting = Setting { precision: self.precision, batch: self.batch, steps };
        if let Some(case) = self.case {
            let device = &self.device.find()?;
            let measured = match CASES.contains(&&*case) {
                true => measure(&case, steps, device),
                false => bench_suite::measure(&case, setting, device)?,
            };
            print(serde_json::to_string(&measured)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.suite == Suite::Gpu {
            bench_suite::run(setting, &self.device.find()?, self.device.device.as_deref(), self.minutes)?;
            return Ok(ExitCode::SUCCESS);
        }
        let device = self.device.find()?;
        let (rate, side) = (matmul_rate(&device, Precision::F32), products(&device).0);
        let threads = rayon::current_num_threads();
        print(format_args!("matrix products of {side} x {side}: {:.1} GFLOP/s on {threads} threads\n", rate / 1e9))?;
        print("case                 steps/s  images/s  peak MB  GFLOP/s  of matmul")?;
        for case in CASES {
            let steps = self.steps.unwrap_or(if case.starts_with("tiny") { 40 } else { 6 });
            // A process of its own, so that the peak is the case's.
            let arguments = ["bench", "--case", case, "--steps", &steps.to_string()];
            let device = self.device.device.iter().flat_map(|name| ["--device", name]);
            let output = Command::new(std::env::current_exe()?).args(arguments).args(device).output()?;
            let m: Measured = serde_json::from_slice(&output.stdout)
                .map_err(|_| format!("case {case} failed: {}", String::from_utf8_lossy(&output.stderr)))?;
            let speed = m.operations / m.seconds;
            let (images, peak) = (m.batch as f64 / m.seconds, m.peak_bytes as f64 / 1e6);
            print(format_args!(
                "{case:<20} {:>7.2} {images:>9.1} {peak:>8.0} {:>8.1} {:>9.0} %",
                1.0 / m.seconds,
                speed / 1e9,
                100.0 * speed / rate
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Side and number of the matrix products of [`matmul_rate`]. A GPU has done a small one before it is told of the next, and
/// reads of results are slow there.
pub(crate) fn products(device: &Device) -> (usize, usize) {
    if *device == Device::flex() { (1024, 1) } else { (4096, 8) }
}

/// Operations a second of matrix products in this precision, the best of several tries.
pub(crate) fn matmul_rate(device: &Device, precision: Precision) -> f64 {
    let (side, products) = products(device);
    let dtype = if precision.is_full() { DType::F32 } else { DType::BF16 };
    let random = || Tensor::<2>::random([side, side], Distribution::Default, device).cast(dtype);
    let (a, b) = (random(), random());
    let rate = || {
        let start = Instant::now();
        let corners = (0..products).map(|_| a.clone().matmul(b.clone()).slice([0..1, 0..1])).collect();
        let _ = Tensor::cat(corners, 0).into_data();
        2.0 * (side as f64).powi(3) * products as f64 / start.elapsed().as_secs_f64()
    };
    let (begun, mut best) = (Instant::now(), 0.0f64);
    for _ in 0..10 {
        best = best.max(rate());
        // What is slow is not tried ten times.
        if begun.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    best
}
