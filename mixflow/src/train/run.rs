//! The training loop, and what keeps it trustworthy.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::{Backbone, ClassLabels};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Checkpoints, MetricsLog, OptimizerConfig, StepReport, TrainState};
use crate::data::{Dataset, Loader, LoaderConfig};
use crate::objective::{Batch, Objective};
use crate::{Error, TargetEncoder};

/// How long and how fast to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Steps in all.
    pub steps: u64,
    /// Examples a step.
    pub batch: usize,
    /// Parts that a step's examples are computed in, to save memory; divides `batch`.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Steps between checkpoints.
    #[serde(default = "thousand")]
    pub checkpoint_every: u64,
    /// Threads that read images; without effect on the result.
    #[serde(default = "one")]
    pub workers: usize,
}

fn one() -> usize {
    1
}

fn thousand() -> u64 {
    1000
}

impl TrainConfig {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("steps", self.steps),
            ("batch", self.batch as u64),
            ("accumulation", self.accumulation as u64),
            ("checkpoint_every", self.checkpoint_every),
        ] {
            if value == 0 {
                return Err(format!("{name} must be at least 1, found 0"));
            }
        }
        if !self.batch.is_multiple_of(self.accumulation) {
            let (batch, parts) = (self.batch, self.accumulation);
            return Err(format!("batch must be divisible by accumulation, found {batch} and {parts}"));
        }
        self.optimizer.check().map_err(|fault| format!("optimizer.{fault}"))
    }
}

/// What a run tells while it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// It starts at this step, from a checkpoint or (0) from the start.
    Started {
        /// The next step.
        step: u64,
    },
    /// A step was taken.
    Stepped(&'a StepReport),
    /// A checkpoint was written.
    Saved(&'a Path),
    /// Something that the user should know and that did not stop the run.
    Warning(String),
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<B> {
    /// All steps are done.
    Finished(TrainState<B>),
    /// It was asked to stop; a checkpoint is written.
    Interrupted {
        /// The next step.
        step: u64,
    },
}

/// One training run in a folder: `metrics.jsonl` and `checkpoints/`.
#[derive(Debug)]
pub struct Run<'a> {
    /// Where it writes.
    pub folder: PathBuf,
    /// Stored with every checkpoint; a checkpoint of another recipe is refused, but for its number of steps.
    pub recipe: Value,
    /// How long and how fast.
    pub config: &'a TrainConfig,
    /// Seed of order, times, noise and dropped labels.
    pub seed: u64,
    /// What to learn.
    pub data: Arc<dyn Dataset>,
    /// Whether images are mirrored at random.
    pub flip: bool,
    /// Encoders that see every clean image, where the objective aligns with them and the data has no features stored.
    pub encoder: Option<&'a dyn TargetEncoder>,
    /// Set from elsewhere, it ends the run after the step in progress.
    pub stop: &'a AtomicBool,
}

/// Steps in a row that may be not finite before the run is set back and stopped.
const PATIENCE: u32 = 3;

impl Run<'_> {
    /// Trains `network` from where the folder's newest whole checkpoint stands.
    ///
    /// # Errors
    /// For what the file system, the data or a checkpoint of another recipe refuse, and if training diverges.
    pub fn train<B: Backbone<Condition = ClassLabels>>(
        &self,
        network: B,
        objective: &impl Objective<B>,
        mut tell: impl FnMut(Event),
    ) -> Result<Outcome<B>, Error> {
        fs::create_dir_all(&self.folder).map_err(Error::io("create", &self.folder))?;
        let checkpoints = Checkpoints::new(self.folder.join("checkpoints"), 2);
        let mut state = self.resume(&checkpoints, network.clone(), &mut tell)?;
        let device = Device::default().autodiff();
        let config = self.config;
        let mut log = MetricsLog::open(&self.folder.join("metrics.jsonl"), state.step_number())?;
        tell(Event::Started { step: state.step_number() });

        let loading = LoaderConfig {
            seed: self.seed,
            batch: config.batch,
            step: state.step_number(),
            flip: self.flip,
            workers: config.workers,
        };
        let mut batches = Loader::new(self.data.clone(), loading)?;
        let (mut failures, mut skipped) = (0, 0);
        while state.step_number() < config.steps {
            let Some(batch) = batches.next() else { break };
            let parts = self.parts(batch?, &device);
            let (next, report) = state.step(objective, parts, self.seed, &config.optimizer);
            state = next;
            log.step(&report)?;
            tell(Event::Stepped(&report));

            failures = if report.finite { 0 } else { failures + 1 };
            skipped += u64::from(!report.finite);
            if failures == PATIENCE {
                log.flush()?;
                let back = self.resume(&checkpoints, network, &mut tell)?.step_number();
                return Err(Error::Diverged { step: report.step, count: PATIENCE, back, skipped });
            }
            if !report.finite {
                let step = report.step;
                tell(Event::Warning(format!("loss or gradient of step {step} is not finite: skipped")));
            }
            let stop = self.stop.load(Ordering::Relaxed);
            let due = state.step_number().is_multiple_of(config.checkpoint_every);
            // While steps fail the last good checkpoint stays the newest.
            if failures == 0 && due || stop || state.step_number() == config.steps {
                log.flush()?;
                tell(Event::Saved(&checkpoints.save(&state.snapshot(), &self.recipe)?));
            }
            if stop && state.step_number() < config.steps {
                return Ok(Outcome::Interrupted { step: state.step_number() });
            }
        }
        for path in self.data.broken() {
            tell(Event::Warning(format!("the image {} is broken and was replaced by another", path.display())));
        }
        Ok(Outcome::Finished(state))
    }

    fn resume<B: Backbone>(
        &self,
        checkpoints: &Checkpoints,
        network: B,
        tell: &mut impl FnMut(Event),
    ) -> Result<TrainState<B>, Error> {
        let found = checkpoints.latest()?;
        for damage in found.damaged {
            tell(Event::Warning(format!("{damage}; using an older one")));
        }
        let Some(checkpoint) = found.checkpoint else {
            return Ok(TrainState::new(network.train()));
        };
        let mismatch = |reason| Error::Mismatch { path: checkpoint.path.clone(), reason };
        if let Some(key) = difference(&checkpoint.recipe, &self.recipe) {
            let reason =
                format!("it was written by a recipe with another `{key}`; choose another folder or the old recipe");
            return Err(mismatch(reason));
        }
        TrainState::restore(network, checkpoint.snapshot).map_err(mismatch)
    }

    fn parts(&self, batch: crate::data::Batch, device: &Device) -> impl Iterator<Item = Batch<ClassLabels>> + use<'_> {
        let [channels, height, width] = self.data.shape();
        let null = self.data.classes().len();
        let size = self.config.batch / self.config.accumulation;
        let tokens = self.data.features();
        let pixels = size * channels * height * width;
        let device = device.clone();
        (0..self.config.accumulation).map(move |part| {
            let values = batch.pixels[part * pixels..][..pixels].to_vec();
            let images = TensorData::new(values, [size, channels, height, width]);
            let condition = ClassLabels::new(&batch.labels[part * size..][..size], null, &device);
            let first = batch.first + (part * size) as u64;
            let stored = tokens.iter().zip(&batch.features).map(|(&[tokens, width], values)| {
                let count = size * tokens * width;
                let values = values[part * count..][..count].to_vec();
                Tensor::from_data(TensorData::new(values, [size, tokens, width]), &device)
            });
            let features = match self.encoder {
                Some(encoder) if tokens.is_empty() => {
                    let features = encoder.features(Tensor::from_data(images.clone(), &device.clone().inner()));
                    features.into_iter().map(Tensor::from_inner).collect()
                }
                _ => stored.collect(),
            };
            Batch::new(Tensor::from_data(images, &device), condition, first).with_features(features)
        })
    }
}

/// Refuses to continue a run of another recipe: `file` is the recipe of the run, `recipe` the one to go on with.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Recipe`] with the first key that differs, but for those that change
/// no step.
pub fn check_same_run(file: &Path, recipe: &Value) -> Result<(), Error> {
    let fault = |reason: String| Error::Recipe { origin: file.display().to_string(), reason };
    let text = fs::read(file).map_err(Error::io("read", file))?;
    let old: Value = serde_json::from_slice(&text).map_err(|error| fault(format!("not JSON: {error}")))?;
    // A comparison has its trainings in sub-folders, so that one cannot become the other.
    let key = difference(&old, recipe).or_else(|| {
        (old["post_training"].is_null() != recipe["post_training"].is_null()).then(|| "post_training".into())
    });
    match key {
        Some(key) => Err(fault(format!(
            "the run in this folder has another `{key}`: continue it with its own recipe and changes, or choose another --out"
        ))),
        None => Ok(()),
    }
}

/// The first key whose values differ, but for those that do not change a step.
fn difference(old: &Value, new: &Value) -> Option<String> {
    const FREE: [&str; 6] = ["steps", "accumulation", "checkpoint_every", "workers", "sampling", "post_training"];
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            keys.filter(|key| !FREE.contains(&key.as_str())).find_map(|key| {
                let missing = &Value::Null;
                let inner = difference(old.get(key).unwrap_or(missing), new.get(key).unwrap_or(missing))?;
                Some(if inner.is_empty() { key.clone() } else { format!("{key}.{inner}") })
            })
        }
        _ => (old != new).then(String::new),
    }
}
