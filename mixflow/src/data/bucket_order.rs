//! The order of batches that are each of one shape, as a pure function of seed and step.

use super::order::Permutation;
use super::{Dataset, Error};
use crate::error::data::DRAW_PRIOR;
use crate::numbers::counted;
use crate::random::Stream;

/// Which examples of a data set with [`buckets`](Dataset::buckets) a step sees.
///
/// An epoch sees each bucket as often as the whole set, one time, but for examples that do not fill a batch: these begin
/// a batch of the next epoch. After `e` epochs a bucket of `n` examples was seen in `⌊e n / batch⌋` batches. The examples of a
/// bucket follow one another in passes, each a permutation of all, whether a pass ends within a batch or not, so that none is
/// seen twice more often than another. The batches of an epoch are shuffled.
///
/// Examples for [prior preservation](Dataset::prior) have every other place of a batch, in passes of their own through those of
/// its bucket; all that is said above is said of the others, of which a batch then has half as many.
///
/// The work of a step does not depend on its number, but for a search by halving.
#[derive(Debug)]
pub(super) struct BucketOrder {
    seed: u64,
    /// Examples of a step, without those for prior preservation.
    batch: u64,
    shapes: Vec<[usize; 3]>,
    members: Members,
}

impl BucketOrder {
    /// None of data whose examples have one shape.
    ///
    /// # Errors
    /// If a bucket has examples, and none for prior preservation where others have, or a batch of both is odd.
    pub(super) fn new(data: &dyn Dataset, seed: u64, batch: u64) -> Result<Option<Self>, Error> {
        let Some(members) = Members::of(data) else { return Ok(None) };
        members.check(data.buckets())?;
        let batch = match members.prior {
            None => batch,
            Some(_) if batch.is_multiple_of(2) => batch / 2,
            Some(_) => {
                let expected = "even, as half of a batch are for prior preservation";
                return Err(Error::OutOfRange { name: "batch", expected, found: batch });
            }
        };
        Ok(Some(Self { seed, batch, shapes: data.buckets().to_vec(), members }))
    }

    /// Shape and examples of a step.
    pub(super) fn batch(&self, step: u64) -> ([usize; 3], Vec<u64>) {
        let epoch = self.epoch(step);
        let (first, last) = (self.batches(epoch), self.batches(epoch + 1));
        let order = Permutation::new(self.seed, Stream::Batches, epoch, last - first);
        let mut number = order.apply(step - first);
        for (bucket, members) in self.members.own.iter().enumerate() {
            let [before, after] = [epoch, epoch + 1].map(|epoch| self.batches_of(members, epoch));
            if number < after - before {
                let start = (before + number) * self.batch;
                let examples = (start..start + self.batch).flat_map(|place| {
                    let own = self.example(Stream::Bucket, bucket, members, place);
                    let prior = self.members.prior.as_ref().map(|prior| &prior[bucket]);
                    let prior = prior.map(|prior| self.example(Stream::Prior, bucket, prior, place));
                    [Some(own), prior].into_iter().flatten()
                });
                return (self.shapes[bucket], examples.collect());
            }
            number -= after - before;
        }
        unreachable!("an epoch has the batches of its buckets")
    }

    /// The example at a place in the passes of these of a bucket.
    fn example(&self, stream: Stream, bucket: usize, members: &[u64], place: u64) -> u64 {
        let len = members.len() as u64;
        let number = ((bucket as u64) << 48) + place / len;
        members[Permutation::new(self.seed, stream, number, len).apply(place % len) as usize]
    }

    /// The epoch that a step is in.
    fn epoch(&self, step: u64) -> u64 {
        // Each epoch fills a part of a batch at least.
        let (mut low, mut high) = (0, (step + 1).saturating_mul(self.batch));
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if self.batches(middle) <= step {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Batches before an epoch.
    fn batches(&self, epoch: u64) -> u64 {
        self.members.own.iter().map(|members| self.batches_of(members, epoch)).sum()
    }

    fn batches_of(&self, members: &[u64], epoch: u64) -> u64 {
        (u128::from(epoch) * members.len() as u128 / u128::from(self.batch)) as u64
    }
}

/// The examples of each bucket.
#[derive(Debug)]
pub(super) struct Members {
    /// Without those for prior preservation.
    own: Vec<Vec<u64>>,
    /// Those for prior preservation, where there are some.
    prior: Option<Vec<Vec<u64>>>,
}

impl Members {
    /// None of data whose examples have one shape.
    pub(super) fn of(data: &dyn Dataset) -> Option<Self> {
        let (buckets, len) = (data.buckets().len(), data.len()?);
        if buckets == 0 {
            return None;
        }
        let of = |examples: std::ops::Range<u64>| {
            let mut members = vec![vec![]; buckets];
            examples.for_each(|index| members[data.bucket(index)].push(index));
            members
        };
        let first = data.prior().map(|prior| prior.first);
        Some(Self { own: of(0..first.unwrap_or(len)), prior: first.map(|first| of(first..len)) })
    }

    /// # Errors
    /// If a bucket has examples, and none for prior preservation where others have.
    pub(super) fn check(&self, shapes: &[[usize; 3]]) -> Result<(), Error> {
        let lacking =
            self.prior.iter().flatten().zip(&self.own).position(|(prior, own)| prior.is_empty() && !own.is_empty());
        let Some(bucket) = lacking else { return Ok(()) };
        let ([_, height, width], own) = (shapes[bucket], self.own[bucket].len());
        let others = counted(own as u64, "other image");
        let reason = format!("has no image in the size of {others}, {height} x {width} (height x width): {DRAW_PRIOR}");
        Err(Error::Prior { reason })
    }

    /// Of how many examples for prior preservation no other one has the size: they are never seen.
    pub(super) fn unseen(&self) -> usize {
        let prior = self.prior.iter().flatten().zip(&self.own);
        prior.filter(|(_, own)| own.is_empty()).map(|(prior, _)| prior.len()).sum()
    }
}

/// What to tell of buckets with fewer examples than a batch has, whose examples are seen several times in one; none where there
/// are none.
pub fn rare_buckets(data: &dyn Dataset, batch: usize) -> Option<String> {
    let members = Members::of(data)?;
    let (own, half) = if members.prior.is_some() { (batch / 2, "half of ") } else { (batch, "") };
    let counts = members.own.iter().map(Vec::len);
    let rare = data.buckets().iter().zip(counts).filter(|(_, count)| (1..own).contains(count));
    let rare: Vec<_> = rare
        .map(|([_, height, width], count)| {
            format!("{height} x {width} ({count}, first in epoch {})", own.div_ceil(count))
        })
        .collect();
    (!rare.is_empty()).then(|| {
        format!(
            "sizes of fewer images than {half}training.batch={batch}, which are seen more than once in a batch, though not more \
             often: {}",
            rare.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::data::{Error, Example, Loader, LoaderConfig, Variation, split};

    /// Examples with their index as pixels, as many as their bucket is high.
    #[derive(Debug)]
    struct Sizes(Vec<[usize; 3]>, Vec<usize>);

    impl Sizes {
        /// So many examples of each bucket, in turns.
        fn new(counts: &[usize]) -> Self {
            let shapes = (0..counts.len()).map(|bucket| [1, 1 + bucket, 2]).collect();
            let most = counts.iter().copied().max().unwrap_or(0);
            let turns = (0..most).flat_map(|turn| (0..counts.len()).filter(move |bucket| turn < counts[*bucket]));
            Self(shapes, turns.collect())
        }

        fn counts(&self) -> Vec<u64> {
            (0..self.0.len()).map(|bucket| self.1.iter().filter(|of| **of == bucket).count() as u64).collect()
        }
    }

    impl Dataset for Sizes {
        fn len(&self) -> Option<u64> {
            Some(self.1.len() as u64)
        }

        fn classes(&self) -> &[String] {
            &[]
        }

        fn shape(&self) -> [usize; 3] {
            [1, 1, 2]
        }

        fn buckets(&self) -> &[[usize; 3]] {
            &self.0
        }

        fn bucket(&self, index: u64) -> usize {
            self.1[index as usize]
        }

        fn example(&self, index: u64) -> Result<Example, Error> {
            let [_, height, width] = self.0[self.bucket(index)];
            let pixels = (0..height * width).map(|place| (2 * index) as f32 + (place % 2) as f32).collect();
            Ok(Example::new(pixels, index as usize))
        }
    }

    fn order(counts: &[usize], batch: u64) -> BucketOrder {
        BucketOrder::new(&Sizes::new(counts), 7, batch).unwrap().unwrap()
    }

    proptest! {
        #[test]
        fn every_example_is_seen_as_often_as_any_other(
            counts in prop::collection::vec(1usize..40, 1..6),
            batch in 1u64..12,
            epochs in 1u64..30,
        ) {
            let (data, order) = (Sizes::new(&counts), order(&counts, batch));
            let steps = order.batches(epochs);
            let mut seen = vec![0u64; data.1.len()];
            for step in 0..steps {
                let (shape, examples) = order.batch(step);
                prop_assert_eq!(examples.len() as u64, batch);
                for example in examples {
                    prop_assert_eq!(data.0[data.bucket(example)], shape);
                    seen[example as usize] += 1;
                }
            }
            // What does not fill a batch is less than one, and waits: it is a pass or less where a bucket fills a batch.
            for (example, &seen) in seen.iter().enumerate() {
                let count = data.counts()[data.bucket(example as u64)];
                let waiting = (batch - 1).div_ceil(count);
                prop_assert!((epochs.saturating_sub(waiting)..=epochs).contains(&seen), "{seen} times in {epochs} epochs");
            }
        }
    }

    #[test]
    fn nothing_waits_after_as_many_epochs_as_a_batch_has_examples() {
        let counts = [1, 2, 9, 17];
        let order = order(&counts, 8);
        let mut seen = vec![0; 29];
        let steps: Vec<_> = (0..order.batches(8)).map(|step| order.batch(step)).collect();
        assert_eq!(steps.len(), 29);
        steps.iter().flat_map(|(_, examples)| examples).for_each(|example| seen[*example as usize] += 1);
        assert_eq!(seen, [8; 29]);
        // Not one bucket after the other, and every epoch otherwise.
        let shapes = |steps: std::ops::Range<u64>| steps.map(|step| order.batch(step).0).collect::<Vec<_>>();
        let (one, other) = (shapes(0..29), shapes(29..58));
        assert!(!one.is_sorted() && one != other);
        let of = |seed| BucketOrder { seed, ..BucketOrder::new(&Sizes::new(&counts), 0, 8).unwrap().unwrap() };
        assert_ne!((0..29).map(|step| of(1).batch(step)).collect::<Vec<_>>(), steps);
    }

    #[test]
    fn batches_have_one_shape_whatever_the_workers_and_the_first_step() {
        let data: Arc<dyn Dataset> = Arc::new(Sizes::new(&[5, 11, 3]));
        let config = LoaderConfig { seed: 3, batch: 4, flip: true, workers: 0, step: 0 };
        let read = |config, count| {
            Loader::new(data.clone(), config).unwrap().take(count).map(Result::unwrap).collect::<Vec<_>>()
        };
        let all = read(config, 40);
        for (step, batch) in all.iter().enumerate() {
            let [_, height, width] = batch.shape;
            assert_eq!((batch.step, batch.first), (step as u64, 4 * step as u64));
            let rows = batch.labels.iter().enumerate().map(|(place, label)| {
                let position = batch.first + place as u64;
                let row = [2 * label, 2 * label + 1].map(|pixel| pixel as f32);
                let mirrored = Variation { seed: 3, position, flip: true }.mirrored();
                if mirrored { [row[1], row[0]] } else { row }.repeat(height)
            });
            assert_eq!((width, &batch.pixels), (2, &rows.flatten().collect::<Vec<_>>()), "step {step}");
        }
        for (step, workers) in [(0, 3), (17, 0), (17, 2)] {
            assert!(read(LoaderConfig { step, workers, ..config }, 10) == all[step as usize..][..10]);
        }
    }

    #[test]
    fn a_part_of_the_data_has_its_buckets() {
        let data: Arc<dyn Dataset> = Arc::new(Sizes::new(&[5, 11, 3]));
        let (train, held_out) = split(&data, 6, 0).unwrap();
        for part in [&train, &held_out] {
            let labels = (0..part.len().unwrap()).map(|index| part.label(index).unwrap());
            let buckets: Vec<_> = labels.map(|label| data.bucket(label as u64)).collect();
            assert_eq!((0..part.len().unwrap()).map(|index| part.bucket(index)).collect::<Vec<_>>(), buckets);
            let order = BucketOrder::new(part, 0, 2).unwrap().unwrap();
            assert!((0..20).all(|step| order.batch(step).1.iter().all(|index| *index < part.len().unwrap())));
        }
    }

    #[test]
    fn sizes_that_do_not_fill_a_batch_are_told() {
        let data = Sizes::new(&[5, 11, 3]);
        assert_eq!(rare_buckets(&data, 3), None);
        let told = rare_buckets(&data, 8).unwrap();
        assert!(
            told.contains("training.batch=8")
                && told.ends_with(": 1 x 2 (5, first in epoch 2), 3 x 2 (3, first in epoch 3)"),
            "{told}"
        );
    }
}
