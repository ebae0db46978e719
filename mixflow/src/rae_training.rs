//! Training of representation autoencoders.
//!
//! RAE trains a decoder for a frozen, published encoder. Where nothing can be downloaded, a small encoder is trained
//! with its decoder first; from then on it is frozen all the same.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::encoder::{Encoder, EncoderConfig};
use mixflow_backbones::rae::{Decoder, DecoderConfig, LatentStatistics, Rae, add_noise, to_planes};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::data::{self, Dataset, Loader, LoaderConfig};
use crate::random::{self, Stream};
use crate::train::{OptimizerConfig, StepReport, TrainState};

/// How a decoder learns to undo an encoder: the mean absolute difference of pixels in [0, 1].
///
/// Features are made noisy first, so that the decoder forgives what a generator of latents gets wrong. The published
/// training adds a perceptual and an adversarial loss.
///
/// # Source
/// Zheng et al. 2025 (arXiv 2510.11690), section 3; RAE `src/train_stage1.py` at a4d18c4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaeTraining {
    /// Steps.
    pub steps: u64,
    /// Images a step.
    pub batch: usize,
    /// Deviation of the noise on features is uniform in [0, `noise`]; RAE's is 0.8.
    pub noise: f64,
    /// Of weights, order of images and noise.
    pub seed: u64,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
}

impl RaeTraining {
    /// An encoder and its decoder from random weights, trained together, and the moments of the latents over about one
    /// pass through the data, at most a hundred batches.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn from_scratch(
        &self,
        data: &Arc<dyn Dataset>,
        encoder: &EncoderConfig,
        decoder: &DecoderConfig,
        device: &Device,
        tell: impl FnMut(StepReport),
    ) -> Result<Rae, Error> {
        let seed = |network| random::rng(self.seed, Stream::Init, network).next_u64();
        let (encoder, decoder) = (encoder.init(seed(0), device), decoder.init(seed(1), device));
        let (encoder, decoder) = self.train_both(data, encoder, decoder, tell)?;
        let batches = data.len().map_or(100, |len| len.div_ceil(self.batch as u64).min(100));
        let statistics = self.statistics(data, &encoder, batches)?;
        Ok(Rae { encoder, decoder, statistics })
    }

    /// Trains the decoder of a frozen encoder.
    ///
    /// Returns the moving average of its weights.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn train_decoder(
        &self,
        data: &Arc<dyn Dataset>,
        encoder: &Encoder,
        decoder: Decoder,
        tell: impl FnMut(StepReport),
    ) -> Result<Decoder, Error> {
        let normalisation = encoder.preprocessing().normalisation;
        let encoder = encoder.valid();
        let reconstruct = |decoder: &Decoder, images: Tensor<4>, noise: &FeatureNoise| {
            let features = Tensor::from_inner(encoder.forward(images.inner()));
            normalisation.undo(decoder.images(decoder.forward(noise.add(features))))
        };
        self.run(data, decoder, reconstruct, tell)
    }

    /// Trains an encoder together with its decoder.
    ///
    /// Returns the moving averages of their weights.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn train_both(
        &self,
        data: &Arc<dyn Dataset>,
        encoder: Encoder,
        decoder: Decoder,
        tell: impl FnMut(StepReport),
    ) -> Result<(Encoder, Decoder), Error> {
        let normalisation = encoder.preprocessing().normalisation;
        let reconstruct = |pair: &Pair, images: Tensor<4>, noise: &FeatureNoise| {
            let features = noise.add(pair.encoder.forward(images));
            normalisation.undo(pair.decoder.images(pair.decoder.forward(features)))
        };
        let Pair { encoder, decoder } = self.run(data, Pair { encoder, decoder }, reconstruct, tell)?;
        Ok((encoder, decoder))
    }

    /// Moments of the latents of so many batches, each image counted once while the data last.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn statistics(
        &self,
        data: &Arc<dyn Dataset>,
        encoder: &Encoder,
        batches: u64,
    ) -> Result<LatentStatistics, Error> {
        let shape = data.shape();
        let device = Device::default();
        let mut parts = Vec::new();
        for batch in self.loader(data)?.take(batches as usize) {
            parts.push(LatentStatistics::of(to_planes(encoder.forward(images(batch?, shape, &device)))));
        }
        Ok(LatentStatistics::merge(&parts))
    }

    fn run<M: Module>(
        &self,
        data: &Arc<dyn Dataset>,
        network: M,
        reconstruct: impl Fn(&M, Tensor<4>, &FeatureNoise) -> Tensor<4>,
        mut tell: impl FnMut(StepReport),
    ) -> Result<M, Error> {
        let shape = data.shape();
        let mut state = TrainState::new(network);
        let device = Device::default().autodiff();
        for batch in self.loader(data)?.take(self.steps as usize) {
            let batch = batch?;
            let noise = FeatureNoise { seed: self.seed, most: self.noise, first: batch.first };
            let images = images(batch, shape, &device);
            let loss = |network: &M| {
                let difference = reconstruct(network, images.clone(), &noise) - images;
                difference.abs().mean() / 2.0 // pixels in [-1, 1] differ twice as much as in [0, 1]
            };
            let (next, report) = state.minimise([loss], &self.optimizer);
            state = next;
            tell(report);
        }
        Ok(state.average())
    }

    fn loader(&self, data: &Arc<dyn Dataset>) -> Result<Loader, data::Error> {
        let config = LoaderConfig { seed: self.seed, batch: self.batch, step: 0, flip: false, workers: 1 };
        Loader::new(Arc::clone(data), config)
    }
}

/// Two networks in one training.
#[derive(Module, Debug)]
struct Pair {
    encoder: Encoder,
    decoder: Decoder,
}

/// The noise of a batch's features, a function of seed and position.
struct FeatureNoise {
    seed: u64,
    most: f64,
    first: u64,
}

impl FeatureNoise {
    fn add(&self, features: Tensor<3>) -> Tensor<3> {
        let (shape, device) = (features.dims(), features.device());
        let [batch, tokens, width] = shape;
        let positions = (self.first..).take(batch);
        let amount: Vec<f32> = positions
            .map(|position| random::uniform(&mut random::rng(self.seed, Stream::Times, position)))
            .map(|u| (self.most * u) as f32)
            .collect();
        let noise = crate::noise(self.seed, Stream::Noise, self.first, [batch, tokens, width, 1], &device);
        add_noise(features, Tensor::from_data(amount.as_slice(), &device), noise.reshape(shape))
    }
}

fn images(batch: data::Batch, [channels, height, width]: [usize; 3], device: &Device) -> Tensor<4> {
    let shape = [batch.labels.len(), channels, height, width];
    Tensor::from_data(TensorData::new(batch.pixels, shape), device)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::data::{Channels, Digits, split};
    use crate::train::LearningRate;
    use mixflow_backbones::encoder::Normalisation;

    fn networks() -> (EncoderConfig, DecoderConfig) {
        let encoder = EncoderConfig {
            channels: 1,
            input_size: 8,
            table_size: 8,
            patch: 4,
            width: 32,
            depth: 1,
            heads: 2,
            hidden: 64,
            normalisation: Normalisation::Symmetric,
            ..EncoderConfig::dinov2_base()
        };
        let decoder =
            DecoderConfig { features: 32, grid: 2, patch: 4, channels: 1, width: 32, depth: 1, heads: 2, hidden: 64 };
        (encoder, decoder)
    }

    fn training(steps: u64) -> RaeTraining {
        let optimizer = OptimizerConfig {
            learning_rate: LearningRate::Constant { rate: 3e-3, warmup: 10 },
            average: 0.9,
            ..OptimizerConfig::default()
        };
        RaeTraining { steps, batch: 32, noise: 0.3, seed: 5, optimizer }
    }

    fn digits() -> Arc<dyn Dataset> {
        Arc::new(Digits::new(8, Channels::One).unwrap())
    }

    fn error(rae: &Rae, data: &dyn Dataset, count: u64) -> f64 {
        let pixels = (0..count).flat_map(|index| data.example(index).unwrap().pixels).collect::<Vec<_>>();
        let [channels, height, width] = data.shape();
        let shape = [count as usize, channels, height, width];
        let images = Tensor::<4>::from_data(TensorData::new(pixels, shape), &Device::default());
        (rae.decode(rae.encode(images.clone())) - images).abs().mean().into_scalar::<f64>()
    }

    #[test]
    fn unseen_digits_are_reconstructed() {
        let (train, held_out) = split(&digits(), 100, 1).unwrap();
        let data: Arc<dyn Dataset> = Arc::new(train);
        let (encoder, decoder) = networks();
        let train = |steps| {
            let mut losses = Vec::new();
            let tell = |report: StepReport| losses.push(report.loss);
            let rae = training(steps).from_scratch(&data, &encoder, &decoder, &Device::default(), tell).unwrap();
            (rae, losses)
        };
        let (before, _) = train(1);
        let (after, losses) = train(150);
        assert!(losses.iter().all(|loss| loss.is_finite()));
        let [before, after] = [before, after].map(|rae| error(&rae, &held_out, 100));
        assert!(after < before / 4.0, "mean absolute error {before} before, {after} after");
    }

    #[test]
    fn latents_have_mean_zero_and_variance_one() {
        let (encoder, decoder) = networks();
        let data = digits();
        let rae = training(1).from_scratch(&data, &encoder, &decoder, &Device::default(), |_| {}).unwrap();
        let batch = training(1).loader(&data).unwrap().take(56).map(|batch| batch.unwrap().pixels);
        let pixels: Vec<f32> = batch.flatten().collect();
        let images = Tensor::<4>::from_data(TensorData::new(pixels, [56 * 32, 1, 8, 8]), &Device::default());
        let moments = LatentStatistics::of(rae.encode(images));
        let largest = |tensor: Tensor<3>| tensor.abs().max().into_scalar::<f64>();
        // The statistics count 57 batches, the last of which starts the next pass.
        assert!(largest(moments.mean.val()) < 0.05);
        assert!(largest(moments.variance.val() - 1.0) < 0.1);
    }

    #[test]
    fn a_seed_determines_all_weights_and_another_changes_them() {
        let (encoder, decoder) = networks();
        let weights = |seed| {
            let training = RaeTraining { seed, ..training(3) };
            let rae = training.from_scratch(&digits(), &encoder, &decoder, &Device::default(), |_| {}).unwrap();
            (rae.encoder.weights().to_safetensors(&[]), rae.decoder.weights().to_safetensors(&[]))
        };
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
    }

    #[test]
    fn a_frozen_encoder_stays_and_its_decoder_learns() {
        let (encoder, decoder) = networks();
        let device = Device::default();
        let encoder = encoder.init(1, &device);
        let before = encoder.weights().to_safetensors(&[]);
        let mut losses = Vec::new();
        let decoder = decoder.init(2, &device);
        training(60).train_decoder(&digits(), &encoder, decoder, |report| losses.push(report.loss)).unwrap();
        assert_eq!(encoder.weights().to_safetensors(&[]), before);
        assert!(losses[59] < losses[0] / 2.0, "{losses:?}");
    }
}
