//! Published weights.

use mixflow::backbones::Error;
use mixflow::backbones::weights::{LazyTensor, Weights};

use super::keys::diffusers_names;
use super::{MmDit, official_key};

impl MmDit {
    /// This network with the weights of a published checkpoint: under the names of `diffusers` or of the Stability code,
    /// alone or in a file with a whole Stable Diffusion. Of a larger table of places than this network's the middle is taken,
    /// which is what images of up to this size take.
    ///
    /// # Errors
    /// As [`Weights::network`], and as [`Weights::into_module`] with the names of `diffusers`.
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let table = self.table;
        let weights = as_diffusers(Self::select_weights(weights)?).flat_map(|name, tensor| {
            let middle = if name == "pos_embed.pos_embed" { middle(&tensor, table) } else { None };
            [(name, middle.unwrap_or(tensor))]
        });
        weights.into_module(self, official_key)
    }

    /// The transformer of a file, alone or in one with a whole Stable Diffusion, which calls it `model.diffusion_model`.
    ///
    /// # Errors
    /// If there are several: as [`Weights::network`].
    pub fn select_weights(weights: Weights) -> Result<Weights, Error> {
        weights.network(&["joint_blocks.0.x_block.attn.qkv.weight", "transformer_blocks.0.attn.to_q.weight"])
    }
}

/// The middle square of `table` by `table` places of a larger square, `[1, side², width]`; none where there is none.
fn middle(places: &LazyTensor, table: usize) -> Option<LazyTensor> {
    let &[1, all, width] = places.shape() else { return None };
    let side = all.isqrt();
    let first = side.checked_sub(table).filter(|outside| outside.is_multiple_of(2))? / 2;
    let rows = (first..first + table).map(|row| row * side + first..row * side + first + table);
    let square = places.clone().reshaped(vec![all, width]).rows(rows)?;
    (side * side == all).then(|| square.reshaped(vec![1, table * table, width]))
}

/// The tensors of a transformer under the names of `diffusers`; names that nobody knows stay as they are.
fn as_diffusers(weights: Weights) -> Weights {
    let blocks = weights
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("joint_blocks.")?.split('.').next()?.parse::<usize>().ok());
    let depth = blocks.max().map_or(0, |last| last.saturating_add(1));
    if depth == 0 {
        return weights;
    }
    weights.flat_map(|name, tensor| match diffusers_names(&name, depth) {
        Some((names, rows)) => rows.named(names, tensor),
        None => vec![(name, tensor)],
    })
}
