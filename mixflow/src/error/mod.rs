//! What can go wrong outside the program.

pub(crate) mod data;
pub(crate) mod metric;
pub(crate) mod sample;

use std::io;
use std::path::{Path, PathBuf};

use crate::numbers::gigabytes;

/// A file, a recipe or a run that is not as it must be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// A checkpoint is whole but belongs to something else.
    #[error("the checkpoint {} does not fit: {reason}", path.display())]
    Mismatch {
        /// Its folder.
        path: PathBuf,
        /// What was expected and found, and what to do.
        reason: String,
    },
    /// A folder holds a run where none is expected, or none where one is.
    #[error("{} {reason}", folder.display())]
    RunFolder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong and what to do: the rest of a sentence.
        reason: String,
    },
    /// A recipe cannot be used.
    #[error("{origin}: {reason}")]
    Recipe {
        /// The file, the embedded name or the override that it came from.
        origin: String,
        /// What is wrong.
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
    /// For `map_err`: what was tried with which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An array file at `path` that cannot be used.
    pub(crate) fn array(path: &Path, reason: impl Into<String>) -> Self {
        Self::Array { path: path.into(), reason: reason.into() }
    }
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
