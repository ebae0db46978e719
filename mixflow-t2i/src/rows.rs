//! Tensors that two codes store with their rows apart, together or in another order.

use std::{iter, mem};

use mixflow::backbones::weights::LazyTensor;

/// What a tensor of another code is under the names that a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// The same.
    Same,
    /// The same with its halves exchanged: shift and scale change places.
    Swapped,
    /// A tensor for each of these shares of its rows, in their order.
    Split(&'static [usize]),
}

/// Queries, keys and values.
pub(crate) const QKV: Rows = Rows::Split(&[1, 1, 1]);

impl Rows {
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
