//! The published size, and any other.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{LightningDit, LightningParts};
use crate::block::FinalLayer;
use crate::embed::{FourierEmbedding, LabelEmbedding, PatchEmbedding, RotaryTable, sin_cos_2d};
use crate::init::Initializer;
use crate::sizes::{countable, demand, parameters, patch_values, patches_fit};
use crate::{Activations, Invalid};

/// Shape of a [`LightningDit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LightningDitConfig {
    /// Side of the square latent: 16 for 256 px, 32 for 512 px behind RAE's encoders.
    pub input_size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of the latent.
    pub channels: usize,
    /// Width of a token; divisible by four times `heads`.
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
    /// Whether the last layer also predicts sigma.
    #[serde(default)]
    pub learn_sigma: bool,
    /// Whether attention has rotary positions, beside the table that is added to the tokens.
    #[serde(default = "crate::json::yes")]
    pub rotary: bool,
    /// What the blocks are made of.
    #[serde(default)]
    pub parts: LightningParts,
    /// Whether the position table and the frequencies of time are trained, as RAE's `train.py` does.
    #[serde(default = "crate::json::yes")]
    pub trained_tables: bool,
}

impl LightningDitConfig {
    /// `LightningDiT-XL` on the DINOv2-B latents of RAE at 256 px: 677 million parameters.
    pub fn extra_large() -> Self {
        Self {
            input_size: 16,
            patch: 1,
            channels: 768,
            width: 1152,
            depth: 28,
            heads: 16,
            hidden: 3072,
            classes: 1000,
            null_class: true,
            learn_sigma: false,
            rotary: true,
            parts: LightningParts::default(),
            trained_tables: true,
        }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { input_size, patch, channels, depth, classes, .. } = *self;
        Invalid::unless_positive(&[
            ("input_size", input_size),
            ("patch", patch),
            ("channels", channels),
            ("depth", depth),
            ("classes", classes),
        ])?;
        patches_fit(input_size, patch)?;
        LightningParts::check(self.block())?;
        let widths = [self.width as f64, self.hidden as f64, 4.0 * patch_values(channels, patch), 256.0];
        countable(depth, self.side(), classes, &widths)
    }

    /// Parameters, tables included; those of rotary positions, which are constants, are not counted.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        demand(self.check());
        parameters([self.depth], |[depth], init| {
            let network = Self { depth, ..self.clone() }.build(init);
            network.num_params() - network.feat_rope.num_params()
        })
    }

    /// Multiplications with addition of one image's forward pass: matrix products alone.
    pub fn multiply_adds(&self) -> u64 {
        let Self { channels, width, depth, parts, .. } = *self;
        let ends = self.side().pow(2) * width * (channels * self.patch.pow(2) + self.values()) + 2 * width * width;
        let time = FourierEmbedding::multiply_adds(width);
        (depth * parts.block_multiply_adds(self.block(), self.side().pow(2), 1) + ends + time) as u64
    }

    /// Channels, height and width of its latents.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.input_size, self.input_size]
    }

    /// A network with the initial values of the published training code, which depend on `seed` alone: Xavier-uniform
    /// linear layers.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> LightningDit {
        demand(self.check());
        self.build(&Initializer::new(seed, device))
    }

    fn build(&self, init: &Initializer) -> LightningDit {
        let Self { channels, patch, width, parts, .. } = *self;
        let (linear, side) = (|inputs, outputs| init.xavier_linear(inputs, outputs), self.side());
        let places = init.frozen_by([1, side * side, width], move || sin_cos_2d([side, side], width));
        LightningDit {
            pos_embed: places.set_require_grad(self.trained_tables),
            x_embedder: PatchEmbedding::new(channels, patch, width, init),
            t_embedder: FourierEmbedding::new(width, self.trained_tables, linear, init),
            y_embedder: LabelEmbedding::new(self.classes + usize::from(self.null_class), width, init),
            feat_rope: self.rotary.then(|| RotaryTable::new(&[side, side], width / self.heads, init)),
            blocks: (0..self.depth).map(|_| parts.block(self.block(), linear, init)).collect(),
            final_layer: FinalLayer::new(width, self.values(), parts.norm, init),
            channels,
            patch,
        }
    }

    fn block(&self) -> [usize; 3] {
        [self.width, self.heads, self.hidden]
    }

    /// Tokens along a side.
    pub(crate) fn side(&self) -> usize {
        self.input_size / self.patch
    }

    /// Of its blocks.
    pub(crate) fn activations(&self) -> Activations {
        self.parts.activations(self.depth, self.block(), self.side().pow(2), 1)
    }

    /// Numbers that are predicted for a token.
    fn values(&self) -> usize {
        self.patch.pow(2) * self.channels * if self.learn_sigma { 2 } else { 1 }
    }
}
