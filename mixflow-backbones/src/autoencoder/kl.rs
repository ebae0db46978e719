//! The autoencoder of latent diffusion.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Autoencoder, KlAutoencoderConfig, KlDecoder, KlEncoder, LatentDistribution, TileConfig};
use crate::Convolution;
use crate::init::Initializer;
use crate::sizes::demand;

/// A convolutional autoencoder whose latents were kept near the normal law by their Kullback–Leibler divergence.
///
/// # Source
/// Rombach et al. 2022 (arXiv 2112.10752), appendix G; `AutoencoderKL` of `CompVis/latent-diffusion`, under the names of
/// `diffusers` 0.42.1.
#[derive(Module, Debug)]
pub struct KlAutoencoder {
    /// Images to moments.
    pub encoder: KlEncoder,
    /// Latents to images.
    pub decoder: KlDecoder,
    /// Of moments, one pixel wide.
    pub quant_conv: Option<Convolution>,
    /// Of latents, one pixel wide.
    pub post_quant_conv: Option<Convolution>,
    pub(super) shift: f64,
    pub(super) scale: f64,
}

impl KlAutoencoderConfig {
    /// An autoencoder with the initial values that PyTorch gives, which depend on `seed` alone.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> KlAutoencoder {
        demand(self.check());
        let init = &Initializer::new(seed, device);
        let pointwise = |channels| self.quant_conv.then(|| Convolution::new(channels, channels, 1, init));
        KlAutoencoder {
            encoder: KlEncoder::new(self, init),
            decoder: KlDecoder::new(self, init),
            quant_conv: pointwise(2 * self.latent_channels),
            post_quant_conv: pointwise(self.latent_channels),
            shift: self.shift,
            scale: self.scale,
        }
    }
}

impl KlAutoencoder {
    /// Pixels along an edge of the image per value along an edge of the latents: 8 for the published ones.
    pub fn factor(&self) -> usize {
        1 << (self.encoder.down_blocks.len() - 1)
    }

    /// [`decode`](Autoencoder::decode) of a large image, piece by piece: memory is that of a tile and of the image.
    /// The same as `decode` where the image fits a tile.
    pub fn decode_tiled(&self, latents: Tensor<4>, tiles: TileConfig) -> Tensor<4> {
        let [_, _, height, width] = latents.dims();
        tiles.blend([height, width], self.factor(), |[rows, columns]| {
            self.decode(latents.clone().narrow(2, rows.start, rows.len()).narrow(3, columns.start, columns.len()))
        })
    }
}

impl Autoencoder for KlAutoencoder {
    fn encode(&self, images: Tensor<4>) -> LatentDistribution {
        let ([_, _, height, width], factor) = (images.dims(), self.factor());
        assert!(
            [height, width].iter().all(|size| size.is_multiple_of(factor)),
            "an image of {:?} cannot be encoded: its sides must be divisible by {factor}",
            [height, width]
        );
        let moments = self.encoder.forward(images);
        let moments = match &self.quant_conv {
            Some(convolution) => convolution.forward(moments),
            None => moments,
        };
        LatentDistribution::from_moments(moments).normalise(self.shift, self.scale)
    }

    fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        let latents = latents / self.scale + self.shift;
        self.decoder.forward(match &self.post_quant_conv {
            Some(convolution) => convolution.forward(latents),
            None => latents,
        })
    }

    fn decode_in(&self, latents: Tensor<4>, tiles: TileConfig) -> Tensor<4> {
        self.decode_tiled(latents, tiles)
    }

    fn to_device(&self, device: &Device) -> Box<dyn Autoencoder> {
        Box::new(self.clone().to_device(device))
    }
}
