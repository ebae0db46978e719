//! One training of an autoencoder in a folder.

use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mixflow_backbones::discriminator::Heads;
use mixflow_backbones::encoder::{Encoder, EncoderConfig, Normalisation};
use mixflow_backbones::rae::{Decoder, DecoderConfig, Rae, add_noise};
use rand::Rng;
use serde_json::Value;

use super::{DiffAugment, Discriminator, Judges, LastLayer, Losses, RaeTraining, View, hinge, images, in_eight_bits};
use crate::data::{self, Dataset};
use crate::random::{self, Stream};
use crate::train::{Event, Outcome, Snapshot, StepLoop, StepReport, Stepped, TrainState, Trainee, Unread};
use crate::{Error, device};

/// A training of a decoder in a folder, `metrics.jsonl` and `checkpoints/`, that goes on where it was stopped.
#[derive(Debug)]
pub struct RaeRun<'a> {
    /// Where it writes.
    pub folder: PathBuf,
    /// Stored with every checkpoint; one of a recipe whose steps are others is refused.
    pub recipe: Value,
    /// What to do.
    pub training: &'a RaeTraining,
    /// The frozen networks of its losses: [`Judges::load`].
    pub judges: Judges,
    /// Images to learn from.
    pub data: Arc<dyn Dataset>,
    /// Set from elsewhere, it ends the run after the step in progress.
    pub stop: &'a AtomicBool,
}

impl RaeRun<'_> {
    /// An encoder and its decoder from random weights, trained together, and the moments of the latents over about one
    /// pass through the data, at most a hundred batches. None if it was asked to stop; a checkpoint is written.
    ///
    /// # Errors
    /// For what the file system, the data or a checkpoint of another recipe refuse, and if training diverges.
    pub fn from_scratch(
        &self,
        encoder: &EncoderConfig,
        decoder: &DecoderConfig,
        device: &Device,
        progress: impl FnMut(Event),
    ) -> Result<Option<Rae>, Error> {
        let pair = Pair { encoder: encoder.init(self.seed(0), device), decoder: decoder.init(self.seed(1), device) };
        let task = Task {
            encode: |pair: &Pair, images| pair.encoder.forward(images),
            decoder: |pair: &Pair| &pair.decoder,
            normalisation: encoder.normalisation,
        };
        let Some(Pair { encoder, decoder }) = self.train(pair, &task, progress)? else { return Ok(None) };
        let batches = self.data.len().map_or(100, |len| len.div_ceil(self.training.batch as u64).min(100));
        let statistics = self.training.statistics(&self.data, &encoder, batches)?;
        Ok(Some(Rae { encoder, decoder, statistics }))
    }

    /// Trains the decoder of a frozen encoder, on its own device, and returns the moving average of its weights. None if it
    /// was asked to stop; a checkpoint is written.
    ///
    /// # Errors
    /// As [`from_scratch`](Self::from_scratch).
    pub fn train_decoder(
        &self,
        encoder: &Encoder,
        decoder: Decoder,
        progress: impl FnMut(Event),
    ) -> Result<Option<Decoder>, Error> {
        let normalisation = encoder.preprocessing().normalisation;
        let encoder = encoder.valid();
        let task = Task {
            encode: |_: &Decoder, images: Tensor<4>| {
                if images.is_autodiff() {
                    Tensor::from_inner(encoder.forward(images.inner()))
                } else {
                    encoder.forward(images)
                }
            },
            decoder: |decoder: &Decoder| decoder,
            normalisation,
        };
        self.train(decoder, &task, progress)
    }

    fn train<M: Module, E: Fn(&M, Tensor<4>) -> Tensor<3>>(
        &self,
        network: M,
        task: &Task<M, E>,
        mut progress: impl FnMut(Event),
    ) -> Result<Option<M>, Error> {
        let training = self.training;
        let device = device::of(&network);
        let steps = StepLoop {
            folder: &self.folder,
            recipe: &self.recipe,
            data: self.data.fingerprint()?,
            steps: training.steps,
            checkpoint_every: training.checkpoint_every,
            devices: slice::from_ref(&device),
            stop: self.stop,
        };
        let heads = training.adversarial.as_ref();
        let new = || Contest {
            network: TrainState::new(network),
            heads: heads.map(|config| TrainState::new(config.network.heads(self.seed(2), &device))),
        };
        let state = steps.resume(new, &mut progress)?;
        let device = device.clone().autodiff();
        let mut batches = training.loader(&self.data, state.step_number())?;
        let step = |state: Contest<M>| match batches
            .next()
            .expect("batches have no end, and nothing is read after an error")
        {
            Ok(batch) => Ok(self.step(state, task, &batch, &device)),
            Err(error) => Err(Box::new(Unread { state, error: error.into() })),
        };
        let outcome = steps.run(state, step, None, &mut progress)?;
        self.data.remarks().into_iter().for_each(|line| progress(Event::Warning(line)));
        Ok(match outcome {
            Outcome::Finished(state) => Some(state.network.average()),
            Outcome::Interrupted { .. } => None,
        })
    }

    /// One step of the decoder and, once its time has come, one of the discriminator.
    fn step<M: Module, E: Fn(&M, Tensor<4>) -> Tensor<3>>(
        &self,
        state: Contest<M>,
        task: &Task<M, E>,
        batch: &data::Examples,
        device: &Device,
    ) -> Stepped<Contest<M>> {
        let (training, step) = (self.training, state.step_number());
        let Contest { network, mut heads } = state;
        let parts: Vec<_> = self.parts(batch, device).collect();
        let frozen = heads.as_ref().map(|heads| heads.backbone().clone());
        let losses_of = parts.iter().map(|part| {
            let frozen = &frozen;
            move |network: &M| {
                let decoder = (task.decoder)(network);
                let last = LastLayer { decoder, normalisation: task.normalisation };
                let features = self.add_noise((task.encode)(network, part.images.clone()), part.first);
                let augment = self.augment(part, View::Decoder);
                let losses = Losses {
                    perceptual: self.judges.perceptual(training, step),
                    opponent: self.judges.opponent(training, step, frozen.as_ref(), &augment),
                };
                losses.of(last, decoder.hidden(features), &part.images)
            }
        });
        let (network, mut report) = network.minimise(losses_of, &training.optimizer);

        if let (Some(state), Some(discriminator), Some(config)) =
            (heads.take(), &self.judges.discriminator, &training.adversarial)
        {
            heads = Some(if step < config.discriminator_start {
                state
            } else {
                let network = network.backbone().valid();
                let (state, its) = self.discriminate(state, &network, task, discriminator, &parts);
                report.terms.push(("discriminator", its.loss));
                report.finite &= its.finite;
                state
            });
        }
        Stepped { state: Contest { network, heads }, report }
    }

    /// One step of the discriminator on what the decoder now makes of the images, without noise.
    fn discriminate<M: Module, E: Fn(&M, Tensor<4>) -> Tensor<3>>(
        &self,
        mut state: TrainState<Heads>,
        network: &M,
        task: &Task<M, E>,
        discriminator: &Discriminator,
        parts: &[Part],
    ) -> (TrainState<Heads>, StepReport) {
        let config = self.training.adversarial.as_ref().expect("there is a discriminator");
        let decoder = (task.decoder)(network);
        let last = LastLayer { decoder, normalisation: task.normalisation };
        let mut losses_of = Vec::with_capacity(parts.len());
        for part in parts {
            let images = part.images.clone().inner();
            let found = last.images(decoder.hidden((task.encode)(network, images.clone())));
            let found = discriminator.features(in_eight_bits(found), &self.augment(part, View::Found));
            let real = discriminator.features(images, &self.augment(part, View::Real));
            // Each forward pass comes after a power iteration of its own, on kernels that all of them share.
            let judge_of_found = state.backbone().clone().power_iteration();
            let judge_of_real = judge_of_found.clone().power_iteration();
            state = state.with_backbone(judge_of_real.clone());
            losses_of.push(move |_: &Heads| hinge(judge_of_real.forward(real), judge_of_found.forward(found)));
        }
        state.minimise(losses_of, &config.optimizer)
    }

    fn parts<'a>(&self, batch: &'a data::Examples, device: &'a Device) -> impl Iterator<Item = Part> + use<'a> {
        let (shape, size) = (self.data.shape(), self.training.batch / self.training.parts);
        let pixels = size * shape.iter().product::<usize>();
        batch.pixels.chunks_exact(pixels).enumerate().map(move |(part, pixels)| {
            let first = batch.first + (part * size) as u64;
            Part { images: images(pixels, shape, device), first }
        })
    }

    fn augment(&self, part: &Part, view: View) -> DiffAugment {
        let probability = self.training.adversarial.as_ref().map_or(0.0, |config| config.augment);
        let [batch, ..] = part.images.dims();
        DiffAugment::draw(probability, self.training.seed, part.first, batch, view)
    }

    /// The noise of features is a function of seed and position.
    fn add_noise(&self, features: Tensor<3>, first: u64) -> Tensor<3> {
        let (shape, device, seed) = (features.dims(), features.device(), self.training.seed);
        let [batch, tokens, width] = shape;
        let amount: Vec<f32> = (first..)
            .take(batch)
            .map(|position| random::uniform(&mut random::rng(seed, Stream::Times, position)))
            .map(|u| (self.training.noise * u) as f32)
            .collect();
        let noise = crate::objective::noise(seed, Stream::Noise, first, [batch, tokens, width, 1], &device);
        add_noise(features, Tensor::from_data(amount.as_slice(), &device), noise.reshape(shape))
    }

    /// The seed of a network's initial weights.
    fn seed(&self, network: u64) -> u64 {
        random::rng(self.training.seed, Stream::Init, network).next_u64()
    }
}

/// Two networks in one training.
#[derive(Module, Debug)]
struct Pair {
    encoder: Encoder,
    decoder: Decoder,
}

/// How what is trained reconstructs images.
struct Task<M, E> {
    /// Features of images, with gradients where the encoder is trained.
    encode: E,
    /// The part that makes images of features.
    decoder: fn(&M) -> &Decoder,
    /// The scale of its pixels.
    normalisation: Normalisation,
}

/// Images of a step that are computed together.
struct Part {
    images: Tensor<4>,
    /// Training position of the first.
    first: u64,
}

/// A network and, where there is one, the discriminator that it is trained against.
struct Contest<M> {
    network: TrainState<M>,
    heads: Option<TrainState<Heads>>,
}

impl<M: Module> Trainee for Contest<M> {
    fn step_number(&self) -> u64 {
        self.network.step_number()
    }

    fn snapshot(&self) -> Snapshot {
        let opponent = self.heads.as_ref().map(|heads| Box::new(heads.snapshot()));
        Snapshot { opponent, ..self.network.snapshot() }
    }

    fn restored(self, mut snapshot: Snapshot, path: &Path) -> Result<Self, Error> {
        let fault = |reason: &str| Err(Error::Mismatch { path: path.into(), reason: reason.into() });
        let heads = match (self.heads, snapshot.opponent.take()) {
            (Some(heads), Some(snapshot)) => Some(heads.restored(*snapshot, path)?),
            (None, None) => None,
            (Some(_), None) => return fault("it has no discriminator"),
            (None, Some(_)) => return fault("it has a discriminator, and the training has none"),
        };
        Ok(Self { network: self.network.restored(snapshot, path)?, heads })
    }
}
