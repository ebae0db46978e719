//! One process a folder.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::printable::shortened;

const FILE: &str = ".lock";

/// Keeps other processes out of a folder, until it is dropped or the process ends in whatever way.
///
/// The file `.lock` says who holds it. It goes with the lock; one that a killed process left has no effect. Folders that
/// were made for the lock go too, if nothing else came into them.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// Closing it releases the lock.
    file: File,
    _made: Made,
    warning: Option<String>,
}

impl FolderLock {
    /// Takes the lock of a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process has it; [`Error::Io`] if the folder cannot be written to. A file system without
    /// locks is none, but a [`warning`](Self::warning).
    pub fn take(folder: &Path) -> Result<Self, Error> {
        if folder.exists() && !folder.is_dir() {
            let fault = io::Error::new(io::ErrorKind::NotADirectory, "expected a folder, found a file");
            return Err(Error::io("use", folder)(fault));
        }
        let made = Made::create(folder)?;
        let path = folder.join(FILE);
        let (file, warning) = loop {
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = open.map_err(Error::io("write", &path))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => break (file, None),
                // The last one has removed it just now.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Busy { folder: folder.into(), holder: Holder::read(&path) });
                }
                Err(TryLockError::Error(error)) => {
                    let warning =
                        format!("{} cannot be locked ({error}): let no other process work there", folder.display());
                    break (file, Some(warning));
                }
            }
        };
        let mut lock = Self { path, file, _made: made, warning };
        let holder = serde_json::to_vec(&Holder::this()).expect("text and numbers are JSON");
        let written = lock.file.set_len(0).and_then(|()| lock.file.write_all(&holder));
        written.map_err(Error::io("write", &lock.path))?;
        Ok(lock)
    }

    /// Who works in a folder now, in words; none if nobody does.
    pub fn holder(folder: &Path) -> Option<String> {
        let path = folder.join(FILE);
        let locked =
            File::open(&path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
        locked.then(|| Holder::read(&path))
    }

    /// What the user should know: that the file system has no locks.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Who opened it meanwhile finds that it is gone. Where an open file cannot go, it stays without effect.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the file that is open is the one of this name still.
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

/// Folders that were made; those that are empty in the end are removed.
#[derive(Debug)]
struct Made(Vec<PathBuf>);

impl Made {
    fn create(folder: &Path) -> Result<Self, Error> {
        let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let made = Self(missing.map(PathBuf::from).collect());
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for folder in &self.0 {
            // It fails for a folder that holds something.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A process.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: Option<String>,
    command: String,
    /// UTC.
    started: String,
}

impl Holder {
    fn this() -> Self {
        let mut words = std::env::args_os();
        let program = words.next().map(PathBuf::from).unwrap_or_default();
        let program = program.file_name().unwrap_or_default().to_os_string();
        let command: Vec<_> = std::iter::once(program).chain(words).map(|word| word.display().to_string()).collect();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_string());
        let host = host.or_else(|| ["HOSTNAME", "COMPUTERNAME"].into_iter().find_map(|name| std::env::var(name).ok()));
        let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self { pid: std::process::id(), host, command: command.join(" "), started }
    }

    /// The one that a lock file names, in words.
    fn read(path: &Path) -> String {
        let holder: Option<Self> = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        holder.map_or("another process".into(), |holder| holder.to_string())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Characters of a command: enough for its name and its folder.
        const SHOWN: usize = 80;
        let Self { pid, host, command, started } = self;
        let command = shortened(command, SHOWN);
        let host = host.as_deref().unwrap_or("an unknown machine");
        write!(f, "process {pid} on {host}, `{command}`, since {started}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_works_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("runs/digits");
        let first = FolderLock::take(&folder).unwrap();
        assert_eq!(first.warning(), None);
        let message = FolderLock::take(&folder).unwrap_err().to_string();
        let who = FolderLock::holder(&folder).unwrap();
        assert!(who.starts_with(&format!("process {} on ", std::process::id())), "{who}");
        assert!(message.contains(&who) && message.contains("runs/digits"), "{message}");
        drop(first);
        assert_eq!(FolderLock::holder(&folder), None);
        drop(FolderLock::take(&folder).unwrap());
    }

    #[test]
    fn a_long_command_is_told_by_its_beginning() {
        let command = format!("mixflow train digits{}", " --set training.steps=1".repeat(20));
        let holder = Holder { pid: 7, host: Some("here".into()), command, started: "now".into() };
        let expected = "process 7 on here, `mixflow train digits --set training.steps=1 --set training.steps=1 --set trainin…`, since now";
        assert_eq!(holder.to_string(), expected);
    }

    #[test]
    fn a_lock_leaves_nothing_but_what_came_into_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "a/b"].map(|name| root.path().join(name));
        drop(FolderLock::take(&b).unwrap());
        assert!(!a.exists());
        let lock = FolderLock::take(&b).unwrap();
        fs::write(b.join("kept"), "").unwrap();
        drop(lock);
        assert_eq!(fs::read_dir(&b).unwrap().count(), 1);
        // What was there stays, and so does the file of a process that was killed.
        fs::remove_file(b.join("kept")).unwrap();
        fs::write(b.join(FILE), "{").unwrap();
        assert_eq!(FolderLock::holder(&b), None);
        drop(FolderLock::take(&b).unwrap());
        assert!(b.exists());
    }

    #[test]
    fn a_file_is_no_folder() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "text").unwrap();
        for folder in [file.clone(), file.join("below")] {
            let message = FolderLock::take(&folder).unwrap_err().to_string();
            assert!(message.contains("file"), "{message}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    }
}
