//! The published size, and any other.

use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::sizes::{countable, patch_values, patches_fit};

/// Shape of a discriminator. The default is RAE's: DINO ViT-S/8 and heads with kernels of nine tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Side to which images are resized; divisible by `patch`.
    pub input_size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Width of a token; divisible by `heads`.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the perceptrons.
    pub hidden: usize,
    /// Blocks, from 0, whose tokens get a head; the last block's tokens get one more.
    pub taps: Vec<usize>,
    /// Tokens that a head's kernel sees; odd.
    pub kernel: usize,
}

impl Default for DiscriminatorConfig {
    fn default() -> Self {
        Self {
            input_size: 224,
            patch: 8,
            width: 384,
            depth: 12,
            heads: 6,
            hidden: 1536,
            taps: vec![2, 5, 8, 11],
            kernel: 9,
        }
    }
}

impl DiscriminatorConfig {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { input_size, patch, width, depth, heads, hidden, ref taps, kernel } = *self;
        Invalid::unless_positive(&[
            ("input_size", input_size),
            ("patch", patch),
            ("width", width),
            ("depth", depth),
            ("heads", heads),
            ("hidden", hidden),
        ])?;
        if !width.is_multiple_of(heads) {
            let reason = format!("must be divisible by heads, found width {width} and {heads} heads");
            return Err(Invalid::new("width", reason));
        }
        patches_fit(input_size, patch)?;
        if !taps.is_sorted_by(|a, b| a < b) || taps.last().is_some_and(|last| *last >= depth) {
            return Err(Invalid::new("taps", format!("must ascend and be below depth, {depth}, found {taps:?}")));
        }
        countable(depth, input_size / patch, 0, &[width as f64, hidden as f64, patch_values(3, patch)])?;
        let tokens = (input_size / patch).pow(2);
        if kernel.is_multiple_of(2) || kernel > tokens {
            let reason = format!("must be odd and at most the number of tokens, {tokens}, found {kernel}");
            return Err(Invalid::new("kernel", reason));
        }
        Ok(())
    }
}
