//! One training of a generator in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::{Backbone, ClassLabels};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::step_loop::{StepLoop, Stepped};
use super::{OptimizerConfig, StepReport, TrainState};
use crate::data::{Dataset, Fingerprint, Loader, LoaderConfig};
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
pub enum Outcome<S> {
    /// All steps are done; the state that they led to.
    Finished(S),
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
    /// Stored with every checkpoint; a checkpoint of another recipe is refused, but for its number of steps and the place of
    /// its data.
    pub recipe: Value,
    /// How long and how fast.
    pub config: &'a TrainConfig,
    /// Seed of order, times, noise and dropped labels.
    pub seed: u64,
    /// What to learn; checkpoints of other data are refused.
    pub data: Arc<dyn Dataset>,
    /// Whether images are mirrored at random.
    pub flip: bool,
    /// Encoders that see every clean image, where the objective aligns with them and the data has no features stored.
    pub encoder: Option<&'a dyn TargetEncoder>,
    /// Set from elsewhere, it ends the run after the step in progress.
    pub stop: &'a AtomicBool,
}

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
    ) -> Result<Outcome<TrainState<B>>, Error> {
        let config = self.config;
        let steps = StepLoop {
            folder: &self.folder,
            recipe: &self.recipe,
            data: self.data.fingerprint()?,
            steps: config.steps,
            checkpoint_every: config.checkpoint_every,
            stop: self.stop,
        };
        let state = steps.resume(TrainState::new(network.train()), &mut tell)?;
        let device = Device::default().autodiff();
        let loading = LoaderConfig {
            seed: self.seed,
            batch: config.batch,
            step: state.step_number(),
            flip: self.flip,
            workers: config.workers,
        };
        let mut batches = Loader::new(self.data.clone(), loading)?;
        let step = |state: TrainState<B>| {
            let batch = batches.next().expect("batches have no end, and nothing is read after an error")?;
            let parts = self.parts(batch, &device);
            let (state, report) = state.step(objective, parts, self.seed, &config.optimizer);
            Ok(Stepped { state, report, terms: vec![] })
        };
        let outcome = steps.run(state, step, &mut tell)?;
        self.data.remarks().into_iter().for_each(|line| tell(Event::Warning(line)));
        Ok(outcome)
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
/// no step and, where `data.json` tells the data, where they lie.
pub fn check_same_run(file: &Path, recipe: &Value) -> Result<(), Error> {
    let fault = |reason: String| Error::Recipe { origin: file.display().to_string(), reason };
    let text = fs::read(file).map_err(Error::io("read", file))?;
    let old: Value = serde_json::from_slice(&text).map_err(|error| fault(format!("not JSON: {error}")))?;
    let recorded = file.parent().map(Fingerprint::read).transpose()?.flatten().is_some();
    let old = if recorded { relocated(&old, recipe) } else { old };
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

/// The recipe `old` with what may change of its data in `new`, where a fingerprint tells that they are the same: where they
/// lie, and what to do about images that cannot be decoded.
pub(super) fn relocated(old: &Value, new: &Value) -> Value {
    let mut old = old.clone();
    if let (Some(old), Some(new)) = (old["data"].as_object_mut(), new["data"].as_object()) {
        for key in ["path", "on_broken"] {
            if let (Some(old), Some(new)) = (old.get_mut(key), new.get(key)) {
                *old = new.clone();
            }
        }
    }
    old
}

/// The first key whose values differ, but for those that do not change a step.
pub(crate) fn difference(old: &Value, new: &Value) -> Option<String> {
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
