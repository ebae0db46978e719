//! What has come of a file so far.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that nobody has written to for so long belongs to nobody.
const IDLE: Duration = Duration::from_secs(600);

/// What the names of all partial files end with.
const ENDING: &str = ".incomplete";

/// The beginning of some content, in a file that nobody else writes to: on some file systems (Lustre, GPFS, NFS) two processes may
/// hold a lock at once.
///
/// A transfer that fails leaves it as `<hash>.incomplete`. Whoever goes on with it renames it, which only one can. That of a
/// process that was killed keeps the name `<hash>.<kernel>-<number>.incomplete`; one on the same machine goes on with it where a
/// lock of it, on Windows that of the content, shows that nobody writes to it; others after ten minutes.
pub(super) struct Partial {
    /// Path of the content once it is whole.
    blob: PathBuf,
    path: PathBuf,
    pub(super) file: File,
    /// Whether another process began the file.
    pub(super) taken: bool,
    /// Whether the lock of the content is held, and kept by others.
    alone: bool,
    finished: bool,
}

impl Partial {
    /// Goes on with the longest file that is left, or begins a new one, as it does with content that is not `large`.
    pub(super) fn open(blob: &Path, large: bool, alone: bool) -> io::Result<Self> {
        let path = own(blob);
        let all = if large { left(blob) } else { vec![with(blob, ENDING)] };
        let taken = all.into_iter().find_map(|left| {
            let file = free(&left, blob, alone)?;
            fs::rename(&left, &path).is_ok().then_some(file)
        });
        let (file, taken) = match taken {
            Some(file) => (file, true),
            None => (create(&path)?, false),
        };
        Ok(Self { blob: blob.into(), path, file, taken, alone, finished: false })
    }

    /// Path of the file while it is partial.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Path at which the file is left for other processes.
    pub(super) fn shared(&self) -> PathBuf {
        with(&self.blob, ENDING)
    }

    /// Begins a new file: another process may still write to one that was taken over.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        let path = own(&self.blob);
        self.file = create(&path)?;
        let _ = fs::remove_file(std::mem::replace(&mut self.path, path));
        self.taken = false;
        Ok(())
    }

    /// Renames the file to the content's path, and removes partial files that others have left of it.
    pub(super) fn finish(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.blob)?;
        self.finished = true;
        for left in left(&self.blob) {
            if free(&left, &self.blob, self.alone).is_some() {
                let _ = fs::remove_file(left);
            }
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let (length, shared) = (length(&self.path), self.shared());
        if self.taken || length > 0 && length > self::length(&shared) {
            let _ = fs::rename(&self.path, shared);
        } else {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Partial files of the content at `blob`, the longest first.
fn left(blob: &Path) -> Vec<PathBuf> {
    let start = format!("{}.", blob.file_name().unwrap_or_default().display());
    let folder = blob.parent().map(fs::read_dir);
    let names = folder.into_iter().flatten().flatten().flatten().map(|entry| entry.file_name());
    let killed = names.filter(|name| name.to_str().and_then(|name| kernel_of(name.strip_prefix(&start)?)).is_some());
    let killed = killed.map(|name| blob.with_file_name(name));
    let mut left: Vec<_> = killed.chain([with(blob, ENDING)]).filter(|path| path.exists()).collect();
    left.sort_by_key(|path| std::cmp::Reverse(length(path)));
    left
}

/// The file, if nobody writes to it.
fn free(path: &Path, blob: &Path, alone: bool) -> Option<File> {
    let open = || File::options().read(true).write(true).open(path).ok();
    let file = open()?;
    let locked = match lock(&file) {
        Err(TryLockError::WouldBlock) => return None,
        locked => locked.is_ok(),
    };
    let rest = path.file_name()?.to_str()?.strip_prefix(blob.file_name()?.to_str()?)?.strip_prefix('.')?;
    let here = kernel_of(rest).map(|kernel| kernel == this_kernel());
    let is_free = match here {
        None => true,
        // Where it can be locked twice, a lock means nothing.
        Some(true) if locked => matches!(lock(&open()?), Err(TryLockError::WouldBlock)),
        Some(true) if cfg!(not(unix)) && alone => true,
        Some(_) => file.metadata().ok()?.modified().ok()?.elapsed().is_ok_and(|idle| idle > IDLE),
    };
    is_free.then_some(file)
}

/// Takes the lock that tells that a process writes to the file. On other systems it would keep others from reading the file,
/// too.
fn lock(file: &File) -> Result<(), TryLockError> {
    if cfg!(unix) { file.try_lock() } else { Err(TryLockError::Error(io::ErrorKind::Unsupported.into())) }
}

fn create(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    let _ = lock(&file);
    Ok(file)
}

/// A path of a partial file that no other process takes.
fn own(blob: &Path) -> PathBuf {
    let number = RandomState::new().hash_one(std::process::id());
    with(blob, &format!(".{}-{number:016x}{ENDING}", this_kernel()))
}

/// The kernel in what such a name has behind the hash and its point.
fn kernel_of(rest: &str) -> Option<&str> {
    Some(rest.strip_suffix(ENDING)?.split_once('-')?.0)
}

/// Id of the kernel since it was started, which is what knows of locks.
fn this_kernel() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id: String = id.chars().take(8).collect();
    if id.is_empty() { "this".into() } else { id }
}

fn with(blob: &Path, ending: &str) -> PathBuf {
    let mut name = blob.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::SystemTime;

    use super::*;

    fn names(blob: &Path) -> Vec<String> {
        let entries = fs::read_dir(blob.parent().unwrap()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn one_goes_on_with_what_another_has_left_and_never_with_what_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("abc");
        let mut first = Partial::open(&blob, true, false).unwrap();
        first.file.write_all(b"some").unwrap();
        let mut second = Partial::open(&blob, true, false).unwrap();
        assert!(!second.taken && length(second.path()) == 0);
        second.file.write_all(b"so").unwrap();
        drop((first, second));
        assert_eq!(names(&blob), ["abc.incomplete"]);
        let [first, second] = [true, false].map(|_| Partial::open(&blob, true, false).unwrap());
        assert!(first.taken && length(first.path()) == 4 && !second.taken);
        // Where the lock did not keep them apart, both may have it.
        first.finish().unwrap();
        second.finish().unwrap();
        assert_eq!(names(&blob), ["abc"]);
    }

    #[test]
    fn what_killed_processes_left_is_gone_on_with_at_once_and_then_gone() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("abc");
        let killed = |number: u32, text: &str| {
            let path = with(&blob, &format!(".{}-{number}{ENDING}", this_kernel()));
            fs::write(path, text).unwrap();
        };
        killed(1, "some");
        killed(2, "so");
        let partial = Partial::open(&blob, true, true).unwrap();
        assert!(partial.taken && length(partial.path()) == 4);
        partial.finish().unwrap();
        killed(3, "small");
        Partial::open(&blob, false, true).unwrap().finish().unwrap();
        assert_eq!(names(&blob), ["abc"]);
    }

    #[test]
    fn what_was_begun_anew_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("abc");
        fs::write(folder.path().join("abc.incomplete"), "wrong").unwrap();
        let mut partial = Partial::open(&blob, false, true).unwrap();
        let mut other = File::options().append(true).open(partial.path()).unwrap();
        partial.restart().unwrap();
        partial.file.write_all(b"right").unwrap();
        other.write_all(b"wrong").unwrap();
        assert!(!partial.taken);
        partial.finish().unwrap();
        // On Windows a file stays until the last who has it open is done.
        drop(other);
        assert!(fs::read(&blob).unwrap() == b"right" && names(&blob).len() == 1);
    }

    #[test]
    fn what_somebody_left_on_another_machine_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("abc");
        let other = folder.path().join("abc.elsewhere-1.incomplete");
        // Python's own, which it does not go on with.
        fs::write(folder.path().join("abc.0123abcd.incomplete"), "theirs").unwrap();
        fs::write(&other, "some").unwrap();
        let open = |large| Partial::open(&blob, large, true).unwrap();
        assert!(!open(true).taken && other.exists());
        let past = SystemTime::now() - IDLE - Duration::from_secs(1);
        File::options().write(true).open(&other).unwrap().set_modified(past).unwrap();
        assert!(!open(false).taken && open(true).taken);
        assert_eq!(names(&blob), ["abc.0123abcd.incomplete", "abc.incomplete"]);
    }
}
