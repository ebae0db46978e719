//! What the blocks of `LightningDiT` and DiT^DH are made of.

use serde::{Deserialize, Serialize};

use crate::Linear;
use crate::block::{AdaLnBlock, Attention, NormKind, Perceptron, PerceptronKind};
use crate::init::Initializer;

/// The parts of a block; the default is that of every published network.
///
/// # Source
/// Yao et al. 2025 (arXiv 2501.01423), section 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LightningParts {
    /// Kind of normalisation.
    pub norm: NormKind,
    /// Kind of perceptron.
    pub perceptron: PerceptronKind,
    /// Whether queries and keys are normalised.
    pub qk_norm: bool,
}

impl LightningParts {
    /// A block of this width, number of heads and hidden width, of layers from `linear`.
    pub(crate) fn block(
        self,
        [width, heads, hidden]: [usize; 3],
        linear: impl Fn(usize, usize) -> Linear,
        init: &Initializer,
    ) -> AdaLnBlock<Perceptron> {
        let attn = Attention::new(width, heads, &linear);
        let attn = if self.qk_norm { attn.with_qk_norm(self.norm, init) } else { attn };
        AdaLnBlock::new(width, attn, Perceptron::new(width, hidden, self.perceptron, linear), self.norm, init)
    }

    /// Parameters of a block of this width, number of heads and hidden width.
    pub(crate) fn block_parameters(self, [width, heads, hidden]: [usize; 3]) -> usize {
        let linear = |inputs: usize, outputs: usize| (inputs + 1) * outputs;
        let norms = match self.norm {
            NormKind::Rms => 2 * width,
            NormKind::Layer => 0,
        };
        let heads = match (self.qk_norm, self.norm) {
            (false, _) => 0,
            (true, NormKind::Rms) => 2 * width / heads,
            (true, NormKind::Layer) => 4 * width / heads,
        };
        let perceptron = match self.perceptron {
            PerceptronKind::SwiGlu => linear(width, 2 * hidden) + linear(hidden, width),
            PerceptronKind::Gelu => linear(width, hidden) + linear(hidden, width),
        };
        norms + heads + linear(width, 3 * width) + linear(width, width) + perceptron + linear(width, 6 * width)
    }

    /// Parameters of a final layer that predicts this many values a token.
    pub(crate) fn final_parameters(self, width: usize, values: usize) -> usize {
        let norm = if self.norm == NormKind::Rms { width } else { 0 };
        norm + (width + 1) * (values + 2 * width)
    }

    /// Multiplications with addition of a block on one image: matrix products alone.
    pub(crate) fn block_multiply_adds(self, [width, _, hidden]: [usize; 3], tokens: usize, conditions: usize) -> usize {
        let matrices = match self.perceptron {
            PerceptronKind::SwiGlu => 3,
            PerceptronKind::Gelu => 2,
        };
        tokens * (4 * width * width + matrices * width * hidden + 2 * tokens * width) + conditions * 6 * width * width
    }

    /// What is wrong with a block of these numbers, if anything.
    pub(crate) fn check([width, heads, hidden]: [usize; 3]) -> Result<(), String> {
        positive(&[("width", width), ("heads", heads), ("hidden", hidden)])?;
        if !width.is_multiple_of(heads.saturating_mul(4)) {
            return Err(format!("width must be divisible by 4 times heads, found width {width} and {heads} heads"));
        }
        Ok(())
    }
}

/// Names the first of these that is zero.
pub(crate) fn positive(numbers: &[(&str, usize)]) -> Result<(), String> {
    match numbers.iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(format!("{name} must be at least 1, found 0")),
        None => Ok(()),
    }
}
