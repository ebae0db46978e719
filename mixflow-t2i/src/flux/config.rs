//! The published sizes, and any other.

use burn::module::Module;
use burn::tensor::Device;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Activations, Invalid};
use mixflow::recipe::Sides;
use serde::{Deserialize, Serialize};

use super::{Flux, PATCH, SingleBlock};
use crate::mmdit::{FREQUENCIES, JointBlock, MlpEmbedder, Modulation};
use crate::shape::{LARGEST, TextInputShape, check_axes, check_sizes};

/// Shape of a [`Flux`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FluxConfig {
    /// Side of the square latents that it is trained on, divisible by 2: 128 for 1024 px. Others are taken too.
    pub input_size: usize,
    /// Channels of the latents.
    pub channels: usize,
    /// Width of a token; divisible by `heads`. Perceptrons are four times as wide.
    pub width: usize,
    /// Number of blocks in which image and text are apart.
    pub depth: usize,
    /// Number of blocks in which they are one, after the others.
    pub single_depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// How many numbers of a head turn with nothing, with the row and with the column: even, together a head's width.
    pub axes: [usize; 3],
    /// Width of a token of the text.
    pub context_width: usize,
    /// Width of the text as a whole.
    pub pooled_width: usize,
    /// The scale of guidance that it is told in training, and in sampling unless that says another; none of a network that is
    /// told none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
}

impl FluxConfig {
    /// That of FLUX.1-schnell: 11.9 billion parameters.
    ///
    /// # Source
    /// `transformer/config.json` of `black-forest-labs/FLUX.1-schnell`.
    pub fn schnell() -> Self {
        Self {
            input_size: 128,
            channels: 16,
            width: 3072,
            depth: 19,
            single_depth: 38,
            heads: 24,
            axes: [16, 56, 56],
            context_width: 4096,
            pooled_width: 768,
            guidance: None,
        }
    }

    /// That of FLUX.1-dev, told a guidance of 1: 11.9 billion parameters.
    ///
    /// # Source
    /// `transformer/config.json` of `black-forest-labs/FLUX.1-dev`; `--guidance_scale=1` of `examples/dreambooth/README_flux.md`
    /// in `diffusers` for training.
    pub fn dev() -> Self {
        Self { guidance: Some(1.0), ..Self::schnell() }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { input_size, width, heads, axes, .. } = *self;
        check_sizes(&[
            ("input_size", input_size),
            ("channels", self.channels),
            ("width", width),
            ("depth", self.depth),
            ("single_depth", self.single_depth),
            ("heads", heads),
            ("context_width", self.context_width),
            ("pooled_width", self.pooled_width),
        ])?;
        if !input_size.is_multiple_of(PATCH) {
            return Err(Invalid::new("input_size", format!("must be divisible by {PATCH}, found {input_size}")));
        }
        check_axes(width, heads, axes)?;
        match self.guidance.filter(|scale| !(scale.is_finite() && *scale >= 0.0)) {
            Some(scale) => Err(Invalid::new("guidance", format!("must be 0 or above, found {scale}"))),
            None => Ok(()),
        }
    }

    /// Number of parameters; nothing is allocated for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        self.init(0, &Device::flex()).num_params() as u64
    }

    /// Multiplications with addition of the forward pass of one image of [`shape`](Self::shape) beside so many tokens of text:
    /// matrix products alone.
    pub fn multiply_adds(&self, text: usize) -> u64 {
        let Self { width, depth, single_depth: single, .. } = *self;
        let (image, square) = (self.tokens(), width * width);
        let all = image + text;
        let blocks = (depth + single) * (12 * square * all + 2 * width * all * all);
        let modulations = square * (12 * depth + 3 * single + 2);
        let vectors = [Some(FREQUENCIES), Some(self.pooled_width), self.guidance.map(|_| FREQUENCIES)];
        let vectors: usize = vectors.into_iter().flatten().map(|inputs| inputs * width + square).sum();
        let ends = width * (2 * image * self.values() + text * self.context_width);
        (blocks + modulations + vectors + ends) as u64
    }

    /// What a training step keeps of one image and `text` tokens for its backward pass.
    pub fn activations(&self, text: usize) -> Activations {
        let (all, width) = (self.tokens() + text, self.width);
        // Image and text are modulated apart, then together.
        let apart = Activations::of_blocks(self.depth, [all, 2, width, 4 * width]);
        // Queries, keys and values, what attention makes of them, the hidden layer, and what is added.
        let block = [(all + 3) * width, 9 * all * width];
        apart.and(Activations::of_stack(self.single_depth, all * width, block, [6 * all * width, 4 * all * width]))
    }

    /// What it is told of a text.
    pub fn text_input_shape(&self) -> TextInputShape {
        TextInputShape { width: self.context_width, pooled: Some(self.pooled_width), length: None }
    }

    /// Those of an image.
    fn tokens(&self) -> usize {
        (self.input_size / PATCH).pow(2)
    }

    /// Those of a patch.
    pub(super) fn values(&self) -> usize {
        PATCH * PATCH * self.channels
    }

    /// Channels, height and width of the latents that it is made for.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.input_size, self.input_size]
    }

    /// Heights and widths of latents that it takes: its places are computed.
    pub fn sides(&self) -> Sides {
        Sides { step: PATCH, most: PATCH * LARGEST, key: "network.transformer" }
    }

    /// A network with initial values that depend on `seed` alone, drawn as those of an [`MmDit`](crate::MmDit): it predicts
    /// zero.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> Flux {
        if let Err(fault) = self.check() {
            panic!("{fault}");
        }
        let init = &Initializer::new(seed, device);
        let Self { channels, width, heads, axes, .. } = *self;
        let vector = |inputs| MlpEmbedder::new(inputs, width, init);
        Flux {
            x_embedder: init.xavier_linear(self.values(), width),
            timestep_embedder: vector(FREQUENCIES),
            guidance_embedder: self.guidance.map(|_| vector(FREQUENCIES)),
            text_embedder: vector(self.pooled_width),
            context_embedder: init.xavier_linear(self.context_width, width),
            transformer_blocks: (0..self.depth)
                .map(|_| JointBlock::new([width, heads], true, false, false, init))
                .collect(),
            single_transformer_blocks: (0..self.single_depth).map(|_| SingleBlock::new([width, heads], init)).collect(),
            norm_out: Modulation::new(width, 2, init),
            proj_out: init.zero_linear(width, self.values()),
            guidance: self.guidance.unwrap_or(0.0),
            axes,
            channels,
        }
    }
}
