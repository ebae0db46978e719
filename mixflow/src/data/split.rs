//! Training data and held-out data.

use std::path::PathBuf;
use std::sync::Arc;

use super::order::Permutation;
use super::{Dataset, Error, Example, Fingerprint, Prior, Variation, own_len};
use crate::random::Stream;

/// Divides a data set at random into one for training and `held_out` examples that training never sees.
///
/// The two are disjoint and together the whole set; the same seed gives the same division. An endless set keeps its
/// first `held_out` examples apart and trains on the rest. Examples for prior preservation are all trained on.
///
/// # Errors
/// If nothing would be left to train on, or `held_out` is zero.
pub fn split(data: &Arc<dyn Dataset>, held_out: u64, seed: u64) -> Result<(Split, Split), Error> {
    let own = own_len(&**data);
    if held_out == 0 || own.is_some_and(|len| held_out >= len) {
        let expected = "at least 1 and less than the number of examples";
        return Err(Error::OutOfRange { name: "held_out", expected, found: held_out });
    }
    let order = own.map(|len| Permutation::new(seed, Stream::Split, 0, len));
    let part = |start, len| Split { data: Arc::clone(data), order: order.clone(), start, len };
    Ok((part(held_out, data.len().map(|len| len - held_out)), part(0, Some(held_out))))
}

/// One side of a [`split`].
#[derive(Clone, Debug)]
pub struct Split {
    data: Arc<dyn Dataset>,
    order: Option<Permutation>,
    start: u64,
    len: Option<u64>,
}

impl Split {
    /// The whole's index of an example of this part.
    fn index(&self, index: u64) -> u64 {
        assert!(self.len.is_none_or(|len| index < len), "index {index} of a part of {:?} examples", self.len);
        let index = self.start + index;
        let own = self.data.prior().is_none_or(|prior| index < prior.first);
        self.order.as_ref().filter(|_| own).map_or(index, |order| order.apply(index))
    }
}

impl Dataset for Split {
    fn len(&self) -> Option<u64> {
        self.len
    }

    fn classes(&self) -> &[String] {
        self.data.classes()
    }

    fn shape(&self) -> [usize; 3] {
        self.data.shape()
    }

    fn buckets(&self) -> &[[usize; 3]] {
        self.data.buckets()
    }

    fn bucket(&self, index: u64) -> usize {
        self.data.bucket(self.index(index))
    }

    fn example(&self, index: u64) -> Result<Example, Error> {
        self.data.example(self.index(index))
    }

    fn label(&self, index: u64) -> Result<usize, Error> {
        self.data.label(self.index(index))
    }

    fn variant(&self, index: u64, variation: Variation) -> Result<Example, Error> {
        self.data.variant(self.index(index), variation)
    }

    fn masked(&self) -> bool {
        self.data.masked()
    }

    fn several_captions(&self) -> bool {
        self.data.several_captions()
    }

    /// None of the held-out part.
    fn prior(&self) -> Option<Prior> {
        self.data.prior().filter(|_| self.start > 0).map(|prior| Prior { first: prior.first - self.start, ..prior })
    }

    fn features(&self) -> Vec<[usize; 2]> {
        self.data.features()
    }

    /// Those of the whole set.
    fn broken(&self) -> Vec<PathBuf> {
        self.data.broken()
    }

    fn remarks(&self) -> Vec<String> {
        self.data.remarks()
    }

    /// Those of the whole set.
    fn notices(&self) -> Vec<String> {
        self.data.notices()
    }

    /// That of the whole set.
    fn stamp(&self) -> Option<String> {
        self.data.stamp()
    }

    /// That of the whole set.
    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        self.data.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Channels, Digits, Shapes};

    fn indices(part: &Split) -> Vec<u64> {
        (0..part.len().unwrap()).map(|i| part.index(i)).collect()
    }

    #[test]
    fn parts_are_disjoint_exhaustive_and_repeatable() {
        let digits: Arc<dyn Dataset> = Arc::new(Digits::new(8, Channels::One).unwrap());
        let (train, held_out) = split(&digits, 300, 7).unwrap();
        assert_eq!((train.len(), held_out.len()), (Some(1497), Some(300)));
        let mut all = [indices(&train), indices(&held_out)].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1797));
        assert_eq!(indices(&held_out), indices(&split(&digits, 300, 7).unwrap().1));
        assert_ne!(indices(&held_out), indices(&split(&digits, 300, 8).unwrap().1));
        let index = held_out.index(5);
        assert_eq!(held_out.example(5).unwrap(), digits.example(index).unwrap());
    }

    #[test]
    fn endless_sets_keep_their_beginning_apart() {
        let shapes: Arc<dyn Dataset> = Arc::new(Shapes::new(8, 0).unwrap());
        let (train, held_out) = split(&shapes, 100, 7).unwrap();
        assert_eq!((train.len(), held_out.len()), (None, Some(100)));
        assert_eq!(train.example(0).unwrap(), shapes.example(100).unwrap());
        assert_eq!(held_out.example(99).unwrap(), shapes.example(99).unwrap());
    }

    #[test]
    fn a_part_without_examples_is_refused() {
        let digits: Arc<dyn Dataset> = Arc::new(Digits::new(8, Channels::One).unwrap());
        for held_out in [0, 1797, u64::MAX] {
            assert!(matches!(split(&digits, held_out, 0), Err(Error::OutOfRange { .. })));
        }
    }
}
