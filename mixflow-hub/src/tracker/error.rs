//! What can go wrong while a run is watched.

use std::io;
use std::path::{Path, PathBuf};

/// A tracker that cannot keep what it is told, or is set up wrongly.
///
/// No message holds a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "create", "read", "write" or "remove".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A variable of the environment, or an address, cannot be what it is.
    #[error("{what} {name:?} {reason}")]
    Setting {
        /// Of what: `WANDB_MODE`, `WANDB_BASE_URL`.
        what: &'static str,
        /// What was given.
        name: String,
        /// What it must be.
        reason: &'static str,
    },
    /// A variable or a file that should hold a key holds something else.
    #[error("{origin} holds no token: {reason}")]
    Key {
        /// Where it was looked for.
        origin: String,
        /// What is wrong with it; never the text itself.
        reason: &'static str,
    },
    /// Whatever goes wrong in a [`Tracker`](super::Tracker) that is not one of this crate's.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An error of the system for `map_err`: what was tried, with which path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
