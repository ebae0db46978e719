//! The third loss: images that a discriminator takes for real.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use mixflow_backbones::Invalid;
use mixflow_backbones::discriminator::{Dino, DiscriminatorConfig, Heads};
use mixflow_backbones::weights::Weights;
use serde::{Deserialize, Serialize};

use super::diff_augment::DiffAugment;
use super::rgb;
use crate::Error;
use crate::train::{OptimizerConfig, positive};

/// An adversarial loss in the training of a decoder. Values that are not given are RAE's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdversarialConfig {
    /// File of the frozen features: DINO's ViT-S/8.
    pub weights: PathBuf,
    /// Shape of the discriminator.
    #[serde(default)]
    pub network: DiscriminatorConfig,
    /// Its factor beside the other losses, after the adaptive one; RAE's is 0.75.
    #[serde(default = "weight")]
    pub weight: f64,
    /// The largest adaptive factor; RAE's is 10,000.
    #[serde(default = "limit")]
    pub limit: f64,
    /// The first step whose decoder learns from the discriminator.
    pub start: u64,
    /// The first step that trains the discriminator.
    pub discriminator_start: u64,
    /// How the discriminator is trained; its steps are counted from `discriminator_start`.
    pub optimizer: OptimizerConfig,
    /// How likely each change of [`DiffAugment`] is, in [0, 1]; RAE's is 1.
    #[serde(default = "always")]
    pub augment: f64,
}

fn weight() -> f64 {
    0.75
}

fn limit() -> f64 {
    1e4
}

fn always() -> f64 {
    1.0
}

impl AdversarialConfig {
    /// What is wrong with these values, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        self.network.check().map_err(|fault| fault.within("network"))?;
        positive("weight", self.weight)?;
        positive("limit", self.limit)?;
        if !(0.0..=1.0).contains(&self.augment) {
            return Err(Invalid::new("augment", format!("must be in [0, 1], found {}", self.augment)));
        }
        self.optimizer.check().map_err(|fault| fault.within("optimizer"))
    }

    /// The frozen part of the discriminator, read.
    ///
    /// # Errors
    /// If the file cannot be read or does not fit.
    pub fn load(&self, device: &Device) -> Result<Discriminator, Error> {
        let features = self.network.features(0, device).load(Weights::read(&self.weights)?)?;
        Ok(Discriminator::new(features))
    }
}

/// The frozen part of a discriminator.
#[derive(Debug)]
pub struct Discriminator {
    features: Dino,
}

impl Discriminator {
    /// With these features, which are frozen.
    pub fn new(features: Dino) -> Self {
        Self { features: features.valid().freeze().train() }
    }

    /// The decoder's loss: how unreal `found` looks to `heads`, `-mean(logits)`, `[1]`. The heads learn nothing from it.
    pub fn against(&self, found: Tensor<4>, heads: &Heads, augment: &DiffAugment) -> Tensor<1> {
        let heads = heads.valid().freeze().train();
        -heads.forward(self.features.forward(augment.apply(rgb(found)))).mean()
    }

    /// What the heads see of images, without gradients: features for [`Heads::forward`].
    pub fn features(&self, images: Tensor<4>, augment: &DiffAugment) -> Vec<Tensor<3>> {
        let images = if images.is_autodiff() { images.inner() } else { images };
        let features = self.features.valid().forward(augment.apply(rgb(images)));
        features.into_iter().map(Tensor::from_inner).collect()
    }
}

/// The discriminator's loss: half the mean shortfall of real logits below 1 and of found ones above -1, `[1]`.
///
/// # Source
/// Lim and Ye 2017 (arXiv 1705.02894); RAE `src/disc/gan_loss.py` at a4d18c4, `hinge_d_loss`.
pub fn hinge(real: Tensor<2>, found: Tensor<2>) -> Tensor<1> {
    (relu(-real + 1.0).mean() + relu(found + 1.0).mean()) / 2.0
}

/// The factor that makes the adversarial loss as strong as the others at the decoder's last layer, given the norms of both
/// gradients there.
///
/// # Source
/// Esser et al. 2021 (arXiv 2012.09841), equation 7; RAE `src/train_stage1.py` at a4d18c4, `calculate_adaptive_weight`.
pub fn adaptive_weight(others: f64, adversarial: f64, limit: f64) -> f64 {
    (others / (adversarial + 1e-6)).clamp(0.0, limit)
}

/// Images as files keep them, 256 values a channel: the discriminator is not to judge by what no file holds.
pub fn in_eight_bits(images: Tensor<4>) -> Tensor<4> {
    ((images.clamp(-1.0, 1.0) + 1.0) * 127.5).round() / 127.5 - 1.0
}
