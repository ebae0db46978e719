//! Latents to images.

use burn::module::Module;
use burn::tensor::Tensor;

use super::encoder::residual_blocks;
use super::{GroupNorm, KlAutoencoderConfig, MidBlock, ResidualBlock};
use crate::Convolution;
use crate::init::Initializer;
use crate::ops;

/// The decoder of a [`KlAutoencoder`](super::KlAutoencoder).
#[derive(Module, Debug)]
pub struct KlDecoder {
    /// From the latents.
    pub conv_in: Convolution,
    /// At the coarsest level.
    pub mid_block: MidBlock,
    /// Levels, coarsest first.
    pub up_blocks: Vec<UpBlock>,
    /// Before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// To the image.
    pub conv_out: Convolution,
}

impl KlDecoder {
    /// With PyTorch's default initial values.
    pub fn new(config: &KlAutoencoderConfig, init: &Initializer) -> Self {
        let KlAutoencoderConfig { ref widths, groups, .. } = *config;
        let [finest, coarsest] = config.ends();
        let levels = widths.len();
        Self {
            conv_in: Convolution::new(config.latent_channels, coarsest, 3, init),
            mid_block: MidBlock::new(coarsest, groups, init),
            up_blocks: (0..levels)
                .rev()
                .map(|level| {
                    let inputs = widths[(level + 1).min(levels - 1)];
                    UpBlock::new([inputs, widths[level]], config.depth + 1, level > 0, groups, init)
                })
                .collect(),
            conv_norm_out: GroupNorm::new(finest, groups, init),
            conv_out: Convolution::new(finest, config.image_channels, 3, init),
        }
    }

    /// # Shapes
    /// - latents: `[batch, latent channels, height, width]`
    /// - output: `[batch, channels, height · factor, width · factor]`
    pub fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let x = self.mid_block.forward(self.conv_in.forward(latents));
        let x = self.up_blocks.iter().fold(x, |x, block| block.forward(x));
        self.conv_out.forward(self.conv_norm_out.silu(x))
    }
}

/// A level of a [`KlDecoder`].
#[derive(Module, Debug)]
pub struct UpBlock {
    /// At the level's size.
    pub resnets: Vec<ResidualBlock>,
    /// At twice the size; the finest level has none.
    pub upsample: Option<Convolution>,
}

impl UpBlock {
    /// `depth` residual blocks from `inputs` to `outputs` channels.
    pub fn new([inputs, outputs]: [usize; 2], depth: usize, grows: bool, groups: usize, init: &Initializer) -> Self {
        Self {
            resnets: residual_blocks([inputs, outputs], depth, groups, init),
            upsample: grows.then(|| Convolution::new(outputs, outputs, 3, init)),
        }
    }

    /// # Shapes
    /// - x: `[batch, inputs, height, width]`
    /// - output: `[batch, outputs, height, width]`, or twice as high and wide
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.resnets.iter().fold(x, |x, block| block.forward(x));
        match &self.upsample {
            Some(convolution) => convolution.forward(ops::upsample(x)),
            None => x,
        }
    }
}
