//! The networks that a decoder is judged by.

use burn::tensor::Device;
use mixflow_backbones::discriminator::Heads;

use super::{DiffAugment, Discriminator, Opponent, Perceptual, RaeTraining};
use crate::Error;

/// The frozen networks of the losses of a [`RaeTraining`].
#[derive(Debug, Default)]
pub struct Judges {
    /// Of the perceptual loss, if there is one.
    pub perceptual: Option<Perceptual>,
    /// Of the adversarial loss, if there is one.
    pub discriminator: Option<Discriminator>,
}

impl Judges {
    /// Reads those that a training needs.
    ///
    /// # Errors
    /// If a file cannot be read or does not fit.
    pub fn load(training: &RaeTraining, device: &Device) -> Result<Self, Error> {
        Ok(Self {
            perceptual: training.perceptual.as_ref().map(|config| config.load(device)).transpose()?,
            discriminator: training.adversarial.as_ref().map(|config| config.load(device)).transpose()?,
        })
    }

    /// The perceptual network and its factor, at a step that has it.
    pub(super) fn perceptual(&self, training: &RaeTraining, step: u64) -> Option<(&Perceptual, f64)> {
        let config = training.perceptual.as_ref().filter(|config| step >= config.start)?;
        Some((self.perceptual.as_ref()?, config.weight))
    }

    /// The adversary, at a step that has it.
    pub(super) fn opponent<'a>(
        &'a self,
        training: &'a RaeTraining,
        step: u64,
        heads: Option<&'a Heads>,
        augment: &'a DiffAugment,
    ) -> Option<Opponent<'a>> {
        let config = training.adversarial.as_ref().filter(|config| step >= config.start)?;
        Some(Opponent { discriminator: self.discriminator.as_ref()?, heads: heads?, augment, config })
    }
}
