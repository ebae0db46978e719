//! The page that a run ends with: one self-contained `report.html`, and the data behind it.
//!
//! A [`Report`] is plain data. It is written as `results.json` and rendered at any later time, so the page never knows
//! more than the file. Rendering is total: missing parts are left out, numbers that are not finite are skipped, and
//! every text is escaped.

mod arm;
mod cell;
mod diagram;
mod difference;
mod figures;
mod html;
mod page;
mod panels;
mod per_seed;
mod picture;
mod plot;
mod standalone;
mod strip;
mod summary;
mod table;
mod ticks;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::train::{RUNTIME, WALL_TIME};

pub use arm::Arm;
pub use difference::{Difference, Verdict};
pub use page::slow_flow_page;
pub use panels::{Bias, Panel};
pub use per_seed::{PerSeed, Point};
pub use picture::Picture;
pub use strip::{Frame, Strip};
pub use summary::Summary;
pub(crate) use table::evaluations_text;
pub use table::{Metrics, OwnMetric, Row, Table};

/// Everything that a finished run has to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// The facts that, with the table, the opening paragraph is computed from.
    pub summary: Summary,
    /// The recipe that determines the run, as it was read.
    pub recipe: Value,
    /// What each arm is in this run, one sentence each; [`Arm::description`] where an arm is missing.
    pub arms: BTreeMap<Arm, String>,
    /// Training losses. The curve of [`Arm::Start`] is the pre-training.
    pub curves: Vec<Curve>,
    /// Real examples first, then one grid per arm, all from the same noise.
    pub grids: Vec<Grid>,
    /// What the networks made while they were trained, of the first seed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strips: Vec<Strip>,
    /// What these are images of, in turn, row after row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drawn: Vec<String>,
    /// Quality against the number of network evaluations.
    pub frechet_by_evaluations: FrechetByEvaluations,
    /// The Slow Flow figure, plain and calibrated (arXiv 2512.19311, figure 1).
    pub slow_flow: Vec<SlowFlowPanel>,
    /// All metrics of all arms.
    pub table: Table,
    /// How arms differ, seed by seed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// Warnings and remarks.
    pub notes: Vec<String>,
    /// Where and how long the run ran.
    pub environment: Environment,
}

impl Report {
    /// The arms in the order of the table; the usual ones, or the only one, where there is none.
    pub fn order(&self) -> Vec<Arm> {
        match &self.table.rows[..] {
            [] if self.is_alone() => self.curves.iter().map(|curve| curve.arm.clone()).take(1).collect(),
            [] => Arm::USUAL.into(),
            rows => rows.iter().map(|row| row.arm.clone()).collect(),
        }
    }

    /// Whether it is of one training, without a comparison.
    fn is_alone(&self) -> bool {
        self.summary.pretrain_steps > 0 && self.summary.posttrain_steps == 0
    }

    /// The opening paragraph: what was done and what came out, computed from the numbers.
    pub fn summary_text(&self) -> String {
        summary::text(self)
    }

    /// The whole page; valid HTML that is also well-formed XML after its first line.
    pub fn html(&self) -> String {
        page::render(self)
    }
}

/// Losses of one training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The network that this training produced.
    pub arm: Arm,
    /// Seed of the training.
    pub seed: u64,
    /// (step, loss); losses that are not finite are skipped.
    pub points: Vec<Point>,
    /// The same of what the loss is made of, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, Vec<Point>>,
}

impl Curve {
    /// Loss and its terms of every line of a `metrics.jsonl`; what cannot be read is left out.
    pub fn read(arm: Arm, seed: u64, log: &Path) -> Self {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let mut curve = Self { arm, seed, points: vec![], terms: BTreeMap::new() };
        for line in text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok()) {
            let Some(step) = line.get("step").and_then(Value::as_f64) else { continue };
            for (name, value) in line.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?))) {
                match name {
                    "step" | "gradient_norm" | "learning_rate" | RUNTIME | WALL_TIME => {}
                    "loss" => curve.points.push(Point(step, value)),
                    term => curve.terms.entry(term.into()).or_default().push(Point(step, value)),
                }
            }
        }
        curve
    }
}

/// Images tiled into one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The network that made them; `None` for real examples.
    pub arm: Option<Arm>,
    /// What the picture shows; read out instead of the picture.
    pub caption: String,
    /// The tiles.
    pub picture: Picture,
}

/// Fréchet distance against the number of network evaluations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrechetByEvaluations {
    /// Solver, in words.
    pub sampler: String,
    /// Generated images per point.
    pub samples: usize,
    /// Real images against other real images.
    pub floor: PerSeed,
    /// One entry for each arm and number of evaluations, in any order.
    pub points: Vec<FrechetPoint>,
}

/// One point of [`FrechetByEvaluations`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrechetPoint {
    /// The network.
    pub arm: Arm,
    /// Steps of the solver; 0 in results that do not say.
    #[serde(default)]
    pub steps: u64,
    /// Network evaluations per image.
    pub evaluations: u64,
    /// Fréchet distance, one value per seed.
    pub frechet: PerSeed,
    /// Recall, one value per seed; none in results of before.
    #[serde(default)]
    pub recall: PerSeed,
}

/// Which ground-truth time the generated states resemble: one panel of the Slow Flow figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlowFlowPanel {
    /// Heading of the panel, such as `nearest time` or `calibrated`.
    pub title: String,
    /// How the panel was measured.
    pub caption: String,
    /// One band per arm.
    pub bands: Vec<SlowFlowBand>,
}

/// One arm of a [`SlowFlowPanel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowFlowBand {
    /// The network.
    pub arm: Arm,
    /// Quantiles of the nearest time, by sampling time.
    pub times: Vec<SlowFlowTime>,
}

/// Quantiles of the nearest ground-truth time `m` at sampling time `t`; paper time, 0 is noise and 1 is data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowFlowTime {
    /// Sampling time.
    pub t: f64,
    /// 5 % quantile of `m`.
    pub low: f64,
    /// Median of `m`.
    pub median: f64,
    /// 95 % quantile of `m`.
    pub high: f64,
}

/// Where a run ran, and how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// Version of this crate.
    pub version: String,
    /// Burn's backend and device.
    pub backend: String,
    /// Operating system and processor.
    pub machine: String,
    /// Worker threads.
    pub threads: usize,
    /// Wall times, in order.
    pub phases: Vec<Phase>,
}

impl Environment {
    /// Of this process computing on a device, without phases.
    pub fn here(device: &Device) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            backend: crate::device::describe(device),
            machine: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            threads: rayon::current_num_threads(),
            phases: vec![],
        }
    }
}

/// A part of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// Wall time in seconds.
    pub seconds: f64,
}

#[cfg(test)]
mod tests;
