//! What a download or an upload tells while it runs.

use std::time::Duration;

/// An event of a download or an upload, for whoever shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferProgress<'a> {
    /// A file begins to come. Several come at once, and what is told of them comes mixed.
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
        /// The process, where the system tells: its name and number.
        by: Option<&'a str>,
    },
    /// The repository was not there and is now.
    Created {
        /// Where to look at it.
        address: &'a str,
    },
    /// A large file is read, to know its hash.
    Hashing {
        /// Its name in the repository.
        file: &'a str,
        /// Its size in bytes.
        size: u64,
    },
    /// A large file begins to go. Several go at once, and what is told of them comes mixed.
    Sending {
        /// Its name in the repository.
        file: &'a str,
        /// Its size in bytes.
        size: u64,
    },
    /// So many bytes of it are gone.
    Sent {
        /// Its name in the repository.
        file: &'a str,
        /// Bytes from its start.
        bytes: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// The server has all of a large file, from now or from earlier; nobody sees it before the commit.
    Stored {
        /// Its name in the repository.
        file: &'a str,
    },
    /// All is there: now the repository changes, at once.
    Committing {
        /// Files that are new or have other content.
        files: usize,
    },
    /// Sample images are made.
    Sampling {
        /// How many are done; parts of several together count as one.
        images: usize,
        /// How many there are to be.
        count: usize,
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

/// What is called with each step of a transfer, from one thread at a time.
pub(crate) type Progress<'t> = &'t mut (dyn FnMut(TransferProgress<'_>) + Send);
