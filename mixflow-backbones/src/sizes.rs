//! Sizes of networks: what is wrong with them, and what they come to.

use burn::tensor::Device;

use crate::Invalid;
use crate::init::Initializer;

/// Refuses an image that is not made of whole patches.
pub(crate) fn patches_fit(input_size: usize, patch: usize) -> Result<(), Invalid> {
    if input_size.is_multiple_of(patch) {
        return Ok(());
    }
    Err(Invalid::new("input_size", format!("must be divisible by patch, found {input_size} and {patch}")))
}

/// Refuses tokens that are not made of whole heads, or have no place in a sine-cosine table.
pub(crate) fn heads_fit(width: usize, heads: usize) -> Result<(), Invalid> {
    if width.is_multiple_of(4) && width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(Invalid::new("width", format!("must be divisible by 4 and by heads, found width {width} and {heads} heads")))
}

/// # Panics
/// If a check found fault, in its words.
pub(crate) fn demand(check: Result<(), Invalid>) {
    if let Err(fault) = check {
        panic!("{fault}");
    }
}

/// Parameters of a network with stacks of these depths, by those that it has without blocks and with one in a stack.
/// Nothing is drawn for them.
pub(crate) fn parameters<const N: usize>(depths: [usize; N], count: impl Fn([usize; N], &Initializer) -> usize) -> u64 {
    let init = Initializer::new(0, &Device::flex());
    let ends = count([0; N], &init);
    let block = |stack| count(std::array::from_fn(|index| usize::from(index == stack)), &init) - ends;
    (ends + depths.iter().enumerate().map(|(stack, depth)| depth * block(stack)).sum::<usize>()) as u64
}

/// Multiplications with addition of a block's attention and perceptron, which has so many matrices, for one sequence:
/// matrix products alone.
pub(crate) fn block_multiply_adds([width, hidden]: [usize; 2], matrices: usize, tokens: usize) -> usize {
    tokens * (4 * width * width + matrices * width * hidden + 2 * tokens * width)
}

/// Refuses a transformer whose parameters or multiplications may exceed 2⁶⁰, where counting them would overflow.
///
/// `side` is the number of tokens a side, `labels` that of other vectors in tables, `widths` those of all its layers.
pub(crate) fn countable(depth: usize, side: usize, labels: usize, widths: &[f64]) -> Result<(), Invalid> {
    let (tokens, width) = ((side as f64).powi(2) + labels as f64, widths.iter().sum::<f64>());
    // Each block has fewer than 16 products of two widths for a token, and one with all tokens.
    let most = 16.0 * (depth as f64 + 1.0) * (tokens + 1.0) * width * (width + tokens);
    if most <= 2f64.powi(60) {
        return Ok(());
    }
    let reason = format!(
        "and other sizes must be smaller: {depth} blocks on {side} x {side} tokens, {labels} labels and layers of {width} together are more \
         than can be counted"
    );
    Err(Invalid::new("depth", reason))
}

/// Numbers of a patch of an image.
pub(crate) fn patch_values(channels: usize, patch: usize) -> f64 {
    channels as f64 * (patch as f64).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes_are_far_from_the_limit_and_absurd_ones_beyond() {
        // SiT-XL/2 at 512 px with ten times its width and depth.
        assert_eq!(countable(280, 32, 1001, &[11_520.0, 46_080.0]), Ok(()));
        for (depth, side, labels, width) in
            [(usize::MAX, 1, 1, 1.0), (1, usize::MAX, 1, 1.0), (1, 1, usize::MAX, 1.0), (1, 1, 1, 1e18)]
        {
            assert!(countable(depth, side, labels, &[width]).is_err());
        }
    }
}
