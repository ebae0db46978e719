//! The folder that downloads share with Python's `huggingface_hub`.
//!
//! ```text
//! models--org--name/
//!   refs/main                                     the commit of a branch or tag
//!   blobs/<hash>                                  content: SHA-256 of large files, git's hash of others
//!   blobs/<hash>.incomplete                       what came before a transfer broke
//!   blobs/<hash>.<kernel>-<number>.incomplete     what is on its way; other programs write to others
//!   snapshots/<commit>/vae/config.json            a relative link into blobs, or a file where there are no links
//!   trees/<commit>.json                           all files of a commit, where they were listed
//!   .no_exist/<commit>/name                       the server said that there is no such file
//!   .checked/<hash>                               length and time of content that was compared with its hash; ours alone, and in
//!                                                 a folder of the user where this cache may only be read
//! .locks/models--org--name/<hash>.lock
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::lock::Lock;
use crate::{Commit, Error, Repository, Revision};

/// The folder of downloaded files, which is shared with Python's `huggingface_hub`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
    /// Where the user's own notes go on content of a cache that may only be read.
    notes: Option<PathBuf>,
}

impl Cache {
    /// The cache in this folder, which is made when something is put there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), notes: None }
    }

    /// The cache, with a folder for notes that it has no room for.
    pub(crate) fn with_notes(self, notes: Option<PathBuf>) -> Self {
        Self { notes, ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of a snapshot, if it is cached. `file` must have passed [`relative`].
    pub(crate) fn file(&self, repository: &Repository, commit: &Commit, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(repository, commit).join(file);
        path.is_file().then_some(path)
    }

    /// The folder with the files of a commit.
    pub(crate) fn snapshot(&self, repository: &Repository, commit: &Commit) -> PathBuf {
        self.repository(repository).join("snapshots").join(commit.as_str())
    }

    /// The commit that a revision was when it was last asked for; a commit is itself.
    pub(crate) fn commit(&self, repository: &Repository, revision: &Revision) -> Option<Commit> {
        revision.commit().or_else(|| {
            let file = self.repository(repository).join("refs").join(revision.as_str());
            Commit::parse(fs::read_to_string(file).ok()?.trim())
        })
    }

    /// Notes the commit that a branch or tag is.
    pub(crate) fn keep_commit(
        &self,
        repository: &Repository,
        revision: &Revision,
        commit: &Commit,
    ) -> Result<(), Error> {
        if revision.commit().is_some() || self.commit(repository, revision).as_ref() == Some(commit) {
            return Ok(());
        }
        replace(&self.repository(repository).join("refs").join(revision.as_str()), commit.as_str().as_bytes())
    }

    /// Notes that a commit has no such file.
    pub(crate) fn keep_absence(&self, repository: &Repository, commit: &Commit, file: &str) -> Result<(), Error> {
        let path = self.repository(repository).join(".no_exist").join(commit.as_str()).join(file);
        if path.exists() { Ok(()) } else { replace(&path, b"") }
    }

    /// The list of all files of a commit, as text.
    pub(crate) fn tree(&self, repository: &Repository, commit: &Commit) -> Option<Vec<u8>> {
        fs::read(self.tree_file(repository, commit)).ok()
    }

    /// Stores the list of all files of a commit, as text.
    pub(crate) fn keep_tree(&self, repository: &Repository, commit: &Commit, tree: &[u8]) -> Result<(), Error> {
        replace(&self.tree_file(repository, commit), tree)
    }

    /// The path of content of this hash.
    pub(crate) fn blob(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.repository(repository).join("blobs").join(digest.as_str())
    }

    /// Whether what is at `path` has this hash: read once, then known by a note as long as length and time stay.
    pub(crate) fn is_right(&self, repository: &Repository, digest: &Digest, path: &Path) -> bool {
        let Ok(state) = state(path) else { return false };
        let mut notes = std::iter::once(self.note(repository, digest)).chain(self.own_note(repository, digest));
        if notes.any(|note| fs::read_to_string(note).is_ok_and(|note| note == state)) {
            return true;
        }
        let right = digest.is_of(path).unwrap_or(false);
        if right {
            self.keep_checked(repository, digest, path);
        }
        right
    }

    /// Notes that what is at `path` has this hash; with the user where the cache may only be read. It only spares reading.
    pub(crate) fn keep_checked(&self, repository: &Repository, digest: &Digest, path: &Path) {
        if let Ok(state) = state(path)
            && replace(&self.note(repository, digest), state.as_bytes()).is_err()
            && let Some(own) = self.own_note(repository, digest)
        {
            let _ = replace(&own, state.as_bytes());
        }
    }

    /// Keeps others from fetching the same content; waits for those who do, as long as it is `going`.
    pub(crate) fn lock(
        &self,
        repository: &Repository,
        digest: &Digest,
        going: impl Fn() -> Result<(), Error>,
        waiting: impl FnOnce(Option<&str>),
    ) -> Result<Lock, Error> {
        let folder = self.folder.join(".locks").join(repository.folder_name());
        Lock::acquire(&folder.join(format!("{digest}.lock")), going, waiting)
    }

    /// Makes content that is there a file of a snapshot. `file` must have passed [`relative`].
    pub(crate) fn link(
        &self,
        repository: &Repository,
        commit: &Commit,
        file: &str,
        digest: &Digest,
    ) -> Result<PathBuf, Error> {
        let path = self.snapshot(repository, commit).join(file);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::io("write", folder))?;
        let above = "../".repeat(file.split('/').count() + 1);
        let target = PathBuf::from(format!("{above}blobs/{digest}"));
        if fs::read_link(&path).is_ok_and(|found| found == target) {
            return Ok(path);
        }
        let partial = unique(&path);
        let linked = link_or_copy(|| symlink(&target, &partial), &self.blob(repository, digest), &partial);
        linked.and_then(|()| fs::rename(&partial, &path)).map_err(|error| {
            let _ = fs::remove_file(&partial);
            Error::io("write", &path)(error)
        })?;
        Ok(path)
    }

    /// Makes the folder for content, and marks the cache for programs that make backups.
    pub(crate) fn prepare(&self, repository: &Repository) -> Result<(), Error> {
        let folder = self.repository(repository).join("blobs");
        fs::create_dir_all(&folder).map_err(Error::io("write", &folder))?;
        let tag = self.folder.join("CACHEDIR.TAG");
        if !tag.exists() {
            const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# See https://bford.info/cachedir/\n";
            // Nobody depends on it.
            let _ = fs::write(tag, TAG);
        }
        Ok(())
    }

    /// The names of all files of a snapshot, sorted.
    pub(crate) fn files(&self, repository: &Repository, commit: &Commit) -> Vec<String> {
        fn walk(folder: &Path, above: &str, names: &mut Vec<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = format!("{above}{name}");
                // Folders are never links here; links that lead nowhere are no files.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    walk(&entry.path(), &format!("{name}/"), names);
                } else if entry.path().is_file() {
                    names.push(name);
                }
            }
        }
        let mut names = vec![];
        walk(&self.snapshot(repository, commit), "", &mut names);
        names.sort();
        names
    }

    fn repository(&self, repository: &Repository) -> PathBuf {
        self.folder.join(repository.folder_name())
    }

    fn note(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.repository(repository).join(".checked").join(digest.as_str())
    }

    fn own_note(&self, repository: &Repository, digest: &Digest) -> Option<PathBuf> {
        let cache = fs::canonicalize(&self.folder).ok()?;
        let cache = hex::encode(Sha256::digest(cache.as_os_str().as_encoded_bytes()));
        Some(self.notes.as_ref()?.join(cache).join(repository.folder_name()).join(digest.as_str()))
    }

    fn tree_file(&self, repository: &Repository, commit: &Commit) -> PathBuf {
        self.repository(repository).join("trees").join(format!("{commit}.json"))
    }
}

/// Length and time of a file: while these stay, so does its content.
fn state(path: &Path) -> io::Result<String> {
    let found = fs::metadata(path)?;
    let time = found.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} {}", found.len(), time.as_nanos()))
}

/// Whether this system can hold a file of this name. Windows reads `ab:x` as a stream of `ab` and `CON` as a device, and
/// takes no dot or blank at the end.
///
/// # Source
/// *Naming Files, Paths, and Namespaces*, learn.microsoft.com.
pub(crate) fn holdable(name: &str) -> bool {
    !cfg!(windows) || windows_holds(name)
}

fn windows_holds(name: &str) -> bool {
    let part = |part: &str| {
        let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_uppercase();
        let port = |kind: &str| {
            stem.strip_prefix(kind).is_some_and(|number| number.len() == 1 && ("1"..="9").contains(&number))
        };
        let device = ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str()) || port("COM") || port("LPT");
        !device && !part.ends_with(['.', ' '])
    };
    !name.contains(['<', '>', ':', '"', '|', '?', '*']) && name.split('/').all(part)
}

/// Whether a file's name stays below the folder that it is joined to, on every system.
pub(crate) fn relative(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
    let letter = |c: char| !c.is_control() && c != '\\';
    let drive = name.as_bytes().get(1) == Some(&b':');
    name.len() <= 1024 && !drive && name.chars().all(letter) && name.split('/').all(part)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(Error::io("write", folder))?;
    let partial = unique(path);
    let written = File::create(&partial).and_then(|mut file| file.write_all(content));
    written.and_then(|()| fs::rename(&partial, path)).map_err(|error| {
        let _ = fs::remove_file(&partial);
        Error::io("write", path)(error)
    })
}

/// A name beside `path` that no other thread or process takes.
fn unique(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Elsewhere links need rights that users do not have.
#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes content a file at `path`: by `link`, where the file system has none, such as exFAT's, by a hard link, else as a copy.
fn link_or_copy(link: impl FnOnce() -> io::Result<()>, blob: &Path, path: &Path) -> io::Result<()> {
    link().or_else(|_| fs::hard_link(blob, path)).or_else(|_| fs::copy(blob, path).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_holds_no_streams_and_devices() {
        for name in ["a", "vae/config.json", ".gitattributes", "console/COM10.txt", "a b/NULL", "auxiliary", "COM"] {
            assert!(windows_holds(name), "{name}");
        }
        for name in ["ab:stream", "CON", "vae/con.json", "NUL.tar.gz", "lpt1", "COM9 .x", "a.", "a /b", "a?", "x/a|b"] {
            assert!(!windows_holds(name), "{name}");
        }
    }

    #[test]
    fn content_is_a_file_where_there_are_no_links() {
        let folder = tempfile::tempdir().unwrap();
        let [blob, path] = ["blob", "x"].map(|name| folder.path().join(name));
        fs::write(&blob, "hello\n").unwrap();
        // As Linux answers on exFAT and on SMB.
        let link = || Err(io::ErrorKind::PermissionDenied.into());
        link_or_copy(link, &blob, &path).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&path).unwrap(), b"hello\n");
        assert!(link_or_copy(link, &folder.path().join("none"), &path).is_err());
    }

    #[test]
    fn content_is_read_once_and_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let repository = "org/name".parse().unwrap();
        let digest = Digest::parse("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let path = folder.path().join("x");
        let right = || cache.is_right(&repository, &digest, &path);
        assert!(!right());
        fs::write(&path, "hello\n").unwrap();
        assert!(right() && cache.note(&repository, &digest).is_file());
        // Only a note can tell that other content of the same length and time is right.
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "hellO\n").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert!(right());
        fs::write(&path, "hellO\n").unwrap();
        assert!(!right());
        // A note that cannot be written is none.
        fs::remove_file(cache.note(&repository, &digest)).unwrap();
        fs::create_dir(cache.note(&repository, &digest)).unwrap();
        fs::write(&path, "hello\n").unwrap();
        assert!(right());
        // The user keeps it then, for this cache alone.
        let notes = tempfile::tempdir().unwrap();
        let cache = cache.clone().with_notes(Some(notes.path().into()));
        assert!(cache.is_right(&repository, &digest, &path));
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "hellO\n").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert!(cache.is_right(&repository, &digest, &path) && !right());
        let other = tempfile::tempdir().unwrap();
        let other = Cache::new(other.path()).with_notes(Some(notes.path().into()));
        assert!(!other.is_right(&repository, &digest, &path));
    }

    #[test]
    fn names_stay_below_the_folder() {
        for name in ["a", "vae/config.json", ".gitattributes", "a b/ü.bin", "...", "a..b"] {
            assert!(relative(name), "{name}");
        }
        for name in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a/..",
            "a//b",
            "a/",
            "./a",
            "a\\..\\b",
            "\\\\host\\x",
            "C:/x",
            "C:x",
            "a\0b",
            "a\nb",
            &"a".repeat(256),
        ] {
            assert!(!relative(name), "{name:?}");
        }
    }
}
