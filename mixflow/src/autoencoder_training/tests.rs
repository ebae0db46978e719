use std::sync::atomic::{AtomicBool, Ordering};

use mixflow_backbones::discriminator::DiscriminatorConfig;
use mixflow_backbones::encoder::{EncoderConfig, Normalisation};
use mixflow_backbones::lpips::Lpips;
use mixflow_backbones::rae::{DecoderConfig, Rae};
use tempfile::TempDir;

use super::*;
use crate::data::{Channels, Digits, split};
use crate::train::{Checkpoints, Event, LearningRate, Snapshot, StepReport};

fn networks(side: usize) -> (EncoderConfig, DecoderConfig) {
    let encoder = EncoderConfig {
        channels: 1,
        input_size: side,
        table_size: side,
        patch: 4,
        width: 32,
        depth: 1,
        heads: 2,
        hidden: 64,
        normalisation: Normalisation::Symmetric,
        ..EncoderConfig::dinov2_base()
    };
    let decoder = DecoderConfig {
        features: 32,
        grid: side / 4,
        patch: 4,
        channels: 1,
        width: 32,
        depth: 1,
        heads: 2,
        hidden: 64,
    };
    (encoder, decoder)
}

fn training(steps: u64) -> RaeTraining {
    let optimizer = OptimizerConfig {
        learning_rate: LearningRate::Constant { rate: 3e-3, warmup: 10 },
        average: 0.9,
        ..OptimizerConfig::default()
    };
    RaeTraining {
        steps,
        batch: 32,
        parts: 1,
        noise: 0.3,
        seed: 5,
        optimizer,
        perceptual: None,
        adversarial: None,
        checkpoint_every: 1000,
        workers: 1,
    }
}

/// A run in a folder that ends after its first steps, `after`, or is not stopped.
struct Trial {
    folder: TempDir,
    training: RaeTraining,
    data: Arc<dyn Dataset>,
    stop: AtomicBool,
}

impl Trial {
    fn new(training: RaeTraining, data: Arc<dyn Dataset>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), training, data, stop: AtomicBool::new(false) }
    }

    fn run(&self) -> RaeRun<'_> {
        RaeRun {
            folder: self.folder.path().into(),
            recipe: serde_json::to_value(&self.training).unwrap(),
            training: &self.training,
            judges: judges(&self.training),
            data: Arc::clone(&self.data),
            stop: &self.stop,
        }
    }

    fn train(&self, mut progress: impl FnMut(&StepReport)) -> Option<Rae> {
        let [_, side, _] = self.data.shape();
        let (encoder, decoder) = networks(side);
        let progress = |event: Event| {
            if let Event::Stepped(report) = event {
                progress(&report);
            }
        };
        self.run().from_scratch(&encoder, &decoder, &Device::default(), progress).unwrap()
    }

    fn snapshot(&self) -> Snapshot {
        let found = Checkpoints::new(self.folder.path().join("checkpoints"), 2).latest().unwrap();
        found.checkpoint.unwrap().snapshot
    }
}

/// Judges of random weights.
fn judges(training: &RaeTraining) -> Judges {
    let device = Device::default();
    let perceptual = training.perceptual.as_ref();
    let perceptual = perceptual.map(|config| Perceptual::new(Lpips::with_widths(config.widths, 3, &device)));
    let discriminator = training.adversarial.as_ref();
    let discriminator = discriminator.map(|config| Discriminator::new(config.network.features(4, &device)));
    Judges { perceptual, discriminator }
}

/// All three losses, each from its own step on.
fn contest(steps: u64) -> RaeTraining {
    let network = DiscriminatorConfig {
        input_size: 16,
        patch: 4,
        width: 16,
        depth: 2,
        heads: 2,
        hidden: 32,
        taps: vec![0],
        kernel: 3,
    };
    RaeTraining {
        batch: 8,
        parts: 2,
        perceptual: Some(PerceptualConfig { weights: vec![], weight: 1.0, start: 2, widths: [4; 5] }),
        adversarial: Some(AdversarialConfig {
            weights: "".into(),
            network,
            weight: 0.75,
            limit: 1e4,
            start: 5,
            discriminator_start: 3,
            optimizer: OptimizerConfig::default(),
            augment: 1.0,
        }),
        ..training(steps)
    }
}

fn digits(side: usize) -> Arc<dyn Dataset> {
    Arc::new(Digits::new(side, Channels::One).unwrap())
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
    let (train, held_out) = split(&digits(8), 100, 1).unwrap();
    let data: Arc<dyn Dataset> = Arc::new(train);
    let train = |steps| {
        let mut losses = Vec::new();
        let rae = Trial::new(training(steps), Arc::clone(&data)).train(|report| losses.push(report.loss)).unwrap();
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
    let data = digits(8);
    let rae = Trial::new(training(1), Arc::clone(&data)).train(|_| {}).unwrap();
    let batch = training(1).loader(&data, 0).unwrap().take(56).map(|batch| batch.unwrap().pixels);
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
    let weights = |seed| {
        let rae = Trial::new(RaeTraining { seed, ..training(3) }, digits(8)).train(|_| {}).unwrap();
        let bytes = |weights: mixflow_backbones::weights::Weights| weights.to_safetensors(&[]).unwrap();
        (bytes(rae.encoder.weights()), bytes(rae.decoder.weights()))
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
}

#[test]
fn a_frozen_encoder_stays_and_its_decoder_learns() {
    let (encoder, decoder) = networks(8);
    let device = Device::default();
    let encoder = encoder.init(1, &device);
    let before = encoder.weights().to_safetensors(&[]).unwrap();
    let mut losses = Vec::new();
    let decoder = decoder.init(2, &device);
    let progress = |event: Event| {
        if let Event::Stepped(report) = event {
            losses.push(report.loss);
        }
    };
    Trial::new(training(60), digits(8)).run().train_decoder(&encoder, decoder, progress).unwrap();
    assert_eq!(encoder.weights().to_safetensors(&[]).unwrap(), before);
    assert!(losses[59] < losses[0] / 2.0, "{losses:?}");
}

#[test]
fn each_loss_takes_part_from_its_step_on() {
    let trial = Trial::new(contest(8), digits(16));
    trial.train(|_| {}).unwrap();
    let log = std::fs::read_to_string(trial.folder.path().join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let from = |name: &str| lines.iter().position(|line| line[name].is_number()).unwrap();
    assert_eq!(["l1", "lpips", "discriminator", "gan", "adaptive_weight"].map(from), [0, 2, 3, 5, 5]);
    for line in &lines {
        let term = |name: &str| line[name].as_f64().unwrap_or(0.0);
        let (loss, likeness) = (term("loss"), term("l1") + term("lpips"));
        if line["gan"].is_null() {
            assert!((loss - likeness).abs() < 1e-6, "{line}");
        } else {
            // The parts of a step have adaptive weights of their own, so that the means do not multiply.
            assert_ne!(loss, likeness, "{line}");
        }
    }
    let heads = trial.snapshot().opponent.unwrap();
    assert_eq!((heads.step, heads.updates), (5, 5));
}

#[test]
fn a_stopped_contest_ends_as_if_never_stopped() {
    let whole = Trial::new(contest(8), digits(16));
    whole.train(|_| {}).unwrap();
    // Before, at and after the first steps of the discriminator and of the adversarial loss.
    for stops in [&[0, 2][..], &[3, 4], &[5, 6]] {
        let trial = Trial::new(contest(8), digits(16));
        for &after in stops {
            let rae = trial.train(|report| trial.stop.store(report.step == after, Ordering::Relaxed));
            assert!(rae.is_none(), "stopped after step {after}");
        }
        trial.stop.store(false, Ordering::Relaxed);
        trial.train(|_| {}).unwrap();
        assert_eq!(trial.snapshot(), whole.snapshot(), "stopped after {stops:?}");
        // But for the time that it took.
        let log = |trial: &Trial| {
            let text = std::fs::read_to_string(trial.folder.path().join("metrics.jsonl")).unwrap();
            let mut lines: Vec<serde_json::Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let times = ["wall_time", "runtime"];
            lines.iter_mut().for_each(|line| times.iter().for_each(|name| drop(line[name].take())));
            lines
        };
        assert_eq!(log(&trial), log(&whole), "stopped after {stops:?}");
    }
}

#[test]
fn the_discriminator_learns_to_tell_reconstructions() {
    let mut training = contest(40);
    let adversarial = training.adversarial.as_mut().unwrap();
    (adversarial.start, adversarial.discriminator_start, adversarial.augment) = (1000, 0, 0.0);
    adversarial.optimizer.learning_rate = LearningRate::Constant { rate: 1e-2, warmup: 0 };
    // A decoder that stands still.
    training.optimizer.learning_rate = LearningRate::Constant { rate: 1e-12, warmup: 0 };
    let trial = Trial::new(training, digits(16));
    trial.train(|_| {}).unwrap();
    let log = std::fs::read_to_string(trial.folder.path().join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["discriminator"].as_f64().unwrap())
        .collect();
    // One that tells nothing apart has a loss of 1 or more.
    assert!(losses[0] > 0.95, "{losses:?}");
    assert!(losses[35..].iter().all(|loss| *loss < 0.8), "{losses:?}");
}

#[test]
fn losses_that_cannot_be_are_refused_by_name() {
    let refuse = |change: fn(&mut RaeTraining)| {
        let mut training = contest(8);
        training.perceptual.as_mut().unwrap().weights.push("vgg.pth".into());
        assert_eq!(training.check(), Ok(()));
        change(&mut training);
        training.check().unwrap_err().to_string()
    };
    for (message, words) in [
        (refuse(|training| training.parts = 3), "divisible by parts, found 8 and 3"),
        (refuse(|training| training.noise = -1.0), "noise"),
        (refuse(|training| training.perceptual.as_mut().unwrap().weights.clear()), "perceptual.weights"),
        (refuse(|training| training.perceptual.as_mut().unwrap().weight = 0.0), "perceptual.weight"),
        (refuse(|training| training.adversarial.as_mut().unwrap().network.kernel = 4), "adversarial.network.kernel"),
        (refuse(|training| training.adversarial.as_mut().unwrap().augment = 2.0), "adversarial.augment"),
        (refuse(|training| training.adversarial.as_mut().unwrap().network.taps = vec![2]), "below depth, 2"),
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert!(contest(8).check_images(3, 8).unwrap_err().to_string().contains("at least 16"));
    assert!(contest(8).check_images(2, 16).unwrap_err().to_string().contains("2 channels"));
    assert_eq!(training(8).check_images(2, 8), Ok(()));
}
