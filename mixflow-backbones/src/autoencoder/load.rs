//! Published weights.

use super::naming::{as_diffusers, select_weights};
use super::{KlAutoencoder, official_key};
use crate::Error;
use crate::weights::Weights;

impl KlAutoencoder {
    /// This network with the weights of a published checkpoint: under the names of `diffusers`, of any age, or of
    /// `CompVis/latent-diffusion` and the Stability code, alone or in a file with a whole Stable Diffusion.
    ///
    /// # Errors
    /// As [`Weights::network`], and as [`Weights::into_module`] with the names of `diffusers`.
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let levels = self.encoder.down_blocks.len();
        as_diffusers(select_weights(weights)?, levels).into_module(self, official_key)
    }
}
