//! One process at a time.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::Error;

/// How often a lock that somebody holds is asked for again.
const INTERVAL: Duration = Duration::from_millis(50);

/// Holds the lock of a file until it is dropped, or the process ends.
///
/// It is the lock of Python's `filelock`: `flock` on Unix. Where a file system has none, nothing is locked; then two
/// processes may do the same work, and the hash check keeps the cache right.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Closing it releases the lock. The file stays: removing it would let a third process lock another one.
    _file: File,
}

impl Lock {
    /// Waits for the lock at `path`; `waiting` is told once if somebody holds it.
    pub(crate) fn acquire(path: &Path, waiting: impl FnOnce()) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(Error::io("write", folder))?;
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(Error::io("write", path))?;
        let mut waiting = Some(waiting);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    std::thread::sleep(INTERVAL);
                }
                // No locks there.
                Err(TryLockError::Error(_)) => break,
            }
        }
        Ok(Self { _file: file })
    }
}
