//! Files and folders that are whole or absent.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What is being written.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

/// Removes the halves of files and folders that this process is writing: before it is ended from outside.
pub fn discard_unfinished() {
    for path in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        remove(&path);
    }
}

/// A file or folder that is written under a name of its own, and takes its place once it is whole. Until then it goes as this does,
/// or by [`discard_unfinished`].
#[derive(Debug)]
pub struct Unfinished {
    own: PathBuf,
    place: PathBuf,
}

impl Unfinished {
    /// What shall be at `place`, under a hidden name beside it that is different every time: processes in containers may have one
    /// number, and write to one folder. Nothing is created.
    ///
    /// # Errors
    /// If `place` is no name for a file or folder.
    pub fn of(place: &Path) -> io::Result<Self> {
        let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "expected the path of a file");
        let name = place.file_name().ok_or_else(no_name)?;
        let random = RandomState::new().hash_one(std::process::id());
        let own = place.with_file_name(format!(".{}.{random:016x}.tmp", name.to_string_lossy()));
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(own.clone());
        Ok(Self { own, place: place.into() })
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.own
    }

    /// Puts it, whole and synced, in its place, over a file that is there.
    ///
    /// # Errors
    /// If it cannot be renamed; it is removed then.
    pub fn finish(self) -> io::Result<()> {
        fs::rename(&self.own, &self.place)?;
        // The new name lasts once the folder is on disk; not every system can be asked for that, and it is whole either way.
        let folder = self.place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = unfinished.iter().position(|path| *path == self.own) {
            unfinished.swap_remove(index);
            remove(&self.own);
        }
    }
}

/// Nobody is left to tell, or the first error is the one to report; there may be nothing.
fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_writers_share_a_name() {
        let all: Vec<_> = (0..100).map(|_| Unfinished::of(Path::new("a/b")).unwrap()).collect();
        let names: std::collections::HashSet<_> = all.iter().map(Unfinished::path).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.to_str().unwrap().starts_with("a/.b.")));
        assert!(Unfinished::of(Path::new("/")).is_err());
    }

    #[test]
    fn what_is_not_finished_is_removed_and_what_is_stays() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        for finished in [false, true] {
            let (file, folder) = (Unfinished::of(&place("file")).unwrap(), Unfinished::of(&place("folder")).unwrap());
            fs::write(file.path(), "some").unwrap();
            fs::create_dir(folder.path()).unwrap();
            fs::write(folder.path().join("part"), "some").unwrap();
            if finished {
                file.finish().unwrap();
                folder.finish().unwrap();
            }
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
        assert!(place("file").is_file() && place("folder/part").is_file());
    }
}
