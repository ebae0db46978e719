//! What a download tells while it runs.

use std::time::Duration;

/// An event of a download, for whoever shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A file begins to come.
    Begin {
        /// Its name in the repository.
        file: &'a str,
        /// Its size in bytes.
        size: u64,
        /// Bytes that an earlier attempt has left, and that are not fetched again.
        resumed: u64,
    },
    /// So many bytes of it are here.
    Received {
        /// Its name in the repository.
        file: &'a str,
        /// Bytes from its start.
        bytes: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// A file is whole, checked and in the cache.
    Finished {
        /// Its name in the repository.
        file: &'a str,
    },
    /// Another process fetches the same file: this one waits for it.
    Locked {
        /// Its name in the repository.
        file: &'a str,
    },
    /// Something failed that may pass.
    Retrying {
        /// What failed.
        reason: &'a str,
        /// How long until the next attempt.
        wait: Duration,
    },
    /// Nobody answers: what is cached is used instead.
    Cached {
        /// Why.
        reason: &'a str,
    },
}

/// Who is told.
pub(crate) type Tell<'t> = &'t mut dyn FnMut(Progress<'_>);
