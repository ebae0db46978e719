//! The published sizes, and any other.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::Decoder;
use crate::block::Gelu;
use crate::countable::{countable, patch_values};
use crate::embed::sin_cos_2d;
use crate::init::Initializer;
use crate::vit::{LayerNorm, VitBlockConfig};

/// Shape of a [`Decoder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Width of the encoder's features.
    pub features: usize,
    /// Patches along a side of the image.
    pub grid: usize,
    /// Side of a patch: the image has `grid * patch` pixels a side.
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
}

impl DecoderConfig {
    /// ViT-B: 86 million parameters.
    pub fn base() -> Self {
        Self::published(768, 12, 12, 3072)
    }

    /// ViT-L: 304 million parameters.
    pub fn large() -> Self {
        Self::published(1024, 24, 16, 4096)
    }

    /// ViT-XL: 415 million parameters.
    pub fn extra_large() -> Self {
        Self::published(1152, 28, 16, 4096)
    }

    /// Images of 256 px from 256 features of width 768.
    fn published(width: usize, depth: usize, heads: usize, hidden: usize) -> Self {
        Self { features: 768, grid: 16, patch: 16, channels: 3, width, depth, heads, hidden }
    }

    /// What is wrong with these numbers, if anything: a sentence for whoever wrote them.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("features", self.features),
            ("grid", self.grid),
            ("patch", self.patch),
            ("channels", self.channels),
            ("width", self.width),
            ("depth", self.depth),
            ("heads", self.heads),
            ("hidden", self.hidden),
        ] {
            if value == 0 {
                return Err(format!("{name} must be at least 1, found 0"));
            }
        }
        let Self { width, heads, .. } = *self;
        if !width.is_multiple_of(4) || !width.is_multiple_of(heads) {
            return Err(format!("width must be divisible by 4 and by heads, found width {width} and {heads} heads"));
        }
        let values = patch_values(self.channels, self.patch);
        countable(self.depth, self.grid, 0, &[width as f64, self.hidden as f64, self.features as f64, values])
    }

    /// Number of parameters, the frozen table included.
    pub fn parameters(&self) -> u64 {
        let Self { features, grid, width, .. } = *self;
        let values = self.values();
        let ends = (1 + grid * grid) * width + width + features * width + width + 2 * width + width * values + values;
        self.depth as u64 * self.block().parameters() + ends as u64
    }

    /// Multiplications with addition of one image's forward pass: matrix products alone.
    pub fn multiply_adds(&self) -> u64 {
        let tokens = self.grid * self.grid;
        let ends = tokens * self.width * (self.features + self.values());
        self.depth as u64 * self.block().multiply_adds(tokens + 1) + ends as u64
    }

    /// A network with the initial values of the published training code, which depend on `seed` alone: PyTorch's own
    /// laws, a class token of zeros.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> Decoder {
        if let Err(fault) = self.check() {
            panic!("{fault}");
        }
        let init = &Initializer::new(seed, device);
        let Self { features, grid, patch, width, .. } = *self;
        let block = self.block();
        let mut positions = vec![0.0; width];
        positions.extend(sin_cos_2d([grid, grid], width));
        Decoder {
            pos_embed: init.frozen([1, 1 + grid * grid, width], positions),
            class_token: init.zeros([1, 1, width]),
            embed: init.pytorch_linear(features, width),
            blocks: (0..self.depth).map(|_| block.init(init, |i, o| init.pytorch_linear(i, o))).collect(),
            norm: LayerNorm::new(width, block.epsilon, init),
            pred: init.pytorch_linear(width, self.values()),
            grid,
            patch,
        }
    }

    /// Values of a patch.
    fn values(&self) -> usize {
        self.patch * self.patch * self.channels
    }

    fn block(&self) -> VitBlockConfig {
        let Self { width, heads, hidden, .. } = *self;
        VitBlockConfig { width, heads, hidden, epsilon: 1e-12, gelu: Gelu::Exact, scaled: false, causal: false }
    }
}
