//! What a run tells, for those who watch it: [`TensorBoard`], and Weights & Biases with [`Wandb`].
//!
//! A run writes its `metrics.jsonl` itself, whatever else happens. [`Trackers`] listen to the same events from outside,
//! on a thread of their own, and can be slow or fail without harm to it. What they write are files; [`Wandb::live`] also
//! sends them.
//!
//! ```
//! use mixflow_hub::tracker::{End, Entry, TensorBoard, Trackers, Wandb, WandbRun};
//!
//! # let temporary = tempfile::tempdir()?;
//! # let folder = temporary.path();
//! let mut trackers = Trackers::default();
//! trackers.add(TensorBoard::open(&folder.join("tensorboard")));
//! trackers.add(Wandb::open(folder, &WandbRun::new("digits")));
//!
//! trackers.track(Entry::Config(&serde_json::json!({ "batch": 64 })));
//! trackers.track(Entry::Started { step: 0 });
//! trackers.track(Entry::Scalars { step: 0, values: &[("loss", 1.25), ("learning_rate", 1e-4)] });
//! trackers.track(Entry::Finished(End::Done));
//! assert_eq!(trackers.finish(), Vec::<String>::new());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! In a program, a training is told in a line, `|event| trackers.event(&event)` of [`Trackers::of_run`], and a whole launch, with
//! all trainings of a comparison, in another: `|progress| trackers.progress(&progress)` of [`RunTrackers::of`].

mod append;
mod error;
#[cfg(feature = "pipeline")]
mod event;
mod histogram;
mod owned_entry;
mod png;
mod protobuf;
mod resumed;
#[cfg(feature = "pipeline")]
mod run;
mod tensorboard;
mod trackers;
mod wandb;

pub use error::Error;
pub use histogram::Histogram;
pub use png::Png;
#[cfg(feature = "pipeline")]
pub use run::RunTrackers;
pub use tensorboard::TensorBoard;
pub use trackers::Trackers;
pub use wandb::{Wandb, WandbMode, WandbRun, WandbServer};

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Somebody who keeps what a run tells.
///
/// ```
/// use mixflow_hub::tracker::{Entry, Error, Tracker, Trackers};
///
/// struct Console;
///
/// impl Tracker for Console {
///     fn track(&mut self, entry: Entry<'_>) -> Result<(), Error> {
///         if let Entry::Scalars { step, values } = entry {
///             println!("{step}: {values:?}");
///         }
///         Ok(())
///     }
/// }
///
/// Trackers::default().add(Ok(Console));
/// ```
pub trait Tracker {
    /// Keeps an entry.
    ///
    /// # Errors
    /// If it cannot. What it kept before stays valid, and it is told nothing more.
    fn track(&mut self, entry: Entry<'_>) -> Result<(), Error>;

    /// The step behind the last row before `step` that it has: what a run that goes on there takes up again. All rows, unless
    /// it can tell.
    ///
    /// # Errors
    /// If it cannot read what it has.
    fn kept(&mut self, step: u64) -> Result<u64, Error> {
        Ok(step)
    }

    /// Whether the row of a step has a picture of this name; provided: yes, for those that keep all they are told.
    ///
    /// # Errors
    /// If it cannot read what it has.
    fn shows(&mut self, _step: u64, _name: &str) -> Result<bool, Error> {
        Ok(true)
    }

    /// What the user should know since the last call, although the tracker goes on.
    fn warnings(&mut self) -> Vec<String> {
        vec![]
    }
}

/// What a run tells.
///
/// Steps count from 0 and do not go back but with [`Entry::Started`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Entry<'a> {
    /// What it is configured with: an object, such as its recipe.
    Config(&'a Value),
    /// It starts at this step, or goes on at it: what was kept of this step and later ones is void.
    Started {
        /// The next step.
        step: u64,
    },
    /// Numbers of a step; they need not be finite.
    Scalars {
        /// The step.
        step: u64,
        /// Names and values.
        values: &'a [(&'a str, f64)],
    },
    /// A picture made after a step, such as a grid of samples.
    Image {
        /// The step.
        step: u64,
        /// What the picture or the values are of, such as `samples`.
        name: &'a str,
        /// The picture.
        png: Png<'a>,
    },
    /// How values are distributed after a step.
    Histogram {
        /// The step.
        step: u64,
        /// What the picture or the values are of, such as `samples`.
        name: &'a str,
        /// The distribution.
        histogram: &'a Histogram,
    },
    /// Results of the whole run: an object, such as its evaluation.
    Summary(&'a Value),
    /// All that was told must outlive the process now; a checkpoint was written.
    Flush,
    /// It ended: nothing follows.
    Finished(End),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All its steps are done.
    Done,
    /// It was asked to stop, and can go on.
    Stopped,
    /// Something stopped it.
    Failed,
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
