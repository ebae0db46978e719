//! What a recipe will cost, before anything is allocated.

mod decoder;
mod disk;
mod fit;
mod frozen;
mod machine;
mod show;
mod state;

pub use decoder::DecoderPlan;
pub use fit::Fit;
pub use machine::Machine;
pub use show::duration;

use mixflow_backbones::{Invalid, NetworkConfig, Precision};
use serde::Serialize;

use self::disk::{CHECKPOINT, Disk};
use self::frozen::{Frozen, autoencoder, target_encoder};
use self::state::State;
use crate::Error;
use crate::autoencoder_training::RaeTraining;
use crate::data::DataConfig;
use crate::numbers::counted;
use crate::recipe::{AutoencoderConfig, NetworkCost, NetworkSettings, PostTraining, Recipe, TargetEncoderConfig};
use crate::spread::SMALL;

/// Size, work, memory and time of a recipe; prints as a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Network, in words.
    pub network: String,
    /// Parameters, frozen tables included.
    pub parameters: u64,
    /// Multiplications with addition of one image's forward pass.
    pub multiply_adds: u64,
    /// Devices that share each batch of a training, and what else they can.
    pub devices: usize,
    /// Bytes in training on each device, by part.
    pub memory: Vec<(&'static str, u64)>,
    /// The same of what the first device has beside it.
    pub first: Vec<(&'static str, u64)>,
    /// Bytes in the memory of the CPU beside that of the devices, of what they do not remember themselves.
    pub offloaded: u64,
    /// How much fits the machine's memory: in either precision, of blocks that keep what they compute and of those that are
    /// run again.
    pub fits: Vec<Fit>,
    /// Bytes beside weights, moments and average while a checkpoint is written, when there are no gradients and activations;
    /// in the memory of the CPU.
    pub checkpoint: u64,
    /// Bytes of the checkpoints, weights and latents on disk, when they are most: a checkpoint is written before the oldest goes.
    pub disk: u64,
    /// What the run does, in order.
    pub parts: Vec<Work>,
    /// What takes time and is not in [`parts`](Self::parts), and why.
    pub not_counted: Vec<String>,
    /// The weaker network that samples are guided by, in words, and its parameters.
    pub guide: Option<(String, u64)>,
    /// Network evaluations of one sample, guidance included; none where the solver chooses its own steps.
    pub evaluations: Option<usize>,
    /// Multiplications with addition of one sample, decoded where there is an autoencoder.
    pub sampling_multiply_adds: Option<u64>,
    /// What sampling multiplies in.
    pub sampling_precision: Precision,
    /// The machine that times are for.
    pub machine: Machine,
}

fn measuring(sets: u128, images: u128) -> String {
    format!("measuring {} of {}, in 64 bits on the CPU", counted(sets, "set"), counted(images, "image"))
}

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Work {
    /// What is done.
    pub name: String,
    /// Images that are learned, encoded or made, each as often as it is.
    pub images: u128,
    /// Additions and multiplications of matrix products alone.
    pub operations: f64,
    /// What the network multiplies in; with it, its autoencoder counts so, too.
    pub precision: Precision,
    /// Whether several devices share it; else the first does it alone.
    pub shared: bool,
}

impl Work {
    /// `multiply_adds` for each of so many images.
    fn new(name: impl Into<String>, images: u128, multiply_adds: u64) -> Self {
        let operations = 2.0 * images as f64 * multiply_adds as f64;
        Self { name: name.into(), images, operations, precision: Precision::F32, shared: false }
    }

    fn within(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    fn shared(self) -> Self {
        Self { shared: true, ..self }
    }
}

/// Bytes of a number: everything is trained in `f32`.
const BYTES: u64 = 4;

/// Bytes of a product of numbers; what no machine has ends at the largest number.
fn bytes(factors: &[u64]) -> u64 {
    factors.iter().fold(BYTES, |product, &factor| product.saturating_mul(factor))
}

fn sum(memory: &[(&str, u64)]) -> u64 {
    memory.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
}

impl Plan {
    /// Works a recipe out on one device.
    ///
    /// # Errors
    /// If it is not known what the network takes.
    pub fn new<N: NetworkSettings>(recipe: &Recipe<N>, machine: Machine) -> Result<Self, Error> {
        Self::on(recipe, machine, 1)
    }

    /// Works a recipe out on so many equal devices. The network's weights are neither drawn nor allocated; the data are opened
    /// for their number of images, where they are encoded first.
    ///
    /// # Errors
    /// If it is not known what the network takes, the devices cannot share its batches equally, an adapter is for layers that
    /// the network lacks, or MixFlow cannot slow the times of a comparison.
    pub fn on<N: NetworkSettings>(recipe: &Recipe<N>, machine: Machine, devices: usize) -> Result<Self, Error> {
        let check = recipe.training.check_devices(devices);
        check.map_err(|invalid| Error::unfit(&recipe.name, invalid))?;
        let network = &recipe.network;
        let unknown = || Error::unfit(&recipe.name, format!("it is not known what a {} takes", network.name()));
        let cost = network.cost().ok_or_else(unknown)?;
        let NetworkCost { parameters, multiply_adds, activations, .. } = cost;
        // A step keeps those of every evaluation.
        let evaluations = evaluations(recipe).map_err(|invalid| Error::recipe(&recipe.name, invalid))?;
        let most = evaluations.iter().copied().max().unwrap_or(1);
        let adapter = recipe.adapter_parameters(false)?;
        let trained = adapter.unwrap_or(parameters);
        let (training, sampling) = (&recipe.training, &recipe.sampling);
        let kept = |precision, recompute| most.saturating_mul(activations.bytes(precision, recompute));
        // Where the backward pass begins those of the weights are not there yet, but for sums of earlier parts of a batch.
        let freed = |gradients: u64, parts: usize| if parts > 1 { 0 } else { gradients };
        let autoencoder = recipe.autoencoder.as_ref().map(|config| autoencoder(config, network.shape()));
        let target = recipe.target_encoder.as_ref().map(target_encoder);
        let guide = sampling.active_guide().map(|guide| &guide.network);
        let made = SampleCost {
            network: multiply_adds,
            weak: guide.map_or(multiply_adds, NetworkConfig::multiply_adds),
            decode: autoencoder.as_ref().map_or(0, |autoencoder| autoencoder.decode),
        };
        let images = recipe.encoding().and_then(|_| recipe.data.open().ok()?.len());

        let part = (training.batch / (training.accumulation * devices)) as u64;
        let arms = recipe.post_training.as_ref().map_or(0, PostTraining::networks);
        let mut not_counted: Vec<String> = cost.beside.iter().cloned().collect();
        if machine.is_cpu && [training.precision, sampling.precision].iter().any(|it| !it.is_full()) {
            not_counted.push("rounding to 16 bits, which takes the CPU longer than 32".into());
        }
        if machine.is_cpu && arms > 1 && devices == 1 && parameters <= SMALL as u64 {
            not_counted.push("memory of post-trainings that go on side by side, within half of the machine's".into());
        }
        if training.offload && !machine.is_cpu {
            not_counted.push("what the CPU updates, and gradients and weights on their way there and back".into());
        }
        // Of a training, and of an arm: what is an adapter has whole weights beside its checkpoints.
        let disk_of = |steps: u64, adapter: Option<u64>| {
            Disk::of(steps, training.checkpoint_every, adapter.unwrap_or(parameters), adapter.map(|_| parameters))
        };
        let arm = disk_of(recipe.post_training.as_ref().map_or(0, |post| post.steps), recipe.adapter_parameters(true)?);
        let trainings = disk_of(training.steps, adapter).most(arm, arms);
        let mut disk: u64 = 0;
        let state = |precision| State::of(recipe, (parameters, adapter), precision, (&machine, devices));
        let kept_now = state(training.precision);
        let begun = part.saturating_mul(activations.gradient_bytes(training.precision));
        let begun = begun.saturating_sub(freed(kept_now.gradients, training.accumulation));
        let mut memory = vec![
            ("weights", kept_now.weights),
            ("gradients", kept_now.gradients),
            ("moments of AdamW", kept_now.moments),
            ("moving average", kept_now.average),
            ("activations", part.saturating_mul(kept(training.precision, training.recompute)).saturating_add(begun)),
        ];
        for (name, bytes) in [("rounded weights", kept_now.rounded), ("weights in 32 bits", kept_now.masters)] {
            if bytes > 0 {
                memory.push((name, bytes));
            }
        }
        let mut first = vec![];
        if let Some(adapter) = adapter {
            memory.push(("adapter", bytes(&[adapter])));
        }
        if arms > 0 {
            first.push(("networks of the arms", bytes(&[arms, parameters])));
        }
        if let Some(autoencoder) = autoencoder.as_ref().filter(|_| recipe.encoding().is_some()) {
            let [channels, height, width] = network.shape().map(|side| side as u64);
            let latents = [channels + u64::from(recipe.data.mask().is_some()), height, width];
            first.push(("autoencoder", bytes(&[autoencoder.parameters])));
            match images {
                // Those of several sizes stay in memory.
                Some(_) if recipe.data.buckets().is_some() => {}
                Some(images) => disk = disk.saturating_add(bytes(&[&latents[..], &[images]].concat())),
                None => not_counted.push("latents of the images, whose number is not known, on disk".into()),
            }
        }
        let drawn = recipe.validation.is_some();
        if let (true, None, Some(decoder)) = (drawn, recipe.encoding(), &autoencoder) {
            first.push(("decoder", bytes(&[decoder.parameters])));
        }
        if let (true, Some(guide)) = (drawn || arms > 0, guide) {
            first.push(("guide", bytes(&[guide.parameters()])));
        }
        if let Some(target) = &target {
            first.push(("target encoder", bytes(&[target.parameters])));
        }
        let ways = [Precision::F32, Precision::Bf16].map(|precision| [(precision, false), (precision, true)]);
        let fits = ways.into_iter().flatten().filter_map(|way @ (precision, recompute)| {
            let beside = adapter.map_or(0, |adapter| bytes(&[adapter]));
            let state = state(precision);
            let needed = state.on_device().saturating_add(sum(&first)).saturating_add(beside);
            let left = machine.memory?.saturating_sub(needed);
            let image = kept(precision, recompute);
            let begun = image.saturating_add(activations.gradient_bytes(precision));
            let images = |parts| {
                let most = left.saturating_add(freed(state.gradients, parts)) / begun.max(1);
                most.min(left / image.max(1))
            };
            Some(Fit::new(way, [training.batch, devices], images))
        });
        let fits = fits.collect();
        let mut plan = Self {
            network: network.name().into(),
            parameters,
            multiply_adds,
            devices,
            memory,
            first,
            offloaded: kept_now.offloaded,
            fits,
            // All of it as it is, and two of the copies once more as the bytes of a file.
            checkpoint: bytes(&[CHECKPOINT + 2, trained]),
            disk,
            parts: vec![],
            not_counted,
            guide: guide.map(|guide| (guide.name().into(), guide.parameters())),
            evaluations: sampling.evaluations(),
            sampling_multiply_adds: sampling.evaluations_of_each().map(|evaluations| made.of(evaluations)),
            sampling_precision: sampling.precision,
            machine,
        };
        plan.preparation(recipe, autoencoder.as_ref(), target.as_ref(), images);
        plan.disk = plan.disk.saturating_add(trainings);
        plan.trainings(recipe, &evaluations, cost.training_multiply_adds, target.as_ref());
        plan.validation(recipe, &made);
        if let Some(post) = &recipe.post_training {
            plan.comparison(recipe, post, &made);
        }
        Ok(plan)
    }

    /// What is trained and encoded before the network.
    fn preparation<N: NetworkSettings>(
        &mut self,
        recipe: &Recipe<N>,
        autoencoder: Option<&Frozen>,
        target: Option<&Frozen>,
        images: Option<u64>,
    ) {
        let mut train = |name: &str, training: &RaeTraining, frozen: &Frozen| {
            let images = u128::from(training.steps) * training.batch as u128;
            self.parts.push(Work::new(name, images, 3 * (frozen.encode + frozen.decode)));
            let disk = Disk::of(training.steps, training.checkpoint_every, frozen.parameters, None);
            self.disk = self.disk.saturating_add(disk.left).max(disk.writing);
            for (there, loss) in
                [(training.perceptual.is_some(), "perceptual"), (training.adversarial.is_some(), "adversarial")]
            {
                if there {
                    self.not_counted.push(format!("the networks of the {loss} loss of the autoencoder"));
                }
            }
        };
        if let (Some(AutoencoderConfig::TrainedRae(rae)), Some(frozen), Some(_)) =
            (&recipe.autoencoder, autoencoder, recipe.encoding())
        {
            train("training autoencoder", &rae.training, frozen);
        }
        if let (Some(TargetEncoderConfig::Trained(rae)), Some(frozen)) = (&recipe.target_encoder, target) {
            train("training target encoder", &rae.training, frozen);
        }
        if let Some(frozen) = autoencoder.filter(|_| recipe.encoding().is_some()) {
            match images {
                Some(images) => self.parts.push(Work::new("encoding", u128::from(images), frozen.encode)),
                None => self.not_counted.push("encoding the images, whose number is not known".into()),
            }
        }
    }

    fn trainings<N: NetworkSettings>(
        &mut self,
        recipe: &Recipe<N>,
        evaluations: &[u64],
        multiply_adds: u64,
        target: Option<&Frozen>,
    ) {
        let [pre_training, arms @ ..] = evaluations else { return };
        // The backward pass takes two products for each of the forward pass, of frozen weights one. The forward pass can run
        // twice. A target encoder has no backward pass.
        let encode = target.map_or(0, |target| target.encode);
        let recomputed = u64::from(recipe.training.recompute);
        let products = |frozen: bool| recomputed + if frozen { 2 } else { 3 };
        let step = |evaluations: u64, frozen| evaluations * products(frozen) * multiply_adds + encode;
        let (alone, adapted) = (recipe.post_training.is_none(), recipe.adapter.is_some());
        let images = |steps: u64| u128::from(steps) * recipe.training.batch as u128;
        let name = if recipe.post_training.is_some() { "pre-training" } else { "training" };
        let precision = recipe.training.precision;
        let work = Work::new(name, images(recipe.training.steps), step(*pre_training, alone && adapted));
        self.parts.push(work.within(precision).shared());
        if let Some(post) = &recipe.post_training {
            let trainings = u128::from(post.networks());
            let each = images(post.steps) * u128::from(post.seeds);
            let operations =
                arms.iter().map(|&evaluations| Work::new("", each, step(evaluations, adapted)).operations).sum();
            let name = format!("{trainings} post-trainings");
            self.parts.push(Work { name, images: trainings * images(post.steps), operations, precision, shared: true });
        }
    }

    /// What is drawn during the trainings, by the first device.
    fn validation<N: NetworkSettings>(&mut self, recipe: &Recipe<N>, made: &SampleCost) {
        let Some(validation) = &recipe.validation else { return };
        let draws = |steps: u64| u128::from(steps.div_ceil(validation.every));
        let arms = recipe.post_training.as_ref().map_or(0, |post| u128::from(post.networks()) * draws(post.steps));
        let images = (draws(recipe.training.steps) + arms) * validation.count() as u128;
        let sampling = validation.sampling(&recipe.sampling).ok();
        match sampling.and_then(|sampling| sampling.evaluations_of_each()) {
            Some(evaluations) => {
                let work = Work::new("validation images", images, made.of(evaluations));
                self.parts.push(work.within(recipe.sampling.precision));
            }
            None => self.not_counted.push("validation images, whose solver chooses its own steps".into()),
        }
        if validation.skip_layers.is_some() {
            self.not_counted.push("evaluations of validation images without some blocks".into());
        }
    }

    fn comparison<N: NetworkSettings>(&mut self, recipe: &Recipe<N>, post: &PostTraining, made: &SampleCost) {
        let (sampling, set) = (&recipe.sampling, post.images as u128);
        // What is searched is searched again for every number of steps.
        let arms = post.sets().iter().map(|sets| u128::from(*sets)).sum::<u128>();
        let others = post.other_samplings(sampling).unwrap_or_default();
        let followed = if post.slow_flow { (1 + post.arms.len() as u128) * set.min(250) } else { 0 };
        let Some(evaluations) = sampling.evaluations_of_each() else {
            let slow_flow = if followed > 0 { " and Slow Flow" } else { "" };
            self.not_counted.push(format!("sampling{slow_flow}, whose solver chooses its own steps"));
            let count = arms * (1 + others.len() as u128);
            self.not_counted.push(measuring(count, set));
            return;
        };
        let mut sets = vec![(arms, evaluations)];
        if matches!(recipe.data, DataConfig::Scenes { .. }) {
            // Of captions that were held out.
            let [trained, _, sampled] = post.sets();
            sets[0].0 += u128::from(trained + sampled);
        }
        sets.extend(others.iter().filter_map(|other| Some((arms, other.evaluations_of_each()?))));
        let count: u128 = sets.iter().map(|(sets, _)| sets).sum();
        let operations =
            sets.iter().map(|&(sets, evaluations)| Work::new("", sets * set, made.of(evaluations)).operations);
        let name = format!("sampling {count} sets");
        let precision = sampling.precision;
        self.parts.push(Work { name, images: count * set, operations: operations.sum(), precision, shared: true });
        if followed > 0 {
            let followed = Work::new("Slow Flow", followed, SampleCost { decode: 0, ..*made }.of(evaluations));
            self.parts.push(followed.within(precision).shared());
        }
        self.not_counted.push(measuring(count, set));
    }

    /// Bytes of all parts together, on the first device.
    #[must_use]
    pub fn total_memory(&self) -> u64 {
        sum(&self.memory).saturating_add(sum(&self.first))
    }

    /// Seconds of a part on the machine; what devices tell each other is not counted.
    #[must_use]
    pub fn seconds(&self, part: &Work) -> f64 {
        let devices = if part.shared { self.devices } else { 1 };
        part.operations / self.machine.speed_in(part.precision) / devices as f64
    }

    /// Seconds of all parts together.
    #[must_use]
    pub fn total_seconds(&self) -> f64 {
        self.parts.iter().map(|part| self.seconds(part)).sum()
    }
}

/// Evaluations of the network in a step of the pre-training, then of each arm that is trained.
fn evaluations<N: NetworkSettings>(recipe: &Recipe<N>) -> Result<Vec<u64>, Invalid> {
    let mut evaluations = vec![recipe.objective.evaluations()];
    if let Some(post) = &recipe.post_training {
        evaluations.extend(post.trainings(&recipe.objective)?.iter().map(|(_, objective)| objective.evaluations()));
    }
    Ok(evaluations)
}

/// What making one image takes.
#[derive(Clone, Copy)]
struct SampleCost {
    network: u64,
    /// Of what the network is guided away from: the guide, or the network itself.
    weak: u64,
    decode: u64,
}

impl SampleCost {
    /// With so many evaluations of either.
    fn of(&self, [network, weak]: [usize; 2]) -> u64 {
        let [network, weak] =
            [(self.network, network), (self.weak, weak)].map(|(once, count)| once.saturating_mul(count as u64));
        network.saturating_add(weak).saturating_add(self.decode)
    }
}

#[cfg(test)]
mod tests;
