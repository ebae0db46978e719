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
    /// Waits for the lock at `path`, or none if it is `stopped` meanwhile; `waiting` is told once if somebody holds it, and
    /// who, where the system tells.
    pub(crate) fn acquire(
        path: &Path,
        stopped: impl Fn() -> bool,
        waiting: impl FnOnce(Option<&str>),
    ) -> Result<Option<Self>, Error> {
        let folder = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(Error::io("write", folder))?;
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        // What may only be read can be locked all the same.
        let file = open.or_else(|error| File::open(path).map_err(|_| error)).map_err(Error::io("write", path))?;
        let mut waiting = Some(waiting);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting(holder(&file).as_deref());
                    }
                    if stopped() {
                        return Ok(None);
                    }
                    std::thread::sleep(INTERVAL);
                }
                // No locks there.
                Err(TryLockError::Error(_)) => break,
            }
        }
        Ok(Some(Self { _file: file }))
    }
}

/// The process that has locked a file: its name and number.
///
/// # Source
/// proc(5): a line of `/proc/locks` has number, kind, manner, access, process, device and inode.
#[cfg(target_os = "linux")]
fn holder(file: &File) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.len() > 5 && words[1] == "FLOCK" && words[5].ends_with(&inode)).then(|| words[4].to_string())
    })?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(format!("{} (process {process})", name.trim()))
}

#[cfg(not(target_os = "linux"))]
fn holder(_: &File) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_told_by_whom_a_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().join("a.lock");
        let mut first = Lock::acquire(path, || true, |_| panic!("nobody has it")).unwrap();
        assert!(Lock::acquire(path, || true, |_| {}).unwrap().is_none());
        let mut told = None;
        let waiting = |by: Option<&str>| {
            told = by.map(String::from);
            first.take();
        };
        assert!(Lock::acquire(path, || false, waiting).unwrap().is_some());
        if cfg!(target_os = "linux") {
            assert!(told.unwrap().ends_with(&format!("(process {})", std::process::id())));
        }
    }
}
