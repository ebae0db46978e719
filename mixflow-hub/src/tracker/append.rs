//! A file that grows by whole records.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::tracker::Error;

/// Records are collected up to this size, in bytes.
const PENDING: usize = 64 << 10;

/// Records are kept back at most so long, that those who watch see them.
const DELAY: Duration = Duration::from_secs(5);

/// A file to which records are added. One is complete or absent: what a full disk tears is taken back.
///
/// What is taken back stays in the file until something takes its place: a process that is killed in between loses nothing
/// that was flushed.
#[derive(Debug)]
pub(super) struct Append {
    path: PathBuf,
    file: File,
    /// Bytes of whole records in the file that stay.
    written: u64,
    /// Whether the file may go on behind them.
    stale: bool,
    /// Records that the system does not have yet.
    pending: Vec<u8>,
    flushed: Instant,
}

impl Append {
    /// Creates a file; one that is there is left alone.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let file = File::options().write(true).create_new(true).open(path).map_err(Error::io("create", path))?;
        Ok(Self { path: path.into(), file, written: 0, stale: false, pending: vec![], flushed: Instant::now() })
    }

    /// Opens a file to go on after its first `length` bytes.
    pub(super) fn reopen(path: &Path, length: u64) -> Result<Self, Error> {
        let file = File::options().write(true).open(path).map_err(Error::io("write", path))?;
        Ok(Self { path: path.into(), file, written: length, stale: true, pending: vec![], flushed: Instant::now() })
    }

    /// Path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next record goes, in bytes from the start.
    pub(super) fn end(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Adds a record.
    pub(super) fn push(&mut self, record: &[u8]) {
        self.pending.extend(record);
    }

    /// Whether enough came together, or waited long enough, to be flushed.
    pub(super) fn is_due(&self) -> bool {
        self.pending.len() >= PENDING || self.flushed.elapsed() >= DELAY
    }

    /// Writes all pending records.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let (end, pending) = (self.end(), std::mem::take(&mut self.pending));
        let start = self.file.seek(SeekFrom::Start(self.written));
        let written = start.and_then(|_| self.file.write_all(&pending));
        // Last: a process that is killed before has what was there, or what takes its place.
        let written = written.and_then(|()| if self.stale { self.file.set_len(end) } else { Ok(()) });
        if let Err(error) = written {
            // What stopped the write is the error to report.
            let _ = self.file.set_len(self.written);
            return Err(Error::io("write", &self.path)(error));
        }
        (self.written, self.stale) = (end, false);
        self.flushed = Instant::now();
        Ok(())
    }

    /// Takes back everything from the byte `end` on.
    pub(super) fn cut(&mut self, end: u64) {
        match end.checked_sub(self.written) {
            Some(kept) => self.pending.truncate(usize::try_from(kept).unwrap_or(usize::MAX)),
            None => {
                self.pending.clear();
                (self.written, self.stale) = (end, true);
            }
        }
    }
}

impl Drop for Append {
    fn drop(&mut self) {
        // Whoever needs to know has flushed.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_back_from_the_file_and_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut file = Append::create(&path).unwrap();
        file.push(b"one,two,");
        file.flush().unwrap();
        file.push(b"three,four,");
        file.cut(14);
        assert_eq!(file.end(), 14);
        file.push(b"4,");
        file.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one,two,three,4,");
        file.push(b"lost");
        file.cut(4);
        file.push(b"2,");
        assert_eq!(std::fs::read(&path).unwrap(), b"one,two,three,4,", "what is flushed stays until then");
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"one,2,");
        drop(Append::reopen(&path, 4).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"one,");
        assert!(Append::create(&path).unwrap_err().to_string().contains("log"));
    }
}
