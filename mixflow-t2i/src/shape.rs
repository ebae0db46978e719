//! What is asked of every transformer's shape: sizes within reason, what it reads of a text, its blocks by number.

use std::fmt;
use std::path::Path;

use mixflow::backbones::diffusers::read_config;
use mixflow::backbones::{Error, Invalid};
use serde::de::DeserializeOwned;

/// Largest of the numbers of a configuration: beyond that, sizes overflow before they mean anything.
pub(crate) const LARGEST: usize = 1 << 16;

/// What a transformer reads of a text, by the keys of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextInputShape {
    /// `context_width`, that of a token.
    pub width: usize,
    /// `pooled_width`, that of the text as a whole; none where it reads tokens alone.
    pub pooled: Option<usize>,
    /// Most tokens; none where any number will do.
    pub length: Option<usize>,
}

impl TextInputShape {
    /// Whether a text has such tokens and such a vector of the whole.
    pub fn fits(self, [width, pooled]: [usize; 2]) -> bool {
        self.width == width && self.pooled.is_none_or(|own| own == pooled)
    }
}

/// The widths by their keys.
impl fmt::Display for TextInputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "context_width {}", self.width)?;
        self.pooled.map_or(Ok(()), |pooled| write!(f, " and pooled_width {pooled}"))
    }
}

/// Refuses sizes that are zero or beyond all reason.
pub(crate) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), Invalid> {
    match sizes.iter().find(|(_, value)| !(1..=LARGEST).contains(value)) {
        Some((name, value)) => Err(Invalid::new(*name, format!("must be from 1 to {LARGEST}, found {value}"))),
        None => Ok(()),
    }
}

/// Refuses heads that do not divide the width, and axes that do not divide a head.
pub(crate) fn check_axes(width: usize, heads: usize, axes: [usize; 3]) -> Result<(), Invalid> {
    if !width.is_multiple_of(heads) {
        let reason = format!("must be divisible by heads, found width {width} and {heads} heads");
        return Err(Invalid::new("width", reason));
    }
    let head = width / heads;
    let sum = axes.iter().fold(0, |sum: usize, axis| sum.saturating_add(*axis));
    if sum != head || axes.iter().any(|axis| *axis == 0 || !axis.is_multiple_of(2)) {
        let reason = format!("must be even and together {head}, the width of a head, found {axes:?}");
        return Err(Invalid::new("axes", reason));
    }
    Ok(())
}

/// All but the blocks of these numbers, from 0.
///
/// # Errors
/// If there is no block of a number.
pub(crate) fn remove_blocks<B: Clone>(all: &[B], blocks: &[usize]) -> Result<Vec<B>, Invalid> {
    if let Some(block) = blocks.iter().find(|&&block| block >= all.len()) {
        return Err(Invalid::new("blocks", format!("must be 0 to {}, found {block}", all.len() - 1)));
    }
    let kept = all.iter().enumerate().filter(|(block, _)| !blocks.contains(block));
    Ok(kept.map(|(_, block)| block.clone()).collect())
}

/// The shape that the `config.json` of a class of `diffusers` describes, read as a `C`, of which `network` makes it.
///
/// # Errors
/// If the file cannot be read, describes something else, or what the network cannot be.
pub(crate) fn config_from_diffusers<C: DeserializeOwned, N>(
    file: &Path,
    class: &str,
    network: impl FnOnce(C) -> Result<N, String>,
) -> Result<N, Error> {
    network(read_config(file, class)?).map_err(|reason| Error::Format {
        path: file.into(),
        problem: format!("describes a network that is not known here: {reason}"),
    })
}
