//! The published sizes, and any other.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::DitDh;
use crate::block::FinalLayer;
use crate::embed::{FourierEmbedding, LabelEmbedding, PatchEmbedding, RotaryTable, sin_cos_2d};
use crate::init::Initializer;
use crate::lightning_dit::LightningParts;
use crate::sizes::{countable, demand, parameters};
use crate::{Activations, Invalid};

/// Shape of a [`DitDh`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DitDhConfig {
    /// Side of the square latent, whose every place is a token: 16 for 256 px, 32 for 512 px.
    pub input_size: usize,
    /// Channels of the latent.
    pub channels: usize,
    /// The deep stack, which makes the conditions.
    pub encoder: Stack,
    /// The wide stack, which predicts.
    pub head: Stack,
    /// Number of classes; the null label is this number.
    pub classes: usize,
    /// Whether the label table has a row for no class (networks trained with label dropout).
    #[serde(default = "crate::json::yes")]
    pub null_class: bool,
    /// Whether a position table is added to the encoder's tokens, beside the rotary positions.
    #[serde(default = "crate::json::yes")]
    pub position_table: bool,
    /// What the blocks are made of.
    #[serde(default)]
    pub parts: LightningParts,
    /// Whether the position table and the frequencies of time are trained, as RAE's `train.py` does.
    #[serde(default = "crate::json::yes")]
    pub trained_tables: bool,
}

/// Blocks of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Width of a token; divisible by four times `heads`.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the perceptrons.
    pub hidden: usize,
}

impl Stack {
    /// `SwiGLU` perceptrons of the published proportion, 8/3 of the width.
    fn published(width: usize, depth: usize, heads: usize) -> Self {
        Self { width, depth, heads, hidden: 4 * width * 2 / 3 }
    }

    fn block(&self) -> [usize; 3] {
        [self.width, self.heads, self.hidden]
    }
}

impl DitDhConfig {
    /// DiT^DH-S: 196 million parameters, most of them in the head; RAE guides the larger ones by it.
    pub fn small() -> Self {
        Self::published(384, 12, 6)
    }

    /// DiT^DH-B: 294 million parameters. The authors publish no file for it; it follows the pattern.
    pub fn base() -> Self {
        Self::published(768, 12, 12)
    }

    /// DiT^DH-L: 622 million parameters. The authors publish no file for it; it follows the pattern.
    pub fn large() -> Self {
        Self::published(1024, 24, 16)
    }

    /// DiT^DH-XL: 839 million parameters.
    pub fn extra_large() -> Self {
        Self::published(1152, 28, 16)
    }

    /// The same for images of 512 px: four times the tokens.
    #[must_use]
    pub fn at_512_px(self) -> Self {
        Self { input_size: 32, ..self }
    }

    /// On the DINOv2-B latents of ImageNet at 256 px, with the head that all published networks have.
    fn published(width: usize, depth: usize, heads: usize) -> Self {
        Self {
            input_size: 16,
            channels: 768,
            encoder: Stack::published(width, depth, heads),
            head: Stack::published(2048, 2, 16),
            classes: 1000,
            null_class: true,
            position_table: true,
            parts: LightningParts::default(),
            trained_tables: true,
        }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        Invalid::unless_positive(&[
            ("input_size", self.input_size),
            ("channels", self.channels),
            ("classes", self.classes),
        ])?;
        for (name, stack) in [("encoder", &self.encoder), ("head", &self.head)] {
            Invalid::unless_positive(&[("depth", stack.depth)])
                .and_then(|()| LightningParts::check(stack.block()))
                .map_err(|fault| fault.within(name))?;
        }
        let Self { encoder, head, .. } = self;
        let widths = [encoder.width, encoder.hidden, head.width, head.hidden, self.channels, 256];
        let depth = encoder.depth.saturating_add(head.depth);
        countable(depth, self.input_size, self.classes, &widths.map(|width| width as f64))
    }

    /// Parameters, tables included; those of rotary positions, which are constants, are not counted.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        demand(self.check());
        let Self { encoder, head, .. } = *self;
        parameters([encoder.depth, head.depth], |[deep, wide], init| {
            let (encoder, head) = (Stack { depth: deep, ..encoder }, Stack { depth: wide, ..head });
            let network = Self { encoder, head, ..self.clone() }.build(init);
            network.num_params() - network.enc_feat_rope.num_params() - network.dec_feat_rope.num_params()
        })
    }

    /// Multiplications with addition of one image's forward pass: matrix products alone.
    pub fn multiply_adds(&self) -> u64 {
        let (tokens, Self { channels, encoder, head, parts, .. }) = (self.side().pow(2), self);
        let blocks =
            |stack: &Stack, conditions| stack.depth * parts.block_multiply_adds(stack.block(), tokens, conditions);
        let projector = if self.projects() { encoder.width * head.width } else { 0 };
        let ends = channels * (encoder.width + 2 * head.width) + projector + 2 * head.width * head.width;
        let time = FourierEmbedding::multiply_adds(encoder.width);
        (tokens * ends + time + blocks(encoder, 1) + blocks(head, tokens)) as u64
    }

    /// Channels, height and width of its latents.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.input_size, self.input_size]
    }

    /// A network with the initial values of the published training code, which depend on `seed` alone: linear layers as
    /// PyTorch draws them.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> DitDh {
        demand(self.check());
        self.build(&Initializer::new(seed, device))
    }

    fn build(&self, init: &Initializer) -> DitDh {
        let Self { channels, encoder, head, parts, trained_tables, .. } = *self;
        let (linear, side) = (|inputs, outputs| init.pytorch_linear(inputs, outputs), self.input_size);
        let places = || {
            let table =
                init.frozen_by([1, side * side, encoder.width], move || sin_cos_2d([side, side], encoder.width));
            table.set_require_grad(trained_tables)
        };
        let blocks = |stack: Stack| (0..stack.depth).map(move |_| parts.block(stack.block(), linear, init));
        DitDh {
            pos_embed: self.position_table.then(places),
            x_embedder: PatchEmbedding::new(channels, 1, head.width, init),
            s_embedder: PatchEmbedding::new(channels, 1, encoder.width, init),
            s_projector: self.projects().then(|| linear(encoder.width, head.width)),
            t_embedder: FourierEmbedding::new(encoder.width, trained_tables, linear, init),
            y_embedder: LabelEmbedding::new(self.classes + usize::from(self.null_class), encoder.width, init),
            enc_feat_rope: RotaryTable::new(&[side, side], encoder.width / encoder.heads, init),
            dec_feat_rope: RotaryTable::new(&[side, side], head.width / head.heads, init),
            blocks: blocks(encoder).chain(blocks(head)).collect(),
            final_layer: FinalLayer::new(head.width, channels, parts.norm, init),
            encoder_depth: encoder.depth,
        }
    }

    /// Tokens along a side.
    pub(crate) fn side(&self) -> usize {
        self.input_size
    }

    /// Of the blocks of both stacks.
    pub(crate) fn activations(&self) -> Activations {
        let tokens = self.side().pow(2);
        let of = |stack: &Stack, conditions| self.parts.activations(stack.depth, stack.block(), tokens, conditions);
        of(&self.encoder, 1).and(of(&self.head, tokens))
    }

    /// Whether the head has another width than the encoder.
    fn projects(&self) -> bool {
        self.encoder.width != self.head.width
    }
}
