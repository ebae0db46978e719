//! The order of examples as a pure function of seed and position.

use rand::Rng;

use crate::random::{self, Stream};

/// The example at a training position.
///
/// A data set of `len` examples is visited in epochs, each a different permutation; in an endless one (`None`) each of the first
/// 2²⁴ seeds has 2⁴⁰ examples of its own, one after another, that of 0 the first. Position `step · batch + i` belongs to example `i` of a step, so the sequence depends
/// neither on batch size nor on where a run was resumed. Constant time and memory.
///
/// # Panics
/// If `len` is zero.
#[must_use]
pub fn index_at(seed: u64, position: u64, len: Option<u64>) -> u64 {
    match len {
        None => (seed << 40).wrapping_add(position),
        Some(len) => shuffled(seed, Stream::Order, position, len),
    }
}

/// The place among `len` of the `position`-th in passes that are each a permutation of all.
pub(super) fn shuffled(seed: u64, stream: Stream, position: u64, len: u64) -> u64 {
    Permutation::new(seed, stream, position / len, len).apply(position % len)
}

/// A pseudo-random permutation of `0..len` that stores no table.
///
/// A Feistel network over the grid `rows × columns ≥ len` with `rows ≈ columns ≈ √len`: each round shifts one
/// coordinate by a keyed function of the other, which is invertible. Results outside `0..len` are mapped again until
/// they fall inside (cycle walking), at most a few times as the grid is hardly larger than `len`.
///
/// # Source
/// Black and Rogaway 2002, "Ciphers with arbitrary finite domains", generalised Feistel cipher and cycle walking.
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    len: u64,
    rows: u64,
    columns: u64,
    keys: [u64; 12],
}

impl Permutation {
    pub(crate) fn new(seed: u64, stream: Stream, number: u64, len: u64) -> Self {
        let root = len.isqrt();
        let rows = root + u64::from(root * root < len);
        let mut rng = random::rng(seed, stream, number);
        Self { len, rows, columns: len.div_ceil(rows), keys: std::array::from_fn(|_| rng.next_u64()) }
    }

    /// Where `index < len` goes.
    pub(crate) fn apply(&self, index: u64) -> u64 {
        let (mut row, mut column) = (index / self.columns, index % self.columns);
        loop {
            for [first, second] in self.keys.as_chunks::<2>().0 {
                row = (row + mix(column ^ first) % self.rows) % self.rows;
                column = (column + mix(row ^ second) % self.columns) % self.columns;
            }
            let index = row * self.columns + column;
            if index < self.len {
                return index;
            }
        }
    }
}

/// The finalizer of `SplitMix64`: every output bit depends on every input bit.
///
/// # Source
/// Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", with Stafford's variant 13.
fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn epoch(seed: u64, epoch: u64, len: u64) -> Vec<u64> {
        (epoch * len..(epoch + 1) * len).map(|position| index_at(seed, position, Some(len))).collect()
    }

    fn is_permutation(order: &[u64]) -> bool {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..order.len() as u64)
    }

    #[test]
    fn every_epoch_of_every_small_set_is_a_permutation() {
        for len in 1..300 {
            assert!(is_permutation(&epoch(len, len % 7, len)), "length {len}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_epoch_is_a_permutation(seed: u64, number in 0u64..1 << 40, len in 1u64..20_000) {
            prop_assert!(is_permutation(&epoch(seed, number, len)));
        }

        #[test]
        fn lengths_up_to_the_largest_are_in_range(seed: u64, position: u64, len in 1u64..) {
            prop_assert!(index_at(seed, position, Some(len)) < len);
        }
    }

    #[test]
    fn every_example_is_equally_likely_everywhere() {
        for len in [2u64, 5, 7, 12, 30] {
            let epochs = 4_000;
            let mut counts = vec![0f64; (len * len) as usize];
            for seed in 0..epochs {
                for (position, index) in epoch(seed, 0, len).into_iter().enumerate() {
                    counts[position * len as usize + index as usize] += 1.0;
                }
            }
            let expected = epochs as f64 / len as f64;
            let chi2 = counts.iter().map(|c| (c - expected).powi(2) / expected).sum::<f64>();
            // Sums of uniform permutation matrices: χ² · (len − 1)/len has (len − 1)² degrees of freedom.
            let chi2 = chi2 * (len - 1) as f64 / len as f64;
            let freedom = ((len - 1) * (len - 1)) as f64;
            assert!((chi2 - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "length {len}: χ² {chi2}, {freedom} free");
        }
    }

    #[test]
    fn neighbours_are_not_kept_together() {
        let len = 10_000;
        let order = epoch(5, 0, len);
        let kept = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 100).count() as f64;
        let expected = 2.0 * 100.0 / len as f64 * len as f64;
        assert!((kept - expected).abs() < 5.0 * expected.sqrt(), "{kept} of {expected} expected");
    }

    #[test]
    fn epochs_and_seeds_differ_and_endless_order_is_the_position() {
        assert_ne!(epoch(1, 0, 50), epoch(1, 1, 50));
        assert_ne!(epoch(1, 0, 50), epoch(2, 0, 50));
        assert_eq!([0, 1].map(|seed| index_at(seed, 123, None)), [123, (1 << 40) + 123]);
    }
}
