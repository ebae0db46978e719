//! Batches in order, prepared ahead on worker threads.

use std::fmt;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::bucket_order::BucketOrder;
use super::{Dataset, Error, Prior, Variation, index_at, shape_in_training};
use crate::error::words;

/// How a [`Loader`] reads: by default from the first step on, with seed 0, 32 examples a batch and one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Chooses the order of examples and the flips.
    pub seed: u64,
    /// Examples per batch, 1 to 65,536.
    pub batch: usize,
    /// The first step; a resumed run gives the step it stopped at.
    pub step: u64,
    /// Mirror examples left to right with probability one half.
    pub flip: bool,
    /// Threads, at most 256; none: batches are made when asked for. Without effect on the batches' content.
    pub workers: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self { seed: 0, batch: 32, step: 0, flip: false, workers: 1 }
    }
}

/// The examples of one step, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// The step.
    pub step: u64,
    /// Training position of the first example, `step · batch`; example `i` has position `first + i`.
    pub first: u64,
    /// `[batch, channels, height, width]`; images in [−1, 1], latents normalised.
    pub pixels: Vec<f32>,
    /// `[batch]`, indices into [`Dataset::classes`].
    pub labels: Vec<usize>,
    /// `[batch, tokens, width]` for each encoder of [`Dataset::features`]; mostly none.
    pub features: Vec<Vec<f32>>,
    /// `[batch, height, width]`, how much of the loss at each place counts; empty where all of it does.
    pub masks: Vec<f32>,
    /// `[batch]`, how often the loss of each example counts; empty where it is once.
    pub weights: Vec<f32>,
    /// Channels, height and width of an example.
    pub shape: [usize; 3],
    /// Tokens and width of the features of each encoder.
    pub tokens: Vec<[usize; 2]>,
}

/// An endless iterator over the batches of a training run: as [`Examples`], or as what is made of them on the threads.
///
/// The example at a position depends on seed and position alone ([`index_at`], [`Dataset::variant`]): not on batch size,
/// number of workers or first step. Where examples have several shapes ([`Dataset::buckets`]), each batch is of one, and its
/// examples depend on seed, batch size and step alone; over the epochs each is seen as often as every other. Where some are for
/// prior preservation ([`Dataset::prior`]), these have every other position, in an order of their own. At most two batches per
/// worker wait in memory. An error, or a panic of what reads, arrives in the place of its batch and ends the iterator. Dropping it stops the threads.
pub struct Loader<T = Examples> {
    reader: Arc<Reader<T>>,
    /// Worker `w` makes steps `w, w + workers, …` from the first on, so the batches come in turn.
    workers: Vec<Worker<T>>,
    step: u64,
    failed: bool,
}

struct Worker<T> {
    batches: Receiver<Result<T, Error>>,
    thread: JoinHandle<()>,
}

impl Loader {
    /// The most examples of a batch.
    pub const LARGEST_BATCH: usize = 65_536;

    /// The most threads.
    pub const MOST_WORKERS: usize = 256;

    /// Starts reading ahead.
    ///
    /// # Errors
    /// If the batch is empty, there are too many workers, or the system refuses a thread; with examples in several shapes and some
    /// for prior preservation, if the batch is odd or a shape has none of these.
    pub fn new(data: Arc<dyn Dataset>, config: LoaderConfig) -> Result<Self, Error> {
        Self::preparing(data, config, Ok)
    }
}

impl<T: Send + 'static> Loader<T> {
    /// As [`new`](Loader::new), with what `prepare` makes of the examples on the threads that read them.
    ///
    /// # Errors
    /// As [`new`](Loader::new); those of `prepare` come in the place of their batch.
    pub fn preparing(
        data: Arc<dyn Dataset>,
        config: LoaderConfig,
        prepare: impl Fn(Examples) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let in_range = |name, expected, found: usize, range: RangeInclusive<usize>| {
            let found_out = Error::OutOfRange { name, expected, found: found as u64 };
            if range.contains(&found) { Ok(()) } else { Err(found_out) }
        };
        in_range("batch", "from 1 to 65536", config.batch, 1..=Loader::LARGEST_BATCH)?;
        in_range("workers", "at most 256", config.workers, 0..=Loader::MOST_WORKERS)?;
        let order = match data.buckets() {
            [] | [_] => None,
            _ => BucketOrder::new(&*data, config.seed, config.batch as u64)?,
        };
        let reader = Arc::new(Reader { data, config, order, prepare: Box::new(prepare), stop: AtomicBool::new(false) });
        // Owns the threads from the first on, so that a failure to start a later one stops them.
        let mut loader = Self { reader, workers: Vec::new(), step: config.step, failed: false };
        for worker in 0..config.workers {
            let (sender, batches) = sync_channel(1);
            let reader = Arc::clone(&loader.reader);
            let run = move || reader.run(config.step + worker as u64, &sender);
            let thread = Builder::new().name(format!("data {worker}")).spawn(run);
            loader.workers.push(Worker { batches, thread: thread.map_err(|source| Error::Thread { source })? });
        }
        Ok(loader)
    }
}

impl<T> Iterator for Loader<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let count = self.workers.len() as u64;
        let batch = if count == 0 {
            self.reader.prepared(self.step)?
        } else {
            let turn = ((self.step - self.reader.config.step) % count) as usize;
            match self.workers[turn].batches.recv() {
                Ok(batch) => batch,
                // A worker only leaves early by a fault of its own: hand the panic on.
                Err(_) => {
                    self.failed = true;
                    let cause = self.workers.remove(turn).thread.join().err()?;
                    std::panic::resume_unwind(cause)
                }
            }
        };
        self.failed = batch.is_err();
        self.step += 1;
        Some(batch)
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        self.reader.stop.store(true, Ordering::Relaxed);
        for Worker { batches, thread } in self.workers.drain(..) {
            drop(batches);
            // A worker's panic was already reported on its thread.
            let _ = thread.join();
        }
    }
}

impl<T> fmt::Debug for Loader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reader, step, .. } = self;
        f.debug_struct("Loader")
            .field("data", &reader.data)
            .field("config", &reader.config)
            .field("step", step)
            .finish()
    }
}

struct Reader<T> {
    data: Arc<dyn Dataset>,
    config: LoaderConfig,
    /// Where examples have several shapes.
    order: Option<BucketOrder>,
    prepare: Box<dyn Fn(Examples) -> Result<T, Error> + Send + Sync>,
    stop: AtomicBool,
}

impl<T> Reader<T> {
    /// Sends every `workers`-th batch until one fails or nobody listens.
    fn run(&self, first: u64, sender: &SyncSender<Result<T, Error>>) {
        let steps = (first..).step_by(self.config.workers);
        for batch in steps.map_while(|step| self.prepared(step)) {
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// `None` once told to stop.
    fn prepared(&self, step: u64) -> Option<Result<T, Error>> {
        // What is half read goes with it.
        let read = catch_unwind(AssertUnwindSafe(|| Some(self.batch(step)?.and_then(&self.prepare))));
        read.unwrap_or_else(|panic| Some(Err(Error::Panicked { step, reason: words(&*panic) })))
    }

    fn batch(&self, step: u64) -> Option<Result<Examples, Error>> {
        let LoaderConfig { seed, batch, flip, .. } = self.config;
        let first = step * batch as u64;
        let (shape, indices) = match &self.order {
            None => (shape_in_training(&*self.data, 0), (first..).map(|at| self.index_at(at)).take(batch).collect()),
            Some(order) => order.batch(step),
        };
        let [channels, height, width] = shape;
        let mut pixels = Vec::with_capacity(batch * channels * height * width);
        let mut labels = Vec::with_capacity(batch);
        let mut masks = vec![];
        let tokens = self.data.features();
        let mut features: Vec<_> =
            tokens.iter().map(|[count, width]| Vec::with_capacity(batch * count * width)).collect();
        for (position, index) in (first..).zip(indices) {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let example = match self.data.variant(index, Variation { seed, position, flip }) {
                Ok(example) => example,
                Err(error) => return Some(Err(error)),
            };
            labels.push(example.label_at(seed, position));
            pixels.extend(example.pixels);
            if let Some(mask) = example.mask {
                // Those before it that have none.
                masks.resize((labels.len() - 1) * height * width, 1.0);
                masks.extend(mask);
            }
            features.iter_mut().zip(example.features).for_each(|(all, one)| all.extend(one));
        }
        if !masks.is_empty() {
            masks.resize(batch * height * width, 1.0);
        }
        let weights = |prior: Prior| (first..).take(batch).map(|position| prior.weight_at(position)).collect();
        let weights = self.data.prior().map_or(vec![], weights);
        Some(Ok(Examples { step, first, pixels, labels, features, masks, weights, shape, tokens }))
    }

    /// The example at a training position, of data whose examples have one shape.
    fn index_at(&self, position: u64) -> u64 {
        let (seed, len) = (self.config.seed, self.data.len());
        match (self.data.prior(), len) {
            (Some(prior), Some(len)) => prior.index_at(seed, position, len),
            _ => index_at(seed, position, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Channels, Digits, Example, Shapes};

    const CONFIG: LoaderConfig = LoaderConfig { seed: 11, batch: 7, step: 0, flip: true, workers: 0 };

    fn digits() -> Arc<dyn Dataset> {
        Arc::new(Digits::new(8, Channels::One).unwrap())
    }

    fn batches(data: Arc<dyn Dataset>, config: LoaderConfig, count: usize) -> Vec<Examples> {
        Loader::new(data, config).unwrap().take(count).map(Result::unwrap).collect()
    }

    #[test]
    fn content_does_not_depend_on_the_number_of_workers() {
        let shapes: Arc<dyn Dataset> = Arc::new(Shapes::new(8, 2).unwrap());
        for data in [digits(), shapes] {
            // 300 batches of 7 reach into the second epoch of the digits.
            let expected = batches(Arc::clone(&data), CONFIG, 300);
            for workers in [1, 2, 3, 8] {
                let config = LoaderConfig { workers, ..CONFIG };
                assert!(batches(Arc::clone(&data), config, 300) == expected, "{workers} workers, {data:?}");
            }
        }
    }

    #[test]
    fn positions_do_not_depend_on_batch_size() {
        let flat = |batch, count| {
            let batches = batches(digits(), LoaderConfig { batch, workers: 2, ..CONFIG }, count);
            let labels: Vec<_> = batches.iter().flat_map(|batch| batch.labels.clone()).collect();
            (batches.into_iter().flat_map(|batch| batch.pixels).collect::<Vec<_>>(), labels)
        };
        assert!(flat(60, 1) == flat(12, 5));
        assert!(flat(60, 1) == flat(1, 60));
    }

    #[test]
    fn resuming_continues_the_sequence() {
        let all = batches(digits(), CONFIG, 20);
        for workers in [0, 3] {
            assert!(batches(digits(), LoaderConfig { step: 13, workers, ..CONFIG }, 7) == all[13..]);
        }
        assert_eq!((all[13].step, all[13].first), (13, 91));
    }

    #[test]
    fn every_epoch_visits_every_example_and_flips_half() {
        let config = LoaderConfig { batch: 599, ..CONFIG };
        let plain = batches(digits(), LoaderConfig { flip: false, ..config }, 3);
        let mut labels: Vec<_> = plain.iter().flat_map(|batch| batch.labels.clone()).collect();
        labels.sort_unstable();
        let digits = digits();
        let mut expected: Vec<_> = (0..1797).map(|i| digits.example(i).unwrap().label).collect();
        expected.sort_unstable();
        assert_eq!(labels, expected);

        let images = |batches: &[Examples]| -> Vec<Vec<f32>> {
            batches.iter().flat_map(|batch| batch.pixels.chunks(64).map(<[f32]>::to_vec)).collect()
        };
        let mirrored = |image: &[f32]| image.chunks(8).flat_map(|row| row.iter().rev().copied()).collect::<Vec<_>>();
        let (plain, maybe) = (images(&plain), images(&batches(digits, config, 3)));
        let flipped = plain.iter().zip(&maybe).filter(|(plain, maybe)| plain != maybe).count() as f64;
        assert!(plain.iter().zip(&maybe).all(|(plain, maybe)| plain == maybe || mirrored(plain) == *maybe));
        assert!((flipped - 898.5).abs() < 5.0 * 1797f64.sqrt() / 2.0, "{flipped} flipped");
    }

    /// Fails at one index and counts what was read.
    #[derive(Debug)]
    struct Failing(std::sync::atomic::AtomicU64);

    impl Dataset for Failing {
        fn len(&self) -> Option<u64> {
            None
        }

        fn classes(&self) -> &[String] {
            &[]
        }

        fn shape(&self) -> [usize; 3] {
            [1, 1, 1]
        }

        fn example(&self, index: u64) -> Result<Example, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            assert_ne!(index, 100, "a data set may panic");
            match index {
                50 => Err(Error::OutOfRange { name: "index", expected: "not 50", found: index }),
                _ => Ok(Example::new(vec![index as f32], 0)),
            }
        }
    }

    #[test]
    fn an_error_arrives_in_its_place_and_ends_the_sequence() {
        for workers in [0, 1, 4] {
            let config = LoaderConfig { seed: 0, batch: 10, workers, ..CONFIG };
            let mut loader = Loader::new(Arc::new(Failing(0.into())), config).unwrap();
            assert!((0..5).all(|step| loader.next().unwrap().unwrap().step == step));
            assert!(matches!(loader.next(), Some(Err(Error::OutOfRange { found: 50, .. }))));
            assert!(loader.next().is_none());
        }
    }

    #[test]
    fn a_panic_of_the_data_set_is_an_error() {
        for workers in [0, 3] {
            let config = LoaderConfig { seed: 0, batch: 10, step: 6, workers, ..CONFIG };
            let mut loader = Loader::new(Arc::new(Failing(0.into())), config).unwrap();
            assert!((0..4).all(|_| loader.next().unwrap().is_ok()));
            let error = loader.next().unwrap().unwrap_err().to_string();
            assert!(error.contains("batch of step 10 panicked") && error.contains("a data set may panic"), "{error}");
            assert!(loader.next().is_none());
        }
    }

    #[test]
    fn reading_ahead_is_bounded_and_stops_on_drop() {
        let data = Arc::new(Failing(0.into()));
        let config = LoaderConfig { batch: 10, step: 1000, workers: 2, ..CONFIG };
        let mut loader = Loader::new(Arc::clone(&data) as Arc<dyn Dataset>, config).unwrap();
        assert!(loader.next().unwrap().is_ok());
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(loader);
        // Per worker one batch in its channel and one in its hands, and the one taken.
        assert!(data.0.load(Ordering::Relaxed) <= 50);
        // All threads have let go of it.
        assert_eq!(Arc::strong_count(&data), 1);
    }

    #[test]
    fn impossible_settings_are_refused() {
        for config in [
            LoaderConfig { batch: 0, ..CONFIG },
            LoaderConfig { batch: 70_000, ..CONFIG },
            LoaderConfig { workers: 257, ..CONFIG },
        ] {
            assert!(matches!(Loader::new(digits(), config), Err(Error::OutOfRange { .. })));
        }
    }
}
