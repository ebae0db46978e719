//! The published sizes, and any other.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::Decoder;
use crate::Invalid;
use crate::block::Gelu;
use crate::embed::sin_cos_2d;
use crate::init::Initializer;
use crate::sizes::{countable, demand, heads_fit, parameters, patch_values};
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

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        Invalid::unless_positive(&[
            ("features", self.features),
            ("grid", self.grid),
            ("patch", self.patch),
            ("channels", self.channels),
            ("width", self.width),
            ("depth", self.depth),
            ("heads", self.heads),
            ("hidden", self.hidden),
        ])?;
        let Self { width, heads, .. } = *self;
        heads_fit(width, heads)?;
        let values = patch_values(self.channels, self.patch);
        countable(self.depth, self.grid, 0, &[width as f64, self.hidden as f64, self.features as f64, values])
    }

    /// Number of parameters, the frozen table included; nothing is allocated for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        demand(self.check());
        parameters([self.depth], |[depth], init| Self { depth, ..self.clone() }.build(init).num_params())
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
        demand(self.check());
        self.build(&Initializer::new(seed, device))
    }

    fn build(&self, init: &Initializer) -> Decoder {
        let Self { features, grid, patch, width, .. } = *self;
        let block = self.block();
        let positions = move || [vec![0.0; width], sin_cos_2d([grid, grid], width)].concat();
        Decoder {
            pos_embed: init.frozen_by([1, 1 + grid * grid, width], positions),
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
