//! A representation autoencoder for the embedded digits, trained from nothing in less than a minute.
//!
//! Writes `rae_digits.png`, each unseen digit above its reconstruction, and keeps its training in `runs/rae_digits`.

#![allow(clippy::print_stdout, reason = "an example says how far it is")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::autoencoder_training::{Judges, RaeRun, RaeTraining};
use mixflow::backbones::encoder::{EncoderConfig, Normalisation};
use mixflow::backbones::rae::DecoderConfig;
use mixflow::data::{Channels, Dataset, Digits, split};
use mixflow::files::Tiles;
use mixflow::train::{Event, LearningRate, OptimizerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    train(Path::new("runs/rae_digits"), 400, Path::new("rae_digits.png"))
}

/// Keeps the training in `folder`.
fn train(folder: &Path, steps: u64, picture: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let digits: Arc<dyn Dataset> = Arc::new(Digits::new(32, Channels::One)?);
    let (train, held_out) = split(&digits, 100, 0)?;
    let encoder = EncoderConfig {
        channels: 1,
        input_size: 32,
        table_size: 32,
        patch: 8,
        width: 64,
        depth: 2,
        heads: 4,
        hidden: 256,
        normalisation: Normalisation::Symmetric,
        ..EncoderConfig::dinov2_base()
    };
    let decoder =
        DecoderConfig { features: 64, grid: 4, patch: 8, channels: 1, width: 64, depth: 2, heads: 4, hidden: 256 };
    let rate = LearningRate::Cosine { rate: 2e-3, last: 1e-4, start: 20, end: steps, from_zero: true };
    let optimizer = OptimizerConfig { learning_rate: rate, average: 0.95, ..OptimizerConfig::default() };
    let training = RaeTraining {
        steps,
        batch: 64,
        parts: 1,
        noise: 0.8,
        seed: 0,
        optimizer,
        perceptual: None,
        adversarial: None,
        checkpoint_every: 200,
        workers: 1,
    };

    let device = Device::default();
    let run = RaeRun {
        folder: folder.into(),
        recipe: serde_json::to_value(&training)?,
        training: &training,
        judges: Judges::default(),
        data: Arc::new(train),
        stop: &AtomicBool::new(false),
    };
    let rae = run.from_scratch(&encoder, &decoder, &device, |event| match event {
        Event::Stepped(report) if report.step % 50 == 49 => {
            println!("step {:3}  loss {:.4}", report.step + 1, report.loss);
        }
        _ => {}
    })?;
    let rae = rae.ok_or("nobody asks it to stop")?;

    let count = 12;
    let mut pixels = Vec::new();
    for index in 0..count {
        pixels.extend(held_out.example(index)?.pixels);
    }
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [count as usize, 1, 32, 32]), &device);
    let reconstructions = rae.decode(rae.encode(images.clone()));
    let error = (reconstructions.clone() - images.clone()).abs().mean().into_scalar::<f64>() / 2.0;
    println!("mean absolute error of unseen digits {error:.4}, of pixels in [0, 1]");
    let both = Tensor::cat(vec![images, reconstructions], 0);
    let shape = both.dims();
    let pixels: Vec<f32> = both.into_data().iter::<f32>().collect();
    let tiles = Tiles { columns: count as usize, ..Tiles::default() };
    std::fs::write(picture, tiles.png(&pixels, shape))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    /// For a moment only.
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        super::train(&folder.path().join("run"), 21, &folder.path().join("digits.png"))
    }
}
