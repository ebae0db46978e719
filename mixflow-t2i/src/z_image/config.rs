//! The published size, and any other.

use burn::module::Module;
use burn::tensor::Device;
use mixflow::backbones::block::RmsNorm;
use mixflow::backbones::embed::TimestepEmbedding;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Activations, Invalid};
use mixflow::recipe::Sides;
use serde::{Deserialize, Serialize};

use super::{Block, EPSILON, FinalLayer, MULTIPLE, PATCH, ZImage};
use crate::mmdit::FREQUENCIES;
use crate::shape::{LARGEST, TextInputShape, check_axes, check_sizes};

/// Most numbers of the vector of the time.
const VECTOR: usize = 256;

/// Hidden numbers of the perceptron that makes it.
const TIME_HIDDEN: usize = 1024;

/// Shape of a [`ZImage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZImageConfig {
    /// Side of the square latents that it is trained on, divisible by 2: 128 for 1024 px. Others are taken too.
    pub input_size: usize,
    /// Channels of the latents.
    pub channels: usize,
    /// Width of a token; divisible by `heads`. Perceptrons have 8/3 of it.
    pub width: usize,
    /// Number of blocks of image and text.
    pub depth: usize,
    /// Number of blocks of the image alone, and of the text alone, before the others.
    pub refiners: usize,
    /// Attention heads.
    pub heads: usize,
    /// How many numbers of a head turn with a token's place in the text, or the image's behind it, with the row and with the column:
    /// even, together a head's width.
    pub axes: [usize; 3],
    /// Width of a token of the text.
    pub context_width: usize,
}

impl ZImageConfig {
    /// That of Z-Image and Z-Image-Turbo: 6.2 billion parameters.
    ///
    /// # Source
    /// Defaults of `ZImageTransformer2DModel` of `diffusers` 0.42.1.
    pub fn published() -> Self {
        Self {
            input_size: 128,
            channels: 16,
            width: 3840,
            depth: 30,
            refiners: 2,
            heads: 30,
            axes: [32, 48, 48],
            context_width: 2560,
        }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { input_size, width, heads, .. } = *self;
        check_sizes(&[
            ("input_size", input_size),
            ("channels", self.channels),
            ("width", width),
            ("depth", self.depth),
            ("heads", heads),
            ("context_width", self.context_width),
        ])?;
        // None is fine.
        check_sizes(&[("refiners", self.refiners.max(1))])?;
        if !input_size.is_multiple_of(PATCH) {
            return Err(Invalid::new("input_size", format!("must be divisible by {PATCH}, found {input_size}")));
        }
        check_axes(width, heads, self.axes)
    }

    /// Number of parameters; nothing is allocated for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        self.init(0, &Device::flex()).num_params() as u64
    }

    /// Multiplications with addition of the forward pass of one image of [`shape`](Self::shape) beside so many tokens of text, filled
    /// up: matrix products alone.
    pub fn multiply_adds(&self, text: usize) -> u64 {
        let Self { width, depth, refiners, .. } = *self;
        let ([image, text], values, vector) = (self.filled(text), self.values(), self.vector());
        let layer = 4 * width * width + 3 * width * self.hidden();
        let blocks = |blocks: usize, tokens: usize| blocks * tokens * (layer + 2 * width * tokens);
        let all = blocks(depth, image + text) + blocks(refiners, image) + blocks(refiners, text);
        let modulations = vector * width * (4 * (depth + refiners) + 1);
        let time = TIME_HIDDEN * (FREQUENCIES + vector);
        let ends = width * (2 * self.tokens() * values + text * self.context_width);
        (all + modulations + time + ends) as u64
    }

    /// What a training step keeps of one image and `text` tokens for its backward pass.
    pub fn activations(&self, text: usize) -> Activations {
        let [image, text] = self.filled(text);
        let width = self.width;
        let blocks = |depth: usize, tokens: usize| {
            // What either branch is given, scales and gates; queries, keys and values, what attention makes of them, what either
            // branch gives, and both hidden layers.
            let sums = (2 * tokens + 4) * width;
            let products = tokens * (6 * width + 2 * self.hidden());
            let gradients = [width + self.hidden(), 2 * self.hidden()].map(|numbers| tokens * numbers);
            Activations::of_stack(depth, tokens * width, [sums, products], gradients)
        };
        blocks(self.depth, image + text).and(blocks(self.refiners, image)).and(blocks(self.refiners, text))
    }

    /// What it is told of a text.
    pub fn text_input_shape(&self) -> TextInputShape {
        TextInputShape { width: self.context_width, pooled: None, length: None }
    }

    /// Those of an image.
    fn tokens(&self) -> usize {
        (self.input_size / PATCH).pow(2)
    }

    /// Tokens of an image and of such a text, filled up.
    fn filled(&self, text: usize) -> [usize; 2] {
        [self.tokens(), text].map(|tokens| tokens.next_multiple_of(MULTIPLE))
    }

    /// Those of a patch.
    fn values(&self) -> usize {
        PATCH * PATCH * self.channels
    }

    /// Hidden numbers of a token, as Python rounds them.
    fn hidden(&self) -> usize {
        (self.width as f64 / 3.0 * 8.0) as usize
    }

    /// Numbers of the vector of the time.
    fn vector(&self) -> usize {
        self.width.min(VECTOR)
    }

    /// Channels, height and width of the latents that it is made for.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.input_size, self.input_size]
    }

    /// Heights and widths of latents that it takes: its places are computed.
    pub fn sides(&self) -> Sides {
        Sides { step: PATCH, most: PATCH * LARGEST, key: "network.transformer" }
    }

    /// A network with initial values that depend on `seed` alone: it predicts zero. Layers of blocks are drawn as those of an
    /// [`MmDit`](crate::MmDit), learned tokens `N(0, 0.02²)`.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> ZImage {
        if let Err(fault) = self.check() {
            panic!("{fault}");
        }
        let init = &Initializer::new(seed, device);
        let Self { channels, width, heads, axes, context_width, .. } = *self;
        let (values, vector) = (self.values(), self.vector());
        let blocks = |count: usize, vector: Option<usize>| {
            (0..count).map(|_| Block::new([width, heads, self.hidden()], vector, init)).collect()
        };
        let time = |inputs, outputs| init.normal_linear(inputs, outputs, 0.02);
        ZImage {
            x_embedder: init.xavier_linear(values, width),
            t_embedder: TimestepEmbedding { mlp: vec![time(FREQUENCIES, TIME_HIDDEN), time(TIME_HIDDEN, vector)] },
            cap_norm: RmsNorm::new(context_width, EPSILON, init),
            cap_embedder: init.xavier_linear(context_width, width),
            x_pad_token: init.normal([1, width], 0.02),
            cap_pad_token: init.normal([1, width], 0.02),
            noise_refiner: blocks(self.refiners, Some(vector)),
            context_refiner: blocks(self.refiners, None),
            layers: blocks(self.depth, Some(vector)),
            final_layer: FinalLayer {
                ada_ln: init.zero_linear(vector, width),
                linear: init.zero_linear(width, values),
            },
            axes,
            channels,
            dropping: None,
        }
    }
}
