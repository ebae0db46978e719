//! Files that are whole or absent.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::Error;

/// Files that are being written.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

/// Removes the halves of files that this process is writing: before it is ended from outside.
pub fn discard_unfinished() {
    for file in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // Nobody is left to tell.
        let _ = fs::remove_file(file);
    }
}

/// Writes a file so that `path` holds either what it held before or all of `contents`, also after a power cut.
///
/// The bytes go to a temporary name in the same directory, are synced, and are renamed over `path`. `tempfile` would do as
/// much in as many lines, with files that their owner alone may read, and errors that tell a name that nobody knows.
///
/// # Errors
/// [`Error::Io`]. Nothing half-written is left behind.
pub fn write_atomic(path: &Path, contents: &[u8]) -> Result<(), Error> {
    write_atomic_with(path, |file| file.write_all(contents))
}

/// As [`write_atomic`], for contents that are written piece by piece.
pub(crate) fn write_atomic_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Error> {
    let temporary = temporary_name(path).map_err(Error::io("write", path))?;
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(temporary.clone());
    let written = File::create_new(&temporary).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    let result = written.and_then(|()| fs::rename(&temporary, path));
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|file| *file != temporary);
    if result.is_err() {
        // The first error is the one to report; there may be nothing to remove.
        let _ = fs::remove_file(&temporary);
    } else if let Some(directory) = directory(path) {
        // Makes the new name durable. Not every file system can sync a directory, and the file is complete either way.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
    result.map_err(Error::io("write", path))
}

/// Creates the folders above a file, and finds out whether it can be written there, before what it is to hold takes hours.
///
/// # Errors
/// [`Error::Io`] if a folder cannot be created or written to, or if one has the file's name.
pub fn check_writable(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Err(Error::io("write", path)(io::ErrorKind::IsADirectory.into()));
    }
    let folder = directory(path).unwrap_or(path);
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let probe = temporary_name(path).map_err(Error::io("write", path))?;
    File::create_new(&probe).and_then(|_| fs::remove_file(&probe)).map_err(Error::io("write to", folder))
}

/// A hidden sibling of `path`, different every time: processes in containers may have one number, and write to one folder.
fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "expected the path of a file");
    let name = path.file_name().ok_or_else(no_file)?;
    let random = RandomState::new().hash_one(std::process::id());
    Ok(path.with_file_name(format!(".{}.{random:016x}.tmp", name.to_string_lossy())))
}

fn directory(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.html");
        for contents in ["first, longer", "second"] {
            write_atomic(&path, contents.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_two_writers_share_a_temporary_name() {
        let names: std::collections::HashSet<_> = (0..100).map(|_| temporary_name(Path::new("a/b")).unwrap()).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.to_str().unwrap().starts_with("a/.b.")));
    }

    #[test]
    fn what_can_be_written_is_known_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/folder/report.html");
        check_writable(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left there");
        write_atomic(&path, b"contents").unwrap();
        check_writable(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"contents");
        for taken in [path.parent().unwrap(), &path.join("below.html"), Path::new("/")] {
            assert!(check_writable(taken).is_err(), "{}", taken.display());
        }
    }

    #[test]
    fn errors_name_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("report.html");
        let message = write_atomic(&path, b"").unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");

        // A directory in the way: the temporary file is removed again.
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write_atomic(&taken, b"contents").unwrap_err().to_string().contains("taken"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write_atomic(Path::new("/"), b"").is_err());
    }
}
