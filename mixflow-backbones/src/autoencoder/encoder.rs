//! Images to moments of latents.

use burn::module::Module;
use burn::tensor::Tensor;

use super::{GroupNorm, KlAutoencoderConfig, MidBlock, ResidualBlock};
use crate::Convolution;
use crate::init::Initializer;
use crate::ops::Window;

/// The encoder of a [`KlAutoencoder`](super::KlAutoencoder).
#[derive(Module, Debug)]
pub struct KlEncoder {
    /// From the image.
    pub conv_in: Convolution,
    /// Levels, finest first.
    pub down_blocks: Vec<DownBlock>,
    /// At the coarsest level.
    pub mid_block: MidBlock,
    /// Before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// To means and logarithms of variances.
    pub conv_out: Convolution,
}

impl KlEncoder {
    /// With PyTorch's default initial values.
    pub fn new(config: &KlAutoencoderConfig, init: &Initializer) -> Self {
        let KlAutoencoderConfig { ref widths, groups, .. } = *config;
        let [finest, coarsest] = config.ends();
        let levels = widths.len();
        Self {
            conv_in: Convolution::new(config.image_channels, finest, 3, init),
            down_blocks: (0..levels)
                .map(|level| {
                    let inputs = widths[level.saturating_sub(1)];
                    DownBlock::new([inputs, widths[level]], config.depth, level + 1 < levels, groups, init)
                })
                .collect(),
            mid_block: MidBlock::new(coarsest, groups, init),
            conv_norm_out: GroupNorm::new(coarsest, groups, init),
            conv_out: Convolution::new(coarsest, 2 * config.latent_channels, 3, init),
        }
    }

    /// # Shapes
    /// - images: `[batch, channels, height, width]`
    /// - output: `[batch, 2 latent channels, height / factor, width / factor]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let x = self.conv_in.forward(images);
        let x = self.down_blocks.iter().fold(x, |x, block| block.forward(x));
        self.conv_out.forward(self.conv_norm_out.silu(self.mid_block.forward(x)))
    }
}

/// A level of a [`KlEncoder`].
#[derive(Module, Debug)]
pub struct DownBlock {
    /// At the level's size.
    pub resnets: Vec<ResidualBlock>,
    /// To half the size; the coarsest level has none.
    pub downsample: Option<Convolution>,
}

impl DownBlock {
    /// `depth` residual blocks from `inputs` to `outputs` channels.
    pub fn new([inputs, outputs]: [usize; 2], depth: usize, shrinks: bool, groups: usize, init: &Initializer) -> Self {
        Self {
            resnets: residual_blocks([inputs, outputs], depth, groups, init),
            downsample: shrinks.then(|| Convolution::new(outputs, outputs, 3, init)),
        }
    }

    /// # Shapes
    /// - x: `[batch, inputs, height, width]`
    /// - output: `[batch, outputs, height, width]`, or half as high and wide
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        // Zeros below and to the right only, as the published networks were trained.
        let window = Window { stride: [2, 2], padding: [[0, 1], [0, 1]] };
        let x = self.resnets.iter().fold(x, |x, block| block.forward(x));
        match &self.downsample {
            Some(downsample) => downsample.windowed(x, window),
            None => x,
        }
    }
}

/// The first block changes the number of channels.
pub(super) fn residual_blocks(
    [inputs, outputs]: [usize; 2],
    depth: usize,
    groups: usize,
    init: &Initializer,
) -> Vec<ResidualBlock> {
    let inputs = std::iter::once(inputs).chain(std::iter::repeat(outputs));
    inputs.take(depth).map(|inputs| ResidualBlock::new(inputs, outputs, groups, init)).collect()
}
