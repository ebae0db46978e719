//! From a folder of images to stored latents, from these to a network, and from its samples back to images.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use mixflow::autoencoder_training::{Judges, RaeRun, RaeTraining};
use mixflow::backbones::encoder::{EncoderConfig, Normalisation};
use mixflow::backbones::rae::{DecoderConfig, Rae};
use mixflow::backbones::sit::SitConfig;
use mixflow::data::latents::{EncodeConfig, EncodeOutcome, StoragePrecision, Writer, encode_dataset};
use mixflow::data::source::{self, Options};
use mixflow::data::{
    Channels, Classes, Conditioner, Dataset, Digits, ImageFolder, Latents, Loader, LoaderConfig, OnBroken,
    StorageConfig,
};
use mixflow::sampling::Images;
use mixflow::sampling::solver::Euler;
use mixflow::schedules::{Linear, MixFlow, TimeGrid};
use mixflow::train::{LearningRate, OptimizerConfig, TrainState};
use mixflow::{Export, FlowMatching, LatentEncoder, Sampler};

fn shape() -> EncoderConfig {
    EncoderConfig {
        input_size: 32,
        table_size: 32,
        patch: 8,
        width: 32,
        depth: 2,
        heads: 4,
        hidden: 64,
        normalisation: Normalisation::Symmetric,
        ..EncoderConfig::dinov2_base()
    }
}

/// An autoencoder of one's own, trained on the images for a moment. With a published one this part falls away, and
/// [`LatentEncoder::kl`] or [`LatentEncoder::rae`] reads its files.
fn autoencoder(images: Arc<dyn Dataset>, folder: &Path) -> Result<Rae, Box<dyn std::error::Error>> {
    let decoder =
        DecoderConfig { features: 32, grid: 4, patch: 8, channels: 3, width: 32, depth: 2, heads: 4, hidden: 64 };
    let rate = LearningRate::Constant { rate: 2e-3, warmup: 10 };
    let training = RaeTraining {
        steps: 80,
        batch: 32,
        parts: 1,
        noise: 0.4,
        seed: 0,
        optimizer: OptimizerConfig { learning_rate: rate, average: 0.9, ..OptimizerConfig::default() },
        perceptual: None,
        adversarial: None,
        checkpoint_every: 80,
        workers: 1,
    };
    let run = RaeRun {
        folder: folder.into(),
        recipe: serde_json::to_value(&training)?,
        training: &training,
        judges: Judges::default(),
        data: images,
        stop: &AtomicBool::new(false),
    };
    Ok(run.from_scratch(&shape(), &decoder, &Device::default(), |_| {})?.ok_or("nobody stops it")?)
}

/// Encodes every image once; the same call later adds those that are new.
fn encode(encoder: &LatentEncoder, images: &Path, to: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let source = source::open(&[images.into()], &Options::default())?;
    let storage = StorageConfig {
        precision: StoragePrecision::F16,
        flipped: false,
        shard_examples: 64,
        buckets: None,
        masked: false,
    };
    let writer = Writer::open(to, encoder.contents(&*source, storage))?;
    let config = EncodeConfig { batch: 32, on_broken: OnBroken::Refuse };
    let stop = AtomicBool::new(false);
    match encode_dataset(&*source, config, writer, &stop, vec![|images| encoder.encode(images)], |_| {})? {
        EncodeOutcome::Finished(manifest) => println!("{manifest}"),
        EncodeOutcome::Interrupted => return Err("nobody stops it".into()),
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let [images, latents, training] = ["images", "latents", "autoencoder"].map(|name| folder.path().join(name));
    // Your images are there already, one folder a class; here 20 of each digit become files.
    let digits = Digits::new(32, Channels::Three)?;
    for class in 0..10 {
        let of_class = (0..1000)
            .map(|index| digits.example(index))
            .filter(|example| example.as_ref().is_ok_and(|e| e.label == class));
        let pixels = of_class.take(20).flat_map(|example| example.map_or(vec![], |example| example.pixels)).collect();
        let all = Images { pixels, shape: [20, 3, 32, 32], ..Images::default() };
        Export::new(images.join(class.to_string()), 3)?.write(20, 5, [Ok(all)])?;
    }

    let rae = autoencoder(Arc::new(ImageFolder::open(&images, 32, OnBroken::Refuse)?), &training)?;
    let [weights, moments] = ["encoder.safetensors", "moments.safetensors"].map(|name| training.join(name));
    rae.encoder.weights().write(&weights, &[])?;
    rae.statistics.weights().write(&moments, &[])?;
    encode(&LatentEncoder::rae(&shape(), &weights, &moments, 32, &Device::default())?, &images, &latents)?;

    let data = Latents::open(&latents)?;
    let [channels, side, _] = data.shape();
    let device = Device::default().autodiff();
    let network = SitConfig {
        input_size: side,
        channels,
        classes: 10,
        width: 64,
        depth: 2,
        heads: 2,
        hidden: 128,
        ..SitConfig::small(1)
    };
    let mut state = TrainState::new(network.init(0, &device));
    let objective = FlowMatching::new(Linear).timesteps(MixFlow::new(0.4));
    let order = LoaderConfig { batch: 32, ..Default::default() };
    for batch in Loader::batches(Arc::new(data), order, Classes(10), &device)?.take(60) {
        state = state.step(&objective, [batch?], 0, &OptimizerConfig::default()).0;
    }

    let (network, device) = (state.average(), device.inner());
    let labels: Vec<usize> = (0..10).collect();
    let flow = objective.flow(&network, Classes(10).conditions(&labels, &device)?);
    let sampler = Sampler { solver: Euler, grid: TimeGrid::new(20)? };
    let decoded = rae.decode(sampler.draw(&flow, [10, channels, side, side], 0, &device)?.x);
    let samples = Images {
        shape: decoded.dims(),
        pixels: decoded.into_data().iter::<f32>().collect(),
        evaluations: 20,
        ..Images::default()
    };
    assert_eq!(samples.shape, [10, 3, 32, 32]);
    Export::new(folder.path().join("samples.png"), 3)?.write(10, 5, [Ok(samples)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
