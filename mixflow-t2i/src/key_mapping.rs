//! Tensors that two codes store under other names, with their rows apart, together or in another order.

use std::{iter, mem};

use mixflow::backbones::Error;
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::{LazyTensor, Weights};

/// What a tensor of another code is under the names that a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowLayout {
    /// The same.
    Same,
    /// The same with its halves exchanged: shift and scale change places.
    Swapped,
    /// A tensor for each of these shares of its rows, in their order.
    Split(&'static [usize]),
}

/// Queries, keys and values.
pub(crate) const QKV: RowLayout = RowLayout::Split(&[1, 1, 1]);

/// The names that a network has for a layer of another code, and what is done with its rows.
pub(crate) type MappedKeys = (Vec<String>, RowLayout);

/// Weights under a network's own names of layers, those of another code as `layers` says; it knows none where a name stays.
pub(crate) fn convert_weights(weights: Weights, layers: fn(&str) -> Option<MappedKeys>) -> Weights {
    weights.flat_map(|name, tensor| match name.rsplit_once('.').and_then(|(layer, end)| Some((layers(layer)?, end))) {
        Some(((layers, rows), end)) => {
            rows.named(layers.into_iter().map(|layer| format!("{layer}.{end}")).collect(), tensor)
        }
        None => vec![(name, tensor)],
    })
}

/// An adapter, likewise.
///
/// # Errors
/// If it has one layer by two names.
pub(crate) fn convert_adapter(adapter: Adapter, layers: fn(&str) -> Option<MappedKeys>) -> Result<Adapter, Error> {
    adapter.flat_map(|layer, b| match layers(&layer) {
        Some((layers, rows)) => rows.named(layers, b),
        None => vec![(layer, b)],
    })
}

impl RowLayout {
    /// A tensor under these names. One whose rows do not come out even stays whole under the first, where it does not fit.
    pub(crate) fn named(self, names: Vec<String>, tensor: LazyTensor) -> Vec<(String, LazyTensor)> {
        let parts = self.parts(&tensor);
        names.into_iter().zip(parts.unwrap_or_else(|| vec![tensor])).collect()
    }

    fn parts(self, tensor: &LazyTensor) -> Option<Vec<LazyTensor>> {
        match self {
            Self::Same => None,
            Self::Swapped => {
                let mut halves = tensor.split_rows(2)?;
                halves.reverse();
                Some(vec![LazyTensor::concat_rows(halves)?])
            }
            Self::Split(shares) => {
                let all = shares.iter().sum::<usize>();
                let share = *tensor.shape().first().filter(|rows| rows.is_multiple_of(all))? / all;
                let starts = shares.iter().scan(0, |start, of| Some(mem::replace(start, *start + of * share)));
                let parts = starts.zip(shares).map(|(start, of)| tensor.rows(iter::once(start..start + of * share)));
                parts.collect()
            }
        }
    }
}
