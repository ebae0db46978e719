//! What can go wrong outside the program.

pub(crate) mod data;
pub(crate) mod metric;
pub(crate) mod recipe;
mod run;
pub(crate) mod sample;

use std::any::Any;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use mixflow_backbones::not_data::why_not_text;
use mixflow_backbones::weights::Mismatch;

use crate::numbers::{gigabytes, thousands};
use recipe::Fault;

/// A file, a recipe or a run that is not as it must be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device that is none, or is not there.
    #[error("{name}: {reason}")]
    Device {
        /// What it was asked for by.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(action, source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process works in a folder.
    #[error("{} is in use by {holder}: wait for it, stop it, or choose another folder", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
        /// Who works there.
        holder: String,
    },
    /// A checkpoint, or a folder of them, is not whole.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint is whole but belongs to another recipe, or to another kind of training.
    #[error("the checkpoint {} does not fit: {reason}", path.display())]
    Mismatch {
        /// Its folder.
        path: PathBuf,
        /// What was expected and found, and what to do.
        reason: String,
    },
    /// A checkpoint is whole, but its tensors are not those of the network.
    #[error("the checkpoint {} does not fit: {source}", path.display())]
    Tensors {
        /// Its folder.
        path: PathBuf,
        /// Which are missing, unused or of another shape.
        source: Box<Mismatch>,
    },
    /// More steps were taken than are asked for.
    #[error(
        "the checkpoint {} does not fit: {taken} steps were taken, the recipe asks for {wanted}: ask for {taken} or more, or \
         choose another folder",
        path.display()
    )]
    TooFewSteps {
        /// The folder of the checkpoint.
        path: PathBuf,
        /// Steps taken.
        taken: u64,
        /// Steps asked for.
        wanted: u64,
    },
    /// A folder has no run to continue.
    #[error("{} {}", folder.display(), run::NO_RUN)]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder has a run, and a new one was to begin there.
    #[error("{} {}", folder.display(), run::RUN_EXISTS)]
    RunExists {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder of a run has lost its recipe.
    #[error("{} {}", folder.display(), run::LOST_RECIPE)]
    LostRecipe {
        /// The folder.
        folder: PathBuf,
    },
    /// The run in a folder is one of another recipe.
    #[error("{}: {reason}", file.display())]
    OtherRecipe {
        /// Its recipe.
        file: PathBuf,
        /// The first key with another value.
        key: String,
        /// Both values, and what to do.
        reason: String,
    },
    /// The data are not those that a run began with.
    #[error("{}: the data are not those that the run began with, {change}: {}", record.display(), run::OTHER_DATA)]
    OtherData {
        /// Where the run has written down what its data were.
        record: PathBuf,
        /// What has become of them.
        change: String,
    },
    /// Weights are not those that a run began with: those that it started from, or of its frozen networks.
    #[error("{}: {reason}", record.display())]
    OtherWeights {
        /// Where the run has written down which they were, or the folder of its training.
        record: PathBuf,
        /// Which they were and are, and what to do.
        reason: String,
    },
    /// A record in the folder of a run cannot be read.
    #[error("{}: {reason}", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of the optimiser cannot be changed in the middle of a run.
    #[error("{key}: {reason}")]
    Change {
        /// Its key.
        key: String,
        /// Why, and what to do.
        reason: String,
    },
    /// There is no recipe of a name, or none beside weights.
    #[error("{origin}: {reason}")]
    NoRecipe {
        /// The name, or the weights.
        origin: String,
        /// What was looked for, and what there is.
        reason: String,
    },
    /// A recipe, or a change of it, is faulty in itself.
    #[error("{origin}: {fault}")]
    Recipe {
        /// The file, the embedded name or the override that it came from.
        origin: String,
        /// What is wrong.
        fault: Fault,
    },
    /// A recipe is sound, but not for its data, its weights, its folder or what is asked of it.
    #[error("{origin}: {reason}")]
    Unfit {
        /// The recipe's name, the part of it or the file that does not fit.
        origin: String,
        /// What was expected and found, and what to change.
        reason: String,
    },
    /// A folder holds no network that is known here, or lacks a file that goes with it.
    #[error("{}: {reason}", folder.display())]
    Layout {
        /// The folder or file.
        folder: PathBuf,
        /// What was expected, found, and what to do.
        reason: String,
    },
    /// The networks of a training do not fit into memory.
    #[error(
        "{recipe}: training a network of {} parameters keeps at least {} in memory (weights, gradients, moments and averages), \
         there are {}: {advice}; `plan` says what a recipe takes",
        thousands(*parameters),
        gigabytes(u128::from(*needed)),
        gigabytes(*available)
    )]
    TooLarge {
        /// The recipe's name.
        recipe: String,
        /// Parameters of the network that is trained.
        parameters: u64,
        /// Bytes that all networks take.
        needed: u64,
        /// Those of the machine.
        available: u64,
        /// What to do.
        advice: &'static str,
    },
    /// Weights to start from are for other classes than the data have.
    #[error("{0}: say which rows of their label table the classes of the data start from")]
    OtherClasses(Box<Self>),
    /// An array file is damaged or holds something else.
    #[error("cannot use {}: {reason}", path.display())]
    Array {
        /// The `.npz` or `.npy` file.
        path: PathBuf,
        /// Which array, what was expected and what was found.
        reason: String,
    },
    /// Images cannot be written as asked.
    #[error("cannot write images to {}: {reason}", path.display())]
    Export {
        /// Where they were to go.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A set of images cannot be read.
    #[error("cannot use the images {}: {reason}", path.display())]
    Images {
        /// The file at fault, or the folder.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// More was asked for than memory can hold.
    #[error(
        "{what} would take {} of memory, of which there are {}: ask for fewer",
        gigabytes(*needed),
        gigabytes(*available)
    )]
    Memory {
        /// What, in words.
        what: String,
        /// Its bytes.
        needed: u128,
        /// Those of the machine.
        available: u64,
    },
    /// Training left the finite numbers.
    #[error(
        "loss or gradient was not finite at {count} steps in a row, the last of them step {step}; the run is back at step {back} \
         ({skipped} steps skipped in all): lower the learning rate, which was {rate:e}, or set `clip` of the optimiser, then \
         resume"
    )]
    Diverged {
        /// The folder of the training.
        folder: PathBuf,
        /// The last step.
        step: u64,
        /// How many in a row.
        count: u32,
        /// The step of the checkpoint that the run was set back to.
        back: u64,
        /// Steps skipped since the start of the process.
        skipped: u64,
        /// The learning rate of the last step.
        rate: f64,
    },
    /// A device failed in a training: it ran out of memory, it or its machine is gone, or what it computes is faulty.
    #[error(
        "{device} failed at step {step}: {reason}; the run can be resumed from its last checkpoint, on other devices, too"
    )]
    DeviceFailed {
        /// Its name; with its place, where there are several, and with those of all where it is not known which.
        device: String,
        /// The step that it failed at.
        step: u64,
        /// What it failed with.
        reason: String,
    },
    /// What prepares a training was asked to stop before its end; what is whole by then is kept.
    #[error("it was asked to stop; what is whole is kept")]
    Stopped,
    /// What a network is to be told cannot be made.
    #[error(transparent)]
    Condition(Box<dyn std::error::Error + Send + Sync>),
    /// Images could not be read.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// Features could not be compared.
    #[error(transparent)]
    Metric(#[from] metric::Error),
    /// Sampling failed.
    #[error(transparent)]
    Sample(#[from] sample::SampleError),
    /// A schedule or a law of times is out of range.
    #[error(transparent)]
    Schedule(#[from] mixflow_schedules::Error),
    /// Weights could not be read or written.
    #[error(transparent)]
    Weights(#[from] mixflow_backbones::Error),
}

impl Error {
    /// [`Stopped`](Self::Stopped) once `stop` is set.
    pub(crate) fn if_set(stop: &AtomicBool) -> Result<(), Self> {
        if stop.load(Ordering::Relaxed) { Err(Self::Stopped) } else { Ok(()) }
    }

    /// Nothing of what was stopped.
    pub(crate) fn unless_stopped<T>(result: Result<T, Self>) -> Result<Option<T>, Self> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(Self::Stopped) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// For `map_err`: what was tried with which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source: why_not_text(source) }
    }

    /// A recipe, or part of one, that is faulty in itself.
    pub(crate) fn recipe(origin: impl Display, fault: impl Into<Fault>) -> Self {
        Self::Recipe { origin: origin.to_string(), fault: fault.into() }
    }

    /// What does not go together.
    pub(crate) fn unfit(origin: impl Display, reason: impl Display) -> Self {
        Self::Unfit { origin: origin.to_string(), reason: reason.to_string() }
    }

    /// A record of a run that cannot be read.
    pub(crate) fn record(file: &Path, reason: impl Into<String>) -> Self {
        Self::Record { file: file.into(), reason: reason.into() }
    }

    /// An array file at `path` that cannot be used.
    pub(crate) fn array(path: &Path, reason: impl Into<String>) -> Self {
        Self::Array { path: path.into(), reason: reason.into() }
    }
}

/// The message of a panic, on one line.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What to do about it, where the reason tells.
fn advice(action: &str, error: &io::Error) -> &'static str {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    let reads = ["read", "list", "list the images of", "open", "continue with"].contains(&action);
    match error.kind() {
        StorageFull => "; free some space or choose another folder",
        PermissionDenied if reads => "; ask its owner for the right to read it",
        PermissionDenied | ReadOnlyFilesystem => "; choose a folder that you may write to",
        _ => "",
    }
}
