//! The published sizes, and any other.

use burn::module::Module;
use burn::tensor::Device;
use mixflow::backbones::block::RmsNorm;
use mixflow::backbones::embed::TimestepEmbedding;
use mixflow::backbones::init::Initializer;
use mixflow::backbones::{Activations, Convolution, Invalid};
use mixflow::recipe::Sides;
use serde::{Deserialize, Serialize};

use super::{Bottleneck, DoubleBlock, EPSILON, FinalLayer, MmJit, Stream};
use crate::shape::{LARGEST, TextInputShape, check_sizes};

/// Shape of an [`MmJit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmJitConfig {
    /// Side of the square images that it is trained on. Others are taken too.
    pub input_size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Width of a token; divisible by four and by four times `heads`.
    pub width: usize,
    /// Number of blocks of image and text.
    pub depth: usize,
    /// Number of blocks of the text alone, before the others.
    pub preamble: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the perceptrons.
    pub hidden: usize,
    /// Numbers that a patch goes through before it is a token.
    pub bottleneck: usize,
    /// Width of a token of the text.
    pub context_width: usize,
    /// Most tokens of a text.
    pub context_length: usize,
}

impl MmJitConfig {
    /// MiniT2I-B/16: 258 million parameters.
    ///
    /// # Source
    /// `MMJiTConfig` of `Hope7Happiness/minit2i-torch` at e54e15d, `diffusers/mmdit.py`.
    pub fn base() -> Self {
        Self {
            input_size: 512,
            patch: 16,
            channels: 3,
            width: 768,
            depth: 17,
            preamble: 2,
            heads: 12,
            hidden: 2048,
            bottleneck: 128,
            context_width: 1024,
            context_length: 256,
        }
    }

    /// MiniT2I-L/16: 912 million parameters.
    ///
    /// # Source
    /// As of [`base`](Self::base): defaults of the classes.
    pub fn large() -> Self {
        Self { width: 1248, depth: 23, heads: 24, hidden: 3376, ..Self::base() }
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { input_size, patch, width, heads, .. } = *self;
        check_sizes(&[
            ("input_size", input_size),
            ("patch", patch),
            ("channels", self.channels),
            ("width", width),
            ("depth", self.depth),
            ("heads", heads),
            ("hidden", self.hidden),
            ("bottleneck", self.bottleneck),
            ("context_width", self.context_width),
            ("context_length", self.context_length),
        ])?;
        // None is fine.
        check_sizes(&[("preamble", self.preamble.max(1))])?;
        if !input_size.is_multiple_of(patch) {
            let reason = format!("must be divisible by patch, found {input_size} and {patch}");
            return Err(Invalid::new("input_size", reason));
        }
        if !width.is_multiple_of(4 * heads) {
            let reason = format!("must be divisible by 4 times heads, found width {width} and {heads} heads");
            return Err(Invalid::new("width", reason));
        }
        Ok(())
    }

    /// Number of parameters, those that published files have and nobody uses included; nothing is allocated for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        self.init(0, &Device::flex()).num_params() as u64
    }

    /// Multiplications with addition of the forward pass of one image beside so many tokens of text: matrix products alone.
    pub fn multiply_adds(&self, text: usize) -> u64 {
        let Self { width, depth, preamble, hidden, bottleneck, .. } = *self;
        let (image, values) = (self.tokens(), self.patch * self.patch * self.channels);
        // Queries, keys and values, their result, and a perceptron; the text leaves the last block after the first three.
        let after = width * (width + 3 * hidden);
        let layer = 3 * width * width + after;
        let layers = layer * (depth * (image + text) + preamble * text) - after * text;
        let attention = 2 * width * (depth * (image + text).pow(2) + preamble * text * text);
        let ends = image * (bottleneck * (values + width) + width * values) + text * self.context_width * width;
        (layers + attention + ends) as u64
    }

    /// What a training step keeps of one image and `text` tokens for its backward pass.
    pub fn activations(&self, text: usize) -> Activations {
        let Self { width, hidden, .. } = *self;
        let blocks = |depth: usize, tokens: usize| {
            // What either branch is given; queries, keys and values, what attention makes of them, and both hidden layers.
            let block = [2 * width, 4 * width + 2 * hidden].map(|numbers| tokens * numbers);
            let gradients = [width + hidden, 2 * hidden].map(|numbers| tokens * numbers);
            Activations::of_stack(depth, tokens * width, block, gradients)
        };
        blocks(self.depth, self.tokens() + text).and(blocks(self.preamble, text))
    }

    /// What it is told of a text.
    pub fn text_input_shape(&self) -> TextInputShape {
        TextInputShape { width: self.context_width, pooled: None, length: Some(self.context_length) }
    }

    /// Those of an image.
    fn tokens(&self) -> usize {
        (self.input_size / self.patch).pow(2)
    }

    /// Channels, height and width of the images.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.input_size, self.input_size]
    }

    /// Heights and widths of images that it takes: its places are computed.
    pub fn sides(&self) -> Sides {
        Sides { step: self.patch, most: self.patch.saturating_mul(LARGEST), key: "network.transformer" }
    }

    /// A network with initial values that depend on `seed` alone: it predicts zero.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    ///
    /// # Source
    /// `mini_t2i/model.py` of `Hope7Happiness/minit2i-torch` at e54e15d: perceptrons and patches are Xavier-uniform, other
    /// layers as PyTorch draws them, the learned token `N(0, 0.02²)`, the last layer zero.
    pub fn init(&self, seed: u64, device: &Device) -> MmJit {
        if let Err(fault) = self.check() {
            panic!("{fault}");
        }
        let init = &Initializer::new(seed, device);
        let Self { patch, channels, width, depth, heads, hidden, bottleneck, context_width, .. } = *self;
        let sizes = [width, heads, hidden];
        let context = || init.pytorch_linear(context_width, width).without_bias();
        MmJit {
            mask_token: init.normal([1, 1, context_width], 0.02),
            img_embedder: Bottleneck {
                proj1: Convolution { weight: init.xavier([bottleneck, channels, patch, patch]), bias: None },
                proj2: Convolution { weight: init.xavier([width, bottleneck, 1, 1]), bias: Some(init.zeros([width])) },
            },
            txt_embedder: context(),
            t_embedder: TimestepEmbedding::new(width, init).no_grad(),
            pooled_embedder: context().no_grad(),
            txt_preamble_blocks: (0..self.preamble).map(|_| Stream::new(sizes, true, init)).collect(),
            double_blocks: (1..=depth).map(|number| DoubleBlock::new(sizes, number == depth, init)).collect(),
            final_layer: FinalLayer {
                norm_final: RmsNorm::new(width, EPSILON, init),
                linear: init.zero_linear(width, patch * patch * channels),
            },
            head: width / heads,
            patch,
        }
    }
}
