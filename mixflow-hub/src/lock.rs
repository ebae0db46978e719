//! One process at a time.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::Error;

/// How often a lock that somebody holds is asked for again.
const INTERVAL: Duration = Duration::from_millis(50);

/// Holds the lock of a file until it is dropped, or the process ends.
///
/// It is the lock of Python's `filelock`: `flock` on Unix. Where a file system has none, or grants it to all, two processes may
/// do the same work: none writes to a file of another's.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Closing it releases the lock. The file stays: removing it would let a third process lock another one.
    _file: File,
    /// Whether the lock keeps other processes of this machine out: not where the file system has no locks, or grants them to
    /// all.
    pub(crate) alone: bool,
}

impl Lock {
    /// Waits for the lock at `path`, as long as it is `going`; `waiting` is told once if somebody holds it, and who, where the
    /// system tells.
    pub(crate) fn acquire(
        path: &Path,
        going: impl Fn() -> Result<(), Error>,
        waiting: impl FnOnce(Option<&str>),
    ) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let open = || {
            fs::create_dir_all(folder).map_err(Error::io("write", folder))?;
            let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
            // What may only be read can be locked all the same.
            open.or_else(|error| File::open(path).map_err(|_| error)).map_err(Error::io("write", path))
        };
        let mut file = open()?;
        let mut waiting = Some(waiting);
        let held = loop {
            match file.try_lock() {
                Ok(()) if is_at(&file, path) => break true,
                // Somebody has removed it, and others lock the next one of that name.
                Ok(()) => file = open()?,
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting(holder(&file).as_deref());
                    }
                    going()?;
                    std::thread::sleep(INTERVAL);
                }
                // No locks there.
                Err(TryLockError::Error(_)) => break false,
            }
        };
        let alone = held && matches!(open()?.try_lock(), Err(TryLockError::WouldBlock));
        Ok(Self { _file: file, alone })
    }
}

/// Whether the open file is still the one at this path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let open = file.metadata().map(number).ok();
    open.is_some() && open == fs::metadata(path).map(number).ok()
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
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
    #[cfg(unix)]
    fn a_lock_is_that_of_the_file_that_has_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().join("locks/a.lock");
        let lock = |waiting: &mut dyn FnMut()| Lock::acquire(path, || Ok(()), |_| waiting()).unwrap();
        let first = lock(&mut || panic!("nobody has it"));
        let (waits, waited) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let late = scope.spawn(move || {
                drop(lock(&mut || waits.send(()).unwrap()));
                std::time::Instant::now()
            });
            waited.recv().unwrap();
            // Somebody clears the folder, and another comes.
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
            let second = lock(&mut || panic!("nobody has the new one"));
            drop(first);
            std::thread::sleep(4 * INTERVAL);
            let before = std::time::Instant::now();
            drop(second);
            assert!(late.join().unwrap() >= before, "two had it");
        });
    }

    #[test]
    fn whoever_waits_is_told_by_whom_a_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().join("a.lock");
        let stopped = || Err(Error::Network { host: "hub".into(), reason: "it was stopped".into() });
        let mut first = Some(Lock::acquire(path, stopped, |_| panic!("nobody has it")).unwrap());
        let error = Lock::acquire(path, stopped, |_| {}).unwrap_err();
        assert!(error.to_string().contains("it was stopped"), "{error}");
        let mut told = None;
        let waiting = |by: Option<&str>| {
            told = by.map(String::from);
            first.take();
        };
        Lock::acquire(path, || Ok(()), waiting).unwrap();
        if cfg!(target_os = "linux") {
            assert!(told.unwrap().ends_with(&format!("(process {})", std::process::id())));
        }
    }
}
