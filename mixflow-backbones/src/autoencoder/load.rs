//! Published weights.

use burn::tensor::TensorData;

use super::keys::diffusers_key;
use super::{KlAutoencoder, official_key};
use crate::Error;
use crate::weights::Weights;

/// What a whole Stable Diffusion file puts before the names of its autoencoder.
const PREFIX: &str = "first_stage_model.";

/// What training scripts store beside the autoencoder.
const TRAINING: [&str; 2] = ["loss.", "model_ema."];

impl KlAutoencoder {
    /// This network with the weights of a published checkpoint: under the names of `diffusers`, of any age, or of
    /// `CompVis/latent-diffusion` and the Stability code, alone or in a file with a whole Stable Diffusion.
    ///
    /// # Errors
    /// As [`Weights::into_module`], with the names of `diffusers`.
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let levels = self.encoder.down_blocks.len();
        let whole = weights.iter().any(|(name, _)| name.starts_with(PREFIX));
        let weights = weights.flat_map(|name, data| {
            let name = match name.strip_prefix(PREFIX) {
                Some(name) => name,
                None if whole || TRAINING.iter().any(|part| name.starts_with(part)) => return None,
                None => &name,
            };
            let name = diffusers_key(name, levels);
            let data = if name.contains(".attentions.") { without_pixel(data) } else { data };
            Some((name, data))
        });
        weights.into_module(self, official_key)
    }
}

/// A convolution one pixel wide is a linear layer.
fn without_pixel(data: TensorData) -> TensorData {
    match data.shape().to_vec()[..] {
        [outputs, inputs, 1, 1] => {
            let dtype = data.dtype();
            TensorData::from_bytes(data.into_bytes(), [outputs, inputs], dtype)
        }
        _ => data,
    }
}
