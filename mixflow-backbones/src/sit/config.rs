//! The published sizes, and any other.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::Sit;
use crate::block::{AdaLnBlock, Attention, FinalLayer, Gelu, Mlp, NormKind};
use crate::embed::{LabelEmbedding, PatchEmbedding, TimestepEmbedding, sin_cos_2d};
use crate::init::Initializer;
use crate::sizes::{block_multiply_adds, countable, demand, heads_fit, parameters, patch_values, patches_fit};
use crate::{Activations, Invalid};

/// Shape of a [`Sit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SitConfig {
    /// Side of the square latent or image: 32 for 256 px behind an eightfold autoencoder, 64 for 512 px.
    pub input_size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Width of a token; divisible by four and by `heads`.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the perceptrons.
    pub hidden: usize,
    /// Number of classes; the null label is this number.
    pub classes: usize,
    /// Whether the label table has a row for no class (networks trained with label dropout).
    #[serde(default = "crate::json::yes")]
    pub null_class: bool,
    /// Whether the last layer also predicts sigma, as the official training script builds it.
    #[serde(default)]
    pub learn_sigma: bool,
}

impl SitConfig {
    /// SiT-S: 33 million parameters at patch 2.
    pub fn small(patch: usize) -> Self {
        Self::published(patch, 384, 12, 6)
    }

    /// SiT-B: 131 million parameters at patch 2.
    pub fn base(patch: usize) -> Self {
        Self::published(patch, 768, 12, 12)
    }

    /// SiT-L: 458 million parameters at patch 2.
    pub fn large(patch: usize) -> Self {
        Self::published(patch, 1024, 24, 16)
    }

    /// SiT-XL: 675 million parameters at patch 2.
    pub fn extra_large(patch: usize) -> Self {
        Self::published(patch, 1152, 28, 16)
    }

    /// ImageNet at 256 px as the official training script builds it: sigma is predicted too.
    fn published(patch: usize, width: usize, depth: usize, heads: usize) -> Self {
        Self {
            input_size: 32,
            patch,
            channels: 4,
            width,
            depth,
            heads,
            hidden: 4 * width,
            classes: 1000,
            null_class: true,
            learn_sigma: true,
        }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { input_size, patch, width, heads, .. } = *self;
        Invalid::unless_positive(&[
            ("input_size", input_size),
            ("patch", patch),
            ("channels", self.channels),
            ("width", width),
            ("depth", self.depth),
            ("heads", heads),
            ("hidden", self.hidden),
            ("classes", self.classes),
        ])?;
        patches_fit(input_size, patch)?;
        heads_fit(width, heads)?;
        let widths = [width as f64, self.hidden as f64, 4.0 * patch_values(self.channels, patch), 256.0];
        countable(self.depth, self.side(), self.classes, &widths)
    }

    /// Multiplications with addition of one image's forward pass: matrix products alone, 118.6 G for XL/2 at 256 px.
    pub fn multiply_adds(&self) -> u64 {
        let Self { patch, channels, width, depth, hidden, .. } = *self;
        let tokens = self.side().pow(2);
        let block = block_multiply_adds([width, hidden], 2, tokens) + 6 * width * width;
        let ends = tokens * width * patch * patch * (channels + self.outputs()) + (256 + width + 2 * width) * width;
        (depth * block + ends) as u64
    }

    /// Number of parameters, the frozen position table included; nothing is allocated for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        demand(self.check());
        parameters([self.depth], |[depth], init| Self { depth, ..self.clone() }.build(init).num_params())
    }

    /// Channels, height and width of its images.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.input_size, self.input_size]
    }

    /// A network with the initial values of the published training code, which depend on `seed` alone.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> Sit {
        demand(self.check());
        self.build(&Initializer::new(seed, device))
    }

    /// As [`init`](Self::init), with the parameters that come next.
    pub(crate) fn build(&self, init: &Initializer) -> Sit {
        let Self { patch, channels, width, hidden, heads, .. } = *self;
        let side = self.side();
        let linear = |inputs, outputs| init.xavier_linear(inputs, outputs);
        let block = |_| {
            let attn = Attention::new(width, heads, linear);
            AdaLnBlock::new(width, attn, Mlp::new(width, hidden, Gelu::Tanh, linear), NormKind::Layer, init)
        };
        Sit {
            pos_embed: init.frozen_by([1, side * side, width], move || sin_cos_2d([side, side], width)),
            x_embedder: PatchEmbedding::new(channels, patch, width, init),
            t_embedder: TimestepEmbedding::new(width, init),
            y_embedder: LabelEmbedding::new(self.classes + usize::from(self.null_class), width, init),
            blocks: (0..self.depth).map(block).collect(),
            final_layer: FinalLayer::new(width, patch * patch * self.outputs(), NormKind::Layer, init),
            channels,
            patch,
        }
    }

    /// Tokens along a side.
    pub(crate) fn side(&self) -> usize {
        self.input_size / self.patch
    }

    /// Of its blocks.
    pub(crate) fn activations(&self) -> Activations {
        Activations::of_blocks(self.depth, [self.side().pow(2), 1, self.width, self.hidden])
    }

    /// Channels of the last layer.
    fn outputs(&self) -> usize {
        self.channels * if self.learn_sigma { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiply_adds_of_the_largest_are_the_published_ones() {
        // Ma et al. 2024, table 1: 118.6 GFLOPs, which counts a multiplication with its addition as one.
        let giga = SitConfig::extra_large(2).multiply_adds() as f64 / 1e9;
        assert!((giga - 118.6).abs() < 0.1, "{giga}");
    }
}
