//! Files that are whole or absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use mixflow_backbones::unfinished::Unfinished;

use crate::Error;

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
    let written = Unfinished::of(path).and_then(|unfinished| {
        let mut file = File::create_new(unfinished.path())?;
        write(&mut file)?;
        file.sync_all()?;
        unfinished.finish()
    });
    written.map_err(Error::io("write", path))
}

/// Creates the folders above a file, and finds out whether it can be written there, before what it is to hold takes hours.
///
/// # Errors
/// [`Error::Io`] if a folder cannot be created or written to, or if one has the file's name.
pub fn check_writable(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Err(Error::io("write", path)(io::ErrorKind::IsADirectory.into()));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let probe = Unfinished::of(path).and_then(|probe| File::create_new(probe.path()).map(drop));
    probe.map_err(Error::io("write to", folder))
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
