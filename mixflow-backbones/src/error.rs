//! What can be wrong with a file of weights, or with a setting.

use std::io;
use std::path::{Path, PathBuf};

use crate::mismatch::Mismatch;
use crate::not_data::why_not_text;

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
        |source| Self::Io { action: "read", path: path.into(), source: why_not_text(source) }
    }

    pub(crate) fn writing(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Io { action: "write", path: path.into(), source }
    }

    pub(crate) fn format(path: &Path, problem: impl Into<String>) -> Self {
        Self::Format { path: path.into(), problem: problem.into() }
    }
}

/// A setting that is out of its range, or does not go with the others.
///
/// ```
/// use mixflow_backbones::sit::SitConfig;
///
/// let invalid = SitConfig { depth: 0, ..SitConfig::small(2) }.check().unwrap_err().within("network");
/// assert_eq!(invalid.key, "network.depth");
/// assert_eq!(invalid.to_string(), "network.depth must be at least 1, found 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {reason}")]
pub struct Invalid {
    /// Path of the key, from the outermost object that was checked: `training.batch`. Of several that do not fit, the one to
    /// change.
    pub key: String,
    /// What is wrong: the rest of a sentence that starts with the key, for whoever wrote it.
    pub reason: String,
}

impl Invalid {
    /// Says `reason` of `key`, which begins the sentence.
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }

    /// Refuses zeros: names the first.
    ///
    /// # Errors
    /// If one is 0.
    pub fn unless_positive<T: PartialEq + Default>(sizes: &[(&str, T)]) -> Result<(), Self> {
        match sizes.iter().find(|(_, size)| *size == T::default()) {
            Some((key, _)) => Err(Self::new(*key, "must be at least 1, found 0")),
            None => Ok(()),
        }
    }

    /// The same of an object that is the value of `key`.
    #[must_use]
    pub fn within(self, key: &str) -> Self {
        Self { key: format!("{key}.{}", self.key), ..self }
    }
}

/// What to do about it, where the reason tells.
fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::StorageFull { "; free some space or choose another folder" } else { "" }
}
