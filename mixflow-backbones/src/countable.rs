//! Sizes whose parameters and multiplications can be counted.

/// Refuses a transformer whose parameters or multiplications may exceed 2⁶⁰, where counting them would overflow.
///
/// `side` is the number of tokens a side, `labels` that of other vectors in tables, `widths` those of all its layers.
pub(crate) fn countable(depth: usize, side: usize, labels: usize, widths: &[f64]) -> Result<(), String> {
    let (tokens, width) = ((side as f64).powi(2) + labels as f64, widths.iter().sum::<f64>());
    // Each block has fewer than 16 products of two widths for a token, and one with all tokens.
    let most = 16.0 * (depth as f64 + 1.0) * (tokens + 1.0) * width * (width + tokens);
    if most <= 2f64.powi(60) {
        return Ok(());
    }
    Err(format!(
        "{depth} blocks on {side} x {side} tokens, {labels} labels and layers of {width} together are more than can be \
         counted: make them smaller"
    ))
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
