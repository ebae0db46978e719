//! Published weights.

use mixflow::backbones::Error;
use mixflow::backbones::weights::{LazyTensor, Weights};

use super::keys::{Rows, diffusers_names};
use super::{MmDit, official_key};

/// What a whole Stable Diffusion file puts before the names of its transformer.
const PREFIX: &str = "model.diffusion_model.";

impl MmDit {
    /// This network with the weights of a published checkpoint: under the names of `diffusers` or of the Stability code,
    /// alone or in a file with a whole Stable Diffusion.
    ///
    /// # Errors
    /// As [`Weights::into_module`], with the names of `diffusers`.
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        as_diffusers(weights).into_module(self, official_key)
    }
}

/// The tensors of a transformer under the names of `diffusers`; names that nobody knows stay as they are.
fn as_diffusers(weights: Weights) -> Weights {
    let whole = weights.iter().any(|(name, _)| name.starts_with(PREFIX));
    let blocks = weights.iter().filter_map(|(name, _)| {
        let name = name.strip_prefix(PREFIX).unwrap_or(name).strip_prefix("joint_blocks.")?;
        name.split('.').next()?.parse::<usize>().ok()
    });
    let depth = blocks.max().map_or(0, |last| last.saturating_add(1));
    if !whole && depth == 0 {
        return weights;
    }
    weights.flat_map(|name, tensor| {
        let own = match name.strip_prefix(PREFIX) {
            Some(own) => own,
            None if whole => return vec![],
            None => &name,
        };
        match diffusers_names(own, depth) {
            Some((names, rows)) => renamed(names, rows, tensor),
            None => vec![(own.into(), tensor)],
        }
    })
}

/// A tensor under these names. One whose rows do not come out even stays whole under the first, where it does not fit.
fn renamed(names: Vec<String>, rows: Rows, tensor: LazyTensor) -> Vec<(String, LazyTensor)> {
    let parts = match rows {
        Rows::Same => None,
        Rows::Split => tensor.split_rows(names.len()),
        Rows::Swapped => tensor.split_rows(2).and_then(|mut halves| {
            halves.reverse();
            Some(vec![LazyTensor::concat_rows(halves)?])
        }),
    };
    names.into_iter().zip(parts.unwrap_or_else(|| vec![tensor])).collect()
}
