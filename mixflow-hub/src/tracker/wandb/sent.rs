//! How far a server has a run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::tracker::Error;

/// How far a server has a log, kept in a file beside it for the next process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    /// Address of the run at the server.
    pub(super) to: String,
    /// Bytes of the log that the server has.
    pub(super) end: u64,
}

impl Sent {
    /// What the file beside a log says. One that is missing or damaged says that nothing is sent: what a server has it may
    /// be sent again.
    pub(super) fn read(log: &Path) -> Self {
        let text = fs::read(path(log)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes the file beside a log.
    pub(super) fn write(&self, log: &Path) -> Result<(), Error> {
        let (path, new) = (path(log), PathBuf::from(format!("{}.sent.new", log.display())));
        let text = serde_json::to_vec(self).expect("plain data is JSON");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(Error::io("write", &path))
    }

    /// Takes back what is sent of a log behind `end`, which is about to change.
    pub(super) fn lower(log: &Path, end: u64) -> Result<Self, Error> {
        let sent = Self::read(log);
        if sent.end <= end {
            return Ok(sent);
        }
        let sent = Self { end, ..sent };
        sent.write(log)?;
        Ok(sent)
    }
}

/// Says that all of a log is at a server, as `wandb sync` does, which leaves out such logs when it looks for some.
pub(super) fn mark(log: &Path) -> Result<(), Error> {
    let marker = marker(log);
    fs::write(&marker, "").map_err(Error::io("write", &marker))
}

/// Takes [`mark`] back.
pub(super) fn unmark(log: &Path) -> Result<(), Error> {
    let marker = marker(log);
    match fs::remove_file(&marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &marker)(error)),
        _ => Ok(()),
    }
}

fn path(log: &Path) -> PathBuf {
    PathBuf::from(format!("{}.sent", log.display()))
}

fn marker(log: &Path) -> PathBuf {
    PathBuf::from(format!("{}.synced", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_only_taken_back_and_nothing_where_nobody_knows() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("run-a.wandb");
        assert_eq!(Sent::lower(&log, 5).unwrap(), Sent::default());
        let sent = Sent { to: "https://wandb.example".into(), end: 90 };
        sent.write(&log).unwrap();
        assert_eq!((Sent::lower(&log, 100).unwrap(), Sent::read(&log)), (sent.clone(), sent.clone()));
        Sent::lower(&log, 40).unwrap();
        assert_eq!(Sent::read(&log), Sent { end: 40, ..sent });
        fs::write(path(&log), "{").unwrap();
        assert_eq!(Sent::read(&log), Sent::default());
    }
}
