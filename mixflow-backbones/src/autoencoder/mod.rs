//! Between images and the latents that networks are trained on.

mod block;
mod config;
mod cost;
mod decoder;
mod diffusers;
mod encoder;
mod keys;
mod kl;
mod load;
mod naming;
mod norm;
mod tiles;

pub use block::{MidAttention, MidBlock, ResidualBlock};
pub use config::KlAutoencoderConfig;
pub use decoder::{KlDecoder, UpBlock};
pub use encoder::{DownBlock, KlEncoder};
pub use keys::official_key;
pub use kl::KlAutoencoder;
pub use naming::Naming;
pub use norm::GroupNorm;
pub use tiles::TileConfig;

use std::fmt::Debug;

use burn::tensor::{Device, Tensor};

/// An encoder and its decoder.
///
/// Images are in [-1, 1]. Latents are normalised: shifted and scaled, as the author of the autoencoder says, to about
/// mean 0 and deviation 1. Networks are trained on them as they are.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use mixflow_backbones::autoencoder::{Autoencoder, LatentDistribution};
///
/// /// No latents at all: training in pixel space.
/// #[derive(Clone, Debug)]
/// struct Identity;
///
/// impl Autoencoder for Identity {
///     fn encode(&self, images: Tensor<4>) -> LatentDistribution {
///         LatentDistribution { mean: images, deviation: None }
///     }
///     fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
///         latents
///     }
///     fn to_device(&self, _: &Device) -> Box<dyn Autoencoder> {
///         Box::new(self.clone())
///     }
/// }
/// ```
pub trait Autoencoder: Debug + Send + Sync {
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, in [-1, 1]
    /// - returns: `[batch, latent channels, height / factor, width / factor]`
    fn encode(&self, images: Tensor<4>) -> LatentDistribution;

    /// Images of normalised latents; values may lie a little outside [-1, 1].
    ///
    /// # Shapes
    /// The reverse of [`encode`](Self::encode).
    fn decode(&self, latents: Tensor<4>) -> Tensor<4>;

    /// [`decode`](Self::decode) of large images piece by piece; provided: at once, by those that see the whole.
    fn decode_in(&self, latents: Tensor<4>, _tiles: TileConfig) -> Tensor<4> {
        self.decode(latents)
    }

    /// The same on a device, which may be its own.
    fn to_device(&self, device: &Device) -> Box<dyn Autoencoder>;
}

/// What an encoder says about images: the law of their normalised latents.
#[derive(Clone, Debug)]
pub struct LatentDistribution {
    /// `[batch, channels, height, width]`
    pub mean: Tensor<4>,
    /// Deviation of every value, of the same shape; `None` where the encoder is deterministic.
    pub deviation: Option<Tensor<4>>,
}

impl LatentDistribution {
    /// Before normalisation, from the output of an encoder: means and logarithms of variances, one behind the other.
    /// The latter are clamped to [-30, 20].
    ///
    /// # Shapes
    /// - moments: `[batch, 2 channels, height, width]`
    ///
    /// # Source
    /// `DiagonalGaussianDistribution` of `CompVis/latent-diffusion`.
    pub fn from_moments(moments: Tensor<4>) -> Self {
        let channels = moments.dims()[1] / 2;
        let mean = moments.clone().narrow(1, 0, channels);
        let deviation = (moments.narrow(1, channels, channels).clamp(-30.0, 20.0) * 0.5).exp();
        Self { mean, deviation: Some(deviation) }
    }

    /// `(x - shift) scale` of everything.
    pub fn normalise(self, shift: f64, scale: f64) -> Self {
        Self { mean: (self.mean - shift) * scale, deviation: self.deviation.map(|deviation| deviation * scale) }
    }

    /// One draw, `mean + deviation noise`: `noise` is standard normal and shaped as the mean. Without a deviation, the
    /// mean.
    pub fn sample(self, noise: Tensor<4>) -> Tensor<4> {
        match self.deviation {
            Some(deviation) => self.mean + deviation * noise,
            None => self.mean,
        }
    }
}
