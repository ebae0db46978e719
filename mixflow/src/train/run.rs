//! One training of a generator in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor};
use mixflow_backbones::json::explain;
use mixflow_backbones::{Backbone, Condition, Invalid, Precision};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::difference::{Difference, moved};
use super::replicas::{Replicas, StatePlacement};
use super::step_loop::{Event, Outcome, StepLoop, Stepped, Trainee, Unread};
use super::{OptimizerConfig, TrainState, Validation};
use crate::data::{Conditioner, Dataset, Loader, LoaderConfig};
use crate::objective::{Batch, InPrecision, Objective, TargetEncoder};
use crate::{Error, device};

/// How long, how fast and in which precision to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Steps in all, from 1 on.
    pub steps: u64,
    /// Examples a step, 1 to 65,536.
    pub batch: usize,
    /// Parts that a step's examples are computed in, to save memory; divides `batch`. Their gradients are added up, so that
    /// another number of parts gives the same but for rounding, which grows from step to step.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// Precision of matrix products; weights, sums of gradients and what the optimiser remembers are `f32` in any.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
    /// Whether the blocks of the network are run again in the backward pass instead of keeping what they compute: less memory,
    /// the time of one more forward pass, and the same result, bit for bit or but for the order that gradients are added in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Whether each of several devices keeps a part of the optimiser's moments and of the moving average, and updates the weights
    /// that belong to it, instead of each keeping and updating all (Rajbhandari et al. 2019, arXiv 1910.02054, stage 1).
    /// The same result, bit for bit on the CPU. With either of these keys, weights that are multiplied in 16 bits are stored so,
    /// and their gradients are; the result is the same where the loss runs the network once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shard: bool,
    /// Whether moments and average are in the memory of the CPU, which then updates the weights, instead of on the device
    /// (Ren et al. 2021, arXiv 2101.06840). Gradients and weights travel once each step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offload: bool,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Steps between checkpoints.
    #[serde(default = "thousand")]
    pub checkpoint_every: u64,
    /// Threads that read images, at most 256; 0 reads them on the training's own. Without effect on the result.
    #[serde(default = "one")]
    pub workers: usize,
}

pub(crate) fn one() -> usize {
    1
}

pub(crate) fn thousand() -> u64 {
    1000
}

impl TrainConfig {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        check_steps(self.steps, self.batch, ("accumulation", self.accumulation), self.checkpoint_every, self.workers)?;
        self.optimizer.check().map_err(|fault| fault.within("optimizer"))
    }

    /// Whether the weights in 32 bits are elsewhere than on each of so many devices, which then need them in `precision` alone.
    pub(crate) fn keeps_elsewhere(&self, devices: usize) -> bool {
        self.offload || self.shard && devices > 1
    }

    /// Whether each of so many devices has an equal share of a batch.
    pub fn check_devices(&self, devices: usize) -> Result<(), Invalid> {
        let Self { batch, accumulation, .. } = *self;
        match batch.is_multiple_of(accumulation * devices) {
            true => Ok(()),
            false => Err(Invalid::new(
                "training.batch",
                format!(
                    "must be divisible by training.accumulation times the number of devices, found {batch}, \
                     {accumulation} and {devices}"
                ),
            )),
        }
    }
}

/// What is wrong with steps, their batches in so many named parts, and what is done between them, if anything.
pub(crate) fn check_steps(
    steps: u64,
    batch: usize,
    (name, parts): (&str, usize),
    checkpoint_every: u64,
    workers: usize,
) -> Result<(), Invalid> {
    Invalid::unless_positive(&[
        ("steps", steps),
        ("batch", batch as u64),
        (name, parts as u64),
        ("checkpoint_every", checkpoint_every),
    ])?;
    check_positions(steps, batch, workers)?;
    match batch.is_multiple_of(parts) {
        true => Ok(()),
        false => Err(Invalid::new("batch", format!("must be divisible by {name}, found {batch} and {parts}"))),
    }
}

/// What keeps the examples of a training from being numbered, and read by a [`Loader`], if anything.
pub(crate) fn check_positions(steps: u64, batch: usize, workers: usize) -> Result<(), Invalid> {
    for (name, value, most) in [("batch", batch, Loader::LARGEST_BATCH), ("workers", workers, Loader::MOST_WORKERS)] {
        if value > most {
            return Err(Invalid::new(name, format!("must be at most {most}, found {value}")));
        }
    }
    // What is read ahead has numbers, too.
    if steps.checked_mul(batch as u64).is_none_or(|examples| examples > u64::MAX / 2) {
        let reason =
            format!("times batch must be at most 2^63, so that examples have numbers, found {steps} x {batch}");
        return Err(Invalid::new("steps", reason));
    }
    Ok(())
}

/// One training run in a folder: `metrics.jsonl` and `checkpoints/`. Two at a time would damage each other's: a
/// [`FolderLock`](crate::FolderLock) keeps the second one out. `C` is what the network is told of the data.
///
/// # Example
/// Any [`Dataset`], without a recipe; called again, it goes on from its newest checkpoint:
/// ```
/// use std::sync::{Arc, atomic::AtomicBool};
///
/// use mixflow::backbones::sit::{SitConfig, official_key};
/// use mixflow::backbones::weights::Weights;
/// use mixflow::data::{Channels, Classes, Digits};
/// use mixflow::schedules::{Linear, MixFlow};
/// use mixflow::train::{Outcome, Run, TrainConfig};
/// use mixflow::{Device, FlowMatching};
/// use serde_json::json;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let config: TrainConfig = serde_json::from_value(json!({"steps": 2, "batch": 4, "checkpoint_every": 1}))?;
/// let network = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 8, channels: 1, ..SitConfig::small(4) };
/// let run = Run {
///     folder: folder.into(),
///     recipe: json!({"network": network, "times": "MixFlow 0.8", "training": config}),
///     config: &config,
///     seed: 0,
///     data: Arc::new(Digits::new(8, Channels::One)?),
///     conditioner: Arc::new(Classes(network.classes)),
///     flip: false,
///     encoder: None,
///     beside: &[],
///     stop: &AtomicBool::new(false),
/// };
/// let objective = FlowMatching::new(Linear).timesteps(MixFlow::new(0.8));
/// let trained = run.train(network.init(0, &Device::default()), &objective, |_| {})?;
/// let Outcome::Finished(state) = trained else { return Err("nobody stops it".into()) };
/// Weights::of(&state.average(), official_key).write(folder.join("model.safetensors"), &[])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Run<'a, C> {
    /// Folder that the run writes to.
    pub folder: PathBuf,
    /// Stored with every checkpoint; one of a recipe whose steps are others is refused, unless [`change_optimizer`] allowed
    /// the difference. Data may lie elsewhere, and files of which the run has a record. Without a [`Recipe`](crate::Recipe) it is whatever says what a step does: network,
    /// objective, [`config`](Self::config) as `training`, whose keys that say nothing of it may then change.
    ///
    /// [`change_optimizer`]: super::change_optimizer
    pub recipe: Value,
    /// Steps, batch and optimiser.
    pub config: &'a TrainConfig,
    /// Seed of order, times, noise and dropped labels.
    pub seed: u64,
    /// What to learn; checkpoints of other data are refused.
    pub data: Arc<dyn Dataset>,
    /// What the network is told of their labels.
    pub conditioner: Arc<dyn Conditioner<C>>,
    /// Whether images are mirrored at random.
    pub flip: bool,
    /// Encoders that see every clean image, where the objective aligns with them and the data has no features stored.
    pub encoder: Option<&'a dyn TargetEncoder>,
    /// Devices beside that of the network: each computes an equal share of a batch, on a thread of its own, and takes the same
    /// step. A run can go on with another number of them; with them a step is the same but for the order that gradients are
    /// added in.
    pub beside: &'a [Device],
    /// Set from elsewhere, it ends the run after the step in progress.
    pub stop: &'a AtomicBool,
}

impl<C: Condition> Run<'_, C> {
    /// Trains `network`, on its device, from where the folder's newest whole checkpoint stands.
    ///
    /// # Errors
    /// For what the file system, the data or a checkpoint of another recipe refuse, if a device fails, and if training
    /// diverges.
    pub fn train<B: Backbone<Condition = C>>(
        &self,
        network: B,
        objective: &impl Objective<B>,
        progress: impl FnMut(Event),
    ) -> Result<Outcome<TrainState<B>>, Error> {
        self.train_validated(network, objective, None, progress)
    }

    /// As [`train`](Self::train), drawing now and then what the moving average of the weights makes, on the device of
    /// `network`. The pictures are in `validation/` of the folder; the weights are those of [`train`](Self::train), bit for
    /// bit.
    ///
    /// # Errors
    /// As [`train`](Self::train). Images that cannot be drawn are a warning.
    pub fn train_validated<B: Backbone<Condition = C>>(
        &self,
        mut network: B,
        objective: &impl Objective<B>,
        validation: Option<Validation<'_, B>>,
        mut progress: impl FnMut(Event),
    ) -> Result<Outcome<TrainState<B>>, Error> {
        let config = self.config;
        let device = device::of(&network).autodiff();
        let devices: Vec<_> =
            [&device].into_iter().chain(self.beside).map(|device| device.clone().autodiff()).collect();
        let steps = StepLoop {
            folder: &self.folder,
            recipe: &self.recipe,
            data: self.data.fingerprint()?,
            steps: config.steps,
            checkpoint_every: config.checkpoint_every,
            devices: &devices,
            stop: self.stop,
        };
        self.check_precision(&network, &devices)?;
        if (self.data.masked() || self.data.prior().is_some()) && !objective.weighs() {
            let reason = "the data have masks or prior images, and this objective counts all places and images alike: see \
                          Objective::weighs";
            return Err(self.fault(reason.into()));
        }
        if config.recompute {
            // Its place is taken: initial weights are not held beside those that are trained.
            network = network.recomputing().ok_or_else(|| {
                self.fault("this network cannot run its blocks again, found training.recompute=true".into())
            })?;
        }
        let objective = &InPrecision { objective, precision: config.precision };
        if config.recompute && devices.iter().any(|device| device::is_remote(&device.clone().inner())) {
            let words = "training.recompute: other machines keep what gradients need, nothing is computed again there";
            progress(Event::Warning(words.into()));
        }
        config.check_devices(devices.len()).map_err(|invalid| self.fault(invalid.to_string()))?;
        let keeping = StatePlacement {
            sharded: config.shard,
            on_host: config.offload,
            stored: if config.keeps_elsewhere(devices.len()) { config.precision } else { Precision::F32 },
        };
        let state = steps.resume(|| Replicas::new(network.train(), &devices[1..], keeping), &mut progress)?;
        let loading = LoaderConfig {
            seed: self.seed,
            batch: config.batch,
            step: state.step_number(),
            flip: self.flip,
            workers: config.workers,
        };
        let parts = config.accumulation * devices.len();
        let mut batches = Loader::in_parts(self.data.clone(), loading, parts, self.conditioner.clone())?;
        let step = |state: Replicas<B>| {
            let batches = match batches.next().expect("batches have no end, and nothing is read after an error") {
                Ok(batches) => batches,
                Err(error) => return Err(Box::new(Unread { state, error: error.into() })),
            };
            let (seed, optimizer) = (self.seed, &config.optimizer);
            let (state, report) = match (self.encoder.filter(|_| !batches.has_features()), &devices[..]) {
                (None, _) => state.step(objective, batches.among(&devices), seed, optimizer),
                (Some(encoder), [device]) => {
                    let batches = batches.on(device).map(|batch| with_features(batch, encoder, device));
                    state.step_alone(objective, batches, seed, optimizer)
                }
                // The encoder is on the first device, which works for all.
                (Some(encoder), [first, ..]) => {
                    let with = |share| Iterator::map(share, |batch| with_features(batch, encoder, first));
                    let shares =
                        batches.among(&devices).into_iter().map(|share| with(share).collect::<Vec<_>>().into_iter());
                    state.step(objective, shares.collect(), seed, optimizer)
                }
                (Some(_), []) => unreachable!("a network is on a device"),
            };
            Ok(Stepped { state, report })
        };
        let validation = validation.map(|Validation { every, draw }| Validation {
            every,
            draw: Box::new(move |state: &Replicas<B>| draw(&state.average())),
        });
        let outcome = match steps.run(state, step, validation.as_ref(), &mut progress)? {
            Outcome::Finished(state) => Outcome::Finished(state.into_whole()),
            Outcome::Interrupted { step } => Outcome::Interrupted { step },
        };
        self.data.remarks().into_iter().for_each(|line| progress(Event::Warning(line)));
        Ok(outcome)
    }

    /// Refuses a precision that the network or one of the devices does not know.
    fn check_precision(&self, network: &impl Backbone, devices: &[Device]) -> Result<(), Error> {
        let precision = self.config.precision;
        let unable = devices.iter().find(|device| !precision.is_supported(device)).map(device::describe);
        let reason = match (unable, network.in_precision(precision)) {
            (None, Some(_)) => return Ok(()),
            (None, None) => format!("this network computes in f32 alone, found training.precision={precision}"),
            (Some(device), _) => format!("{device} does not compute in {precision}: set training.precision=f32"),
        };
        Err(self.fault(reason))
    }

    fn fault(&self, reason: String) -> Error {
        Error::unfit(self.folder.display(), reason)
    }
}

/// A batch with what an encoder on `device` says of its images; the batch stays where it is.
fn with_features<C: Condition>(batch: Batch<C>, encoder: &dyn TargetEncoder, device: &Device) -> Batch<C> {
    let own = batch.images.device().inner();
    let features = encoder.features(batch.images.clone().inner().to_device(&device.clone().inner()));
    let features = features.into_iter().map(|features| Tensor::from_inner(features.to_device(&own)));
    batch.with_features(features.collect())
}

/// Refuses to continue a run of another recipe: `file` is the recipe of the run, `recipe` the one to go on with, `changed`
/// are keys that may differ.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::OtherRecipe`] with the first key that differs and its values, but for
/// those that do not say what a step does and, where records of the run tell data and frozen networks, where these lie.
pub fn check_same_run(file: &Path, recipe: &Value, changed: &[String]) -> Result<(), Error> {
    let text = fs::read(file).map_err(Error::io("read", file))?;
    let old: Value =
        serde_json::from_slice(&text).map_err(|error| Error::record(file, format!("not JSON: {}", explain(&error))))?;
    let fault = |key: &str, reason: String| Err(Error::OtherRecipe { file: file.into(), key: key.into(), reason });
    let old = file.parent().map_or(Ok(old.clone()), |run| moved(run, &old, recipe))?;
    if let Some(difference) = Difference::first(&old, recipe, changed) {
        let reason = format!(
            "the run in this folder has {difference}: continue it with its own recipe and changes{}, or choose another \
             --out",
            difference.hint()
        );
        return fault(&difference.key, reason);
    }
    // A comparison has its trainings in sub-folders, so that one cannot become the other.
    let key = "post_training";
    match (old[key].is_null(), recipe[key].is_null()) {
        (true, false) => fault(
            key,
            "the run in this folder is no comparison, and post_training asks for one: choose another --out".into(),
        ),
        (false, true) => fault(
            key,
            "the run in this folder is a comparison, and there is no post_training to continue: choose another --out"
                .into(),
        ),
        _ => Ok(()),
    }
}
