//! Representation autoencoders: a pretrained encoder, and a decoder trained to undo it.

mod config;
mod decoder;
mod statistics;

pub use config::DecoderConfig;
pub use decoder::Decoder;
pub use statistics::LatentStatistics;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::autoencoder::{Autoencoder, LatentDistribution};
use crate::encoder::Encoder;

/// An autoencoder whose latents are the features of a pretrained encoder, normalised.
///
/// # Source
/// Zheng et al. 2025 (arXiv 2510.11690); `bytetriper/RAE` at a4d18c4, `src/stage1/rae.py`.
#[derive(Module, Debug)]
pub struct Rae {
    /// Frozen.
    pub encoder: Encoder,
    /// From features to patches, on the encoder's scale of pixels.
    pub decoder: Decoder,
    /// Moments of the features over the training set.
    pub statistics: LatentStatistics,
}

impl Rae {
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, in [-1, 1]
    /// - output: `[batch, encoder's width, rows, columns]`, normalised
    pub fn encode(&self, images: Tensor<4>) -> Tensor<4> {
        self.statistics.normalise(to_planes(self.encoder.forward(images)))
    }

    /// As [`encode`](Self::encode), of features made noisy by [`add_noise`].
    pub fn encode_noisy(&self, images: Tensor<4>, amount: Tensor<1>, noise: Tensor<3>) -> Tensor<4> {
        self.statistics.normalise(to_planes(add_noise(self.encoder.forward(images), amount, noise)))
    }

    /// # Shapes
    /// - latents: `[batch, encoder's width, rows, columns]`, normalised
    /// - output: `[batch, channels, height, width]`, in [-1, 1] as far as the decoder keeps to it: not clamped
    pub fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        let tokens = to_tokens(self.statistics.denormalise(latents));
        let images = self.decoder.images(self.decoder.forward(tokens));
        self.encoder.preprocessing().normalisation.undo(images)
    }
}

impl Autoencoder for Rae {
    fn encode(&self, images: Tensor<4>) -> LatentDistribution {
        LatentDistribution { mean: self.encode(images), deviation: None }
    }

    fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        self.decode(latents)
    }

    fn to_device(&self, device: &Device) -> Box<dyn Autoencoder> {
        Box::new(self.clone().to_device(device))
    }
}

/// Features as a decoder sees them in training: `x + amount · noise`.
///
/// # Shapes
/// - tokens, noise: `[batch, tokens, width]`, noise standard normal
/// - amount: `[batch]`; RAE draws it uniformly from [0, 0.8]
pub fn add_noise(tokens: Tensor<3>, amount: Tensor<1>, noise: Tensor<3>) -> Tensor<3> {
    let [batch] = amount.dims();
    tokens + noise * amount.reshape([batch, 1, 1])
}

/// Tokens of a square grid as planes: `[batch, side * side, width]` to `[batch, width, side, side]`.
///
/// # Panics
/// If the number of tokens is no square.
pub fn to_planes(tokens: Tensor<3>) -> Tensor<4> {
    let [batch, count, width] = tokens.dims();
    let side = count.isqrt();
    assert_eq!(side * side, count, "expected the tokens of a square grid, found {count}");
    tokens.swap_dims(1, 2).reshape([batch, width, side, side])
}

/// The inverse of [`to_planes`].
pub fn to_tokens(planes: Tensor<4>) -> Tensor<3> {
    planes.flatten::<3>(2, 3).swap_dims(1, 2)
}
