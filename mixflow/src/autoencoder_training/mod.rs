//! Training of representation autoencoders.
//!
//! RAE trains a decoder for a frozen, published encoder. Where nothing can be downloaded, a small encoder is trained
//! with its decoder first; from then on it is frozen all the same.
//!
//! Three losses can take part: [`reconstruction`] compares pixels, [`Perceptual`] features of a classifier, and a
//! [`Discriminator`] is trained against the decoder. [`Losses`] is their sum, and [`RaeRun`] the training.

mod adversarial;
mod diff_augment;
mod judges;
mod losses;
mod perceptual;
mod reconstruction;
mod run;
#[cfg(test)]
mod tests;

pub use adversarial::{AdversarialConfig, Discriminator, adaptive_weight, hinge, in_eight_bits};
pub use diff_augment::{DiffAugment, View};
pub use judges::Judges;
pub use losses::{LastLayer, Losses, Opponent};
pub use perceptual::{Perceptual, PerceptualConfig};
pub use reconstruction::reconstruction;
pub use run::RaeRun;

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::Invalid;
use mixflow_backbones::encoder::Encoder;
use mixflow_backbones::lpips;
use mixflow_backbones::rae::{LatentStatistics, to_planes};
use serde::{Deserialize, Serialize};

use crate::data::{self, Dataset, Loader, LoaderConfig};
use crate::train::{OptimizerConfig, check_steps};
use crate::{Error, device};

/// How a decoder learns to undo an encoder: the mean absolute difference of pixels in [0, 1] and, where they are given, a
/// perceptual and an adversarial loss.
///
/// Features are made noisy first, so that the decoder forgives what a generator of latents gets wrong. The published
/// training has all three losses: `recipes/paper/rae-decoder-xl.json`.
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
    /// Parts that a step's images are computed in, to save memory; divides `batch`. They have an effect beyond rounding: a
    /// part has its own adaptive weight of the adversarial loss, as each device has in RAE.
    #[serde(default = "crate::train::one")]
    pub parts: usize,
    /// Deviation of the noise on features is uniform in [0, `noise`]; RAE's is 0.8.
    pub noise: f64,
    /// Of weights, order of images and noise.
    pub seed: u64,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// A perceptual loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<PerceptualConfig>,
    /// An adversarial loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialConfig>,
    /// Steps between checkpoints.
    #[serde(default = "crate::train::thousand")]
    pub checkpoint_every: u64,
    /// Threads that read images; without effect on the result.
    #[serde(default = "crate::train::one")]
    pub workers: usize,
}

impl RaeTraining {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        check_steps(self.steps, self.batch, ("parts", self.parts), self.checkpoint_every, self.workers)?;
        if !(self.noise >= 0.0 && self.noise.is_finite()) {
            return Err(Invalid::new("noise", format!("must be at least 0, found {}", self.noise)));
        }
        self.optimizer.check().map_err(|fault| fault.within("optimizer"))?;
        if let Some(perceptual) = &self.perceptual {
            perceptual.check().map_err(|fault| fault.within("perceptual"))?;
        }
        let Some(adversarial) = &self.adversarial else { return Ok(()) };
        adversarial.check().map_err(|fault| fault.within("adversarial"))
    }

    /// The files of the frozen networks of its losses.
    pub fn files(&self) -> Vec<PathBuf> {
        let perceptual = self.perceptual.iter().flat_map(|config| config.weights.clone());
        perceptual.chain(self.adversarial.iter().map(|config| config.weights.clone())).collect()
    }

    /// What keeps the losses from seeing images of this many channels and this side, if anything.
    pub fn check_images(&self, channels: usize, side: usize) -> Result<(), Invalid> {
        let seen = self.perceptual.is_some() || self.adversarial.is_some();
        if seen && channels != 1 && channels != 3 {
            let key = if self.perceptual.is_some() { "perceptual" } else { "adversarial" };
            return Err(Invalid::new(key, format!("sees grey or RGB images, not {channels} channels")));
        }
        if self.perceptual.is_some() && side < lpips::SMALLEST {
            return Err(Invalid::new(
                "perceptual",
                format!("needs sides of at least {}, found {side}", lpips::SMALLEST),
            ));
        }
        Ok(())
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
        let device = device::of(encoder);
        let (mut parts, mut counts) = (Vec::new(), Vec::new());
        for batch in self.loader(data, 0)?.take(batches as usize) {
            let latents = to_planes(encoder.forward(images(&batch?.pixels, shape, &device)));
            counts.push(latents.dims()[0]);
            parts.push(LatentStatistics::of(latents));
        }
        Ok(LatentStatistics::merge(&parts, &counts))
    }

    fn loader(&self, data: &Arc<dyn Dataset>, step: u64) -> Result<Loader, data::Error> {
        let config = LoaderConfig { seed: self.seed, batch: self.batch, step, flip: false, workers: self.workers };
        Loader::new(Arc::clone(data), config)
    }
}

fn images(pixels: &[f32], [channels, height, width]: [usize; 3], device: &Device) -> Tensor<4> {
    let shape = [pixels.len() / (channels * height * width), channels, height, width];
    Tensor::from_data(TensorData::new(pixels.to_vec(), shape), device)
}

/// Coloured images: grey ones with three equal channels.
fn rgb(images: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = images.dims();
    if channels == 1 { images.expand([batch, 3, height, width]) } else { images }
}
