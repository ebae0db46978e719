//! The published sizes, and any other.

use burn::module::Module;
use burn::tensor::Device;
use mixflow::backbones::embed::{PatchEmbedding, sin_cos_2d_spaced};
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Activations, Invalid};
use mixflow::recipe::Sides;
use serde::{Deserialize, Serialize};

use super::{FREQUENCIES, JointBlock, MlpEmbedder, MmDit, Modulation};
use crate::shape::{TextInputShape, check_sizes};

/// Shape of an [`MmDit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmDitConfig {
    /// Side of the square latents that the table of places is made for: 128 for 1024 px. Others are taken too.
    pub input_size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of the latents.
    pub channels: usize,
    /// Width of a token; divisible by four and by `heads`. Perceptrons are four times as wide.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a token of the text.
    pub context_width: usize,
    /// Width of the text as a whole.
    pub pooled_width: usize,
    /// Most tokens along a side of the latents. A smaller one than that of a file of weights takes the middle of its table: with
    /// that of `input_size` Stable Diffusion 3.5 medium needs 25 MB for it, not 906.
    pub table: usize,
    /// Whether queries and keys are normalised.
    #[serde(default)]
    pub qk_norm: bool,
    /// Numbers of the blocks, from 0, with a second attention among the tokens of the image.
    #[serde(default)]
    pub dual_attention: Vec<usize>,
}

impl MmDitConfig {
    /// That of Stable Diffusion 3 medium: 2 billion parameters.
    ///
    /// # Source
    /// `transformer/config.json` of `stabilityai/stable-diffusion-3-medium-diffusers`.
    pub fn stable_diffusion_3_medium() -> Self {
        Self {
            input_size: 128,
            patch: 2,
            channels: 16,
            width: 1536,
            depth: 24,
            heads: 24,
            context_width: 4096,
            pooled_width: 2048,
            table: 192,
            qk_norm: false,
            dual_attention: vec![],
        }
    }

    /// That of Stable Diffusion 3.5 medium, `MMDiT-X`: 2.2 billion parameters.
    ///
    /// # Source
    /// `transformer/config.json` of `stabilityai/stable-diffusion-3.5-medium`.
    pub fn stable_diffusion_3_5_medium() -> Self {
        Self { table: 384, qk_norm: true, dual_attention: (0..=12).collect(), ..Self::stable_diffusion_3_medium() }
    }

    /// That of Stable Diffusion 3.5 large, and large turbo: 8 billion parameters.
    ///
    /// # Source
    /// `transformer/config.json` of `stabilityai/stable-diffusion-3.5-large`.
    pub fn stable_diffusion_3_5_large() -> Self {
        Self { width: 2432, depth: 38, heads: 38, qk_norm: true, ..Self::stable_diffusion_3_medium() }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { input_size, patch, width, depth, heads, .. } = *self;
        check_sizes(&[
            ("input_size", input_size),
            ("patch", patch),
            ("channels", self.channels),
            ("width", width),
            ("depth", depth),
            ("heads", heads),
            ("context_width", self.context_width),
            ("pooled_width", self.pooled_width),
            ("table", self.table),
        ])?;
        if !input_size.is_multiple_of(patch) {
            let reason = format!("must be divisible by patch, found {input_size} and {patch}");
            return Err(Invalid::new("input_size", reason));
        }
        if !width.is_multiple_of(4) || !width.is_multiple_of(heads) {
            let reason = format!("must be divisible by 4 and by heads, found width {width} and {heads} heads");
            return Err(Invalid::new("width", reason));
        }
        if input_size / patch > self.table {
            let (side, table) = (input_size / patch, self.table);
            let reason = format!("must hold latents of input_size, {side} tokens a side, found {table}");
            return Err(Invalid::new("table", reason));
        }
        if let Some(block) = self.dual_attention.iter().find(|&&block| block >= depth) {
            let reason = format!("must be numbers of blocks, 0 to {}, found {block}", depth - 1);
            return Err(Invalid::new("dual_attention", reason));
        }
        Ok(())
    }

    /// Number of parameters, without the table of places; nothing is allocated for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        (self.init(0, &Device::flex()).num_params() - self.table.pow(2) * self.width) as u64
    }

    /// Multiplications with addition of the forward pass of one image of [`shape`](Self::shape) beside so many tokens of text:
    /// matrix products alone.
    pub fn multiply_adds(&self, text: usize) -> u64 {
        let Self { width, depth, patch, channels, .. } = *self;
        let (image, patch, last) = (self.tokens(), patch * patch * channels, depth - 1);
        let (square, all) = (width * width, image + text);
        // Queries, keys and values, their result and a perceptron; the text leaves the last block after the first three.
        let layers = 12 * square * (depth * image + last * text) + 3 * square * text;
        let attention = 2 * width * depth * all * all;
        let dual = self.dual_attention.len() * (4 * square * image + 2 * width * image * image + 3 * square);
        let modulations = square * (6 * depth + 6 * last + 2 + 2);
        let ends =
            width * (2 * image * patch + text * self.context_width + FREQUENCIES + self.pooled_width) + 2 * square;
        (layers + attention + dual + modulations + ends) as u64
    }

    /// What a training step keeps of one image and `text` tokens for its backward pass.
    pub fn activations(&self, text: usize) -> Activations {
        let (all, image) = (self.tokens() + text, self.tokens());
        let Self { width, depth, .. } = *self;
        // Image and text are modulated apart.
        let blocks = Activations::of_blocks(depth, [all, 2, width, 4 * width]);
        // Queries, keys and values of a second attention, its result and what it adds; three more vectors of modulation.
        let dual = self.dual_attention.len() as u64;
        let (sums, products) = ((3 * width) as u64, (5 * image * width) as u64);
        let [of_sums, of_products] = blocks.block;
        let some = dual.min(1);
        Activations {
            sums: blocks.sums + dual * sums,
            products: blocks.products + dual * products,
            block: [of_sums + some * sums, of_products + some * products],
            ..blocks
        }
    }

    /// What it is told of a text.
    pub fn text_input_shape(&self) -> TextInputShape {
        TextInputShape { width: self.context_width, pooled: Some(self.pooled_width), length: None }
    }

    /// Those of an image.
    fn tokens(&self) -> usize {
        (self.input_size / self.patch).pow(2)
    }

    /// Channels, height and width of the latents that it is made for.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.input_size, self.input_size]
    }

    /// Heights and widths of latents that it takes: as many tokens as its table has places.
    pub fn sides(&self) -> Sides {
        Sides { step: self.patch, most: self.patch * self.table, key: "network.transformer.table" }
    }

    /// A network with initial values that depend on `seed` alone: it predicts zero.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    ///
    /// # Source
    /// Those of DiT, which this network extends: Peebles and Xie 2023 (arXiv 2212.09748), `facebookresearch/DiT`, `models.py`.
    /// Linear layers and patches are Xavier-uniform with zero biases, the layers behind time and pooled text `N(0, 0.02²)`,
    /// modulations and the last layer zero. Esser et al. 2024 (arXiv 2403.03206) name none, and Stability's training code is
    /// not published.
    pub fn init(&self, seed: u64, device: &Device) -> MmDit {
        if let Err(fault) = self.check() {
            panic!("{fault}");
        }
        let init = &Initializer::new(seed, device);
        let Self { input_size, patch, channels, width, depth, heads, table, qk_norm, .. } = *self;
        let spacing = (input_size / patch) as f64 / table as f64;
        let vector = |inputs| MlpEmbedder::new(inputs, width, init);
        let block = |index: usize| {
            let dual = self.dual_attention.contains(&index);
            JointBlock::new([width, heads], qk_norm, dual, index + 1 == depth, init)
        };
        MmDit {
            pos_embed: init
                .frozen_by([1, table * table, width], move || sin_cos_2d_spaced([table, table], spacing, width)),
            x_embedder: PatchEmbedding::new(channels, patch, width, init),
            timestep_embedder: vector(FREQUENCIES),
            text_embedder: vector(self.pooled_width),
            context_embedder: init.xavier_linear(self.context_width, width),
            transformer_blocks: (0..depth).map(block).collect(),
            norm_out: Modulation::new(width, 2, init),
            proj_out: init.zero_linear(width, patch * patch * channels),
            table,
            patch,
        }
    }
}
