//! What can be wrong with a file of weights, or with a setting.

use std::io;
use std::path::{Path, PathBuf};

use crate::weights::Mismatch;

/// Weights that cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file holds no weights that can be trusted.
    #[error("{} {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it: the rest of a sentence that starts with the file's name.
        problem: String,
    },
    /// The weights are not those of the network.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
}

impl Error {
    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Io { action: "read", path: path.into(), source }
    }

    pub(crate) fn writing(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Io { action: "write", path: path.into(), source }
    }

    pub(crate) fn format(path: &Path, problem: impl Into<String>) -> Self {
        Self::Format { path: path.into(), problem: problem.into() }
    }
}

/// A setting that is out of its range, or does not go with the others: a sentence for whoever wrote it, which names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    /// The same as part of something larger, whose name comes first: "network: " or "training.".
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        Self(format!("{place}{self}"))
    }
}

impl<T: Into<String>> From<T> for Invalid {
    fn from(sentence: T) -> Self {
        Self(sentence.into())
    }
}

/// What to do about it, where the reason tells.
fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::StorageFull { "; free some space or choose another folder" } else { "" }
}
