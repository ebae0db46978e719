//! What a training step keeps for its backward pass.

use crate::Precision;

/// Numbers that a training step keeps of one image for its backward pass, by the blocks of a transformer alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activations {
    /// Sums between the branches, what branches add, and hidden layers before their activation: `f32` in any precision.
    pub sums: u64,
    /// What products are given, in their [`Precision`]: on the CPU, which rounds in `f32`, as many bytes as in `f32`.
    pub products: u64,
    /// What the blocks are given: all that is kept where they are run again.
    pub inputs: u64,
    /// Sums and products of the largest block, kept while it is run again.
    pub block: [u64; 2],
}

impl Activations {
    /// Of `depth` blocks of perceptrons with one hidden layer: tokens, width and hidden width of each.
    pub fn of_blocks(depth: usize, [tokens, width, hidden]: [usize; 3]) -> Self {
        // Two sums, two branches and the hidden layer; two normalised inputs, three of attention and its result, and the
        // hidden layer after its activation.
        let block = [tokens * (4 * width + hidden), tokens * (6 * width + hidden)].map(|numbers| numbers as u64);
        let of_all = |numbers: u64| numbers.saturating_mul(depth as u64);
        Self { sums: of_all(block[0]), products: of_all(block[1]), inputs: of_all((tokens * width) as u64), block }
    }

    /// With the blocks of another stack.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sums: self.sums.saturating_add(other.sums),
            products: self.products.saturating_add(other.products),
            inputs: self.inputs.saturating_add(other.inputs),
            block: if self.block > other.block { self.block } else { other.block },
        }
    }

    /// Bytes of one image.
    #[must_use]
    pub fn bytes(&self, precision: Precision, recompute: bool) -> u64 {
        let product = match precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        };
        let kept = |[sums, products]: [u64; 2]| sums.saturating_mul(4).saturating_add(products.saturating_mul(product));
        match recompute {
            false => kept([self.sums, self.products]),
            true => self.inputs.saturating_mul(4).saturating_add(kept(self.block)),
        }
    }
}
