//! What a convolutional autoencoder costs.

use burn::module::Module;
use burn::tensor::Device;

use super::KlAutoencoderConfig;

/// Multiplications with addition of some layers. Absurd sizes end at the largest number.
#[derive(Default)]
struct Cost(u64);

impl Cost {
    fn add(&mut self, factors: &[usize]) {
        self.0 = self.0.saturating_add(product(factors));
    }

    fn convolution(&mut self, inputs: usize, outputs: usize, kernel: usize, pixels: usize) {
        self.add(&[inputs, outputs, kernel, kernel, pixels]);
    }

    fn residual_blocks(&mut self, inputs: usize, outputs: usize, depth: usize, pixels: usize) {
        for inputs in std::iter::once(inputs).chain(std::iter::repeat(outputs)).take(depth) {
            self.convolution(inputs, outputs, 3, pixels);
            self.convolution(outputs, outputs, 3, pixels);
            if inputs != outputs {
                self.convolution(inputs, outputs, 1, pixels);
            }
        }
    }

    /// The coarsest level.
    fn middle(&mut self, channels: usize, pixels: usize) {
        self.residual_blocks(channels, channels, 2, pixels);
        self.add(&[4, channels, channels, pixels]);
        self.add(&[2, pixels, pixels, channels]);
    }
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor as u64))
}

impl KlAutoencoderConfig {
    /// Number of parameters: the encoder's, then the decoder's. Nothing is drawn for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> [u64; 2] {
        let count = |depth| {
            let network = Self { depth, ..self.clone() }.init(0, &Device::flex());
            [
                network.encoder.num_params() + network.quant_conv.num_params(),
                network.decoder.num_params() + network.post_quant_conv.num_params(),
            ]
        };
        // All residual blocks of a level but the first have one size.
        let (one, two) = (count(1), count(2));
        [0, 1].map(|half| (one[half] + (self.depth - 1) * (two[half] - one[half])) as u64)
    }

    /// Multiplications with addition for one image of `[height, width]` pixels, matrix products alone: of encoding, then of
    /// decoding.
    pub fn multiply_adds(&self, image: [usize; 2]) -> [u64; 2] {
        self.costs(image).map(|cost| cost.0)
    }

    fn costs(&self, [height, width]: [usize; 2]) -> [Cost; 2] {
        let [finest, coarsest] = self.ends();
        let levels = self.widths.len();
        let pixels = |level: usize| (height >> level).saturating_mul(width >> level);
        let (image, latent) = (pixels(0), pixels(levels - 1));

        let mut encoder = Cost::default();
        encoder.convolution(self.image_channels, finest, 3, image);
        for level in 0..levels {
            let outputs = self.widths[level];
            encoder.residual_blocks(self.widths[level.saturating_sub(1)], outputs, self.depth, pixels(level));
            if level + 1 < levels {
                encoder.convolution(outputs, outputs, 3, pixels(level + 1));
            }
        }
        encoder.middle(coarsest, latent);
        encoder.convolution(coarsest, 2 * self.latent_channels, 3, latent);

        let mut decoder = Cost::default();
        decoder.convolution(self.latent_channels, coarsest, 3, latent);
        decoder.middle(coarsest, latent);
        for level in (0..levels).rev() {
            let outputs = self.widths[level];
            decoder.residual_blocks(self.widths[(level + 1).min(levels - 1)], outputs, self.depth + 1, pixels(level));
            if level > 0 {
                decoder.convolution(outputs, outputs, 3, pixels(level - 1));
            }
        }
        decoder.convolution(finest, self.image_channels, 3, image);

        if self.quant_conv {
            encoder.convolution(2 * self.latent_channels, 2 * self.latent_channels, 1, latent);
            decoder.convolution(self.latent_channels, self.latent_channels, 1, latent);
        }
        [encoder, decoder]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_the_official_ones() {
        // `AutoencoderKL` of diffusers.
        assert_eq!(KlAutoencoderConfig::stable_diffusion().parameters().iter().sum::<u64>(), 83_653_863);
    }

    #[test]
    fn decoding_takes_what_pytorch_counts() {
        // `FlopCounterMode` on `mixflow/benches/pytorch/vae.py`: 311.1 billion for 256 x 256 pixels.
        let [encode, decode] = KlAutoencoderConfig::stable_diffusion().multiply_adds([256, 256]);
        assert_eq!((decode as f64 / 1e8).round(), 3111.0);
        assert!(encode < decode);
    }
}
