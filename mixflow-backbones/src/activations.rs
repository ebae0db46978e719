//! What a training step keeps for its backward pass.

use crate::Precision;

/// Numbers that a training step keeps of one image for its backward pass, by the blocks of a transformer alone.
///
/// Normalised tokens, queries and keys, and hidden layers behind their activation are not among them: they are computed
/// again ([`Recomputed`](crate::ops::Recomputed)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activations {
    /// Tokens between the branches, and what modulates them: `f32` in any precision.
    pub sums: u64,
    /// Results of products, in their [`Precision`].
    pub products: u64,
    /// What the blocks are given: all that is kept where they are run again.
    pub inputs: u64,
    /// Sums and products of the largest block, kept while it is run again.
    pub block: [u64; 2],
    /// Gradients that are there at once when the backward pass of the largest block begins: of its tokens and of its hidden layer
    /// behind the activation, and of that before it, which is computed in `f32` in any precision.
    pub gradients: [u64; 2],
}

impl Activations {
    /// Of `depth` blocks: tokens, how many conditions modulate them, width, and hidden numbers of a token before the
    /// activation.
    pub fn of_blocks(depth: usize, [tokens, conditions, width, hidden]: [usize; 4]) -> Self {
        // What either branch is given, and shift, scale and gate of both.
        let sums = 2 * tokens * width + 6 * conditions * width;
        // Queries, keys and values, what attention makes of them, what either branch adds, and the hidden layer.
        let products = tokens * (6 * width + hidden);
        Self::of_stack(depth, tokens * width, [sums, products], [tokens * (width + hidden), tokens * hidden])
    }

    /// Of `depth` equal blocks that are given so many numbers each, keep so many sums and products, and begin their backward pass
    /// with so many [gradients](Self::gradients).
    pub fn of_stack(depth: usize, inputs: usize, block: [usize; 2], gradients: [usize; 2]) -> Self {
        let of_all = |numbers: usize| (numbers as u64).saturating_mul(depth as u64);
        let [sums, products] = block.map(of_all);
        let [block, gradients] = [block, gradients].map(|numbers| numbers.map(|numbers| numbers as u64));
        Self { sums, products, inputs: of_all(inputs), block, gradients }
    }

    /// With the blocks of another stack.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sums: self.sums.saturating_add(other.sums),
            products: self.products.saturating_add(other.products),
            inputs: self.inputs.saturating_add(other.inputs),
            block: if self.block > other.block { self.block } else { other.block },
            gradients: self.gradients.max(other.gradients),
        }
    }

    /// Bytes of one image that the backward pass begins with: gradients, and what was kept of the hidden layer before its
    /// activation in 16 bits, widened.
    #[must_use]
    pub fn gradient_bytes(&self, precision: Precision) -> u64 {
        let [others, hidden] = self.gradients;
        let widened = if precision.is_full() { 0 } else { hidden };
        others.saturating_add(hidden).saturating_add(widened).saturating_mul(4)
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
