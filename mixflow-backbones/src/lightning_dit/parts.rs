//! What the blocks of `LightningDiT` and DiT^DH are made of.

use serde::{Deserialize, Serialize};

use crate::block::{AdaLnBlock, Attention, NormKind, Perceptron, PerceptronKind};
use crate::init::Initializer;
use crate::sizes::block_multiply_adds;
use crate::{Activations, Invalid, Linear};

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

    /// Of blocks on one image.
    pub(crate) fn activations(
        self,
        depth: usize,
        [width, _, hidden]: [usize; 3],
        tokens: usize,
        conditions: usize,
    ) -> Activations {
        let hidden = match self.perceptron {
            PerceptronKind::SwiGlu => 2 * hidden,
            PerceptronKind::Gelu => hidden,
        };
        Activations::of_blocks(depth, [tokens, conditions, width, hidden])
    }

    /// Multiplications with addition of a block on one image: matrix products alone.
    pub(crate) fn block_multiply_adds(self, [width, _, hidden]: [usize; 3], tokens: usize, conditions: usize) -> usize {
        let matrices = match self.perceptron {
            PerceptronKind::SwiGlu => 3,
            PerceptronKind::Gelu => 2,
        };
        block_multiply_adds([width, hidden], matrices, tokens) + conditions * 6 * width * width
    }

    /// What is wrong with a block of these numbers, if anything.
    pub(crate) fn check([width, heads, hidden]: [usize; 3]) -> Result<(), Invalid> {
        Invalid::unless_positive(&[("width", width), ("heads", heads), ("hidden", hidden)])?;
        if !width.is_multiple_of(heads.saturating_mul(4)) {
            let reason = format!("must be divisible by 4 times heads, found width {width} and {heads} heads");
            return Err(Invalid::new("width", reason));
        }
        Ok(())
    }
}
