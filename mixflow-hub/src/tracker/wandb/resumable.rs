//! What an earlier process left of a run.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::log::Records;
use super::record::{self, Record, Values};
use crate::tracker::Error;

/// The part of a run's log that stays when the run goes on.
#[derive(Default)]
pub(super) struct ResumableRun {
    /// Length of that part, in bytes.
    pub(super) end: u64,
    pub(super) records: u64,
    pub(super) summary: Values,
    /// The last row.
    pub(super) last: Values,
    /// The step behind the last row.
    pub(super) next: u64,
    /// Whether a release of ours wrote it.
    pub(super) ours: bool,
    /// Whether a record says what the run is called: without one the log is of no use.
    pub(super) named: bool,
}

/// The newest run directory of ours in a folder, with its log and what that holds.
pub(super) fn newest(folder: &Path) -> Result<Option<(PathBuf, PathBuf, ResumableRun)>, Error> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = entries.map_err(Error::io("read", folder))?;
    let mut names: Vec<_> = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    for name in names.iter().rev().filter_map(|name| name.strip_prefix("offline-run-")) {
        let folder = folder.join(format!("offline-run-{name}"));
        let log = folder.join(format!("run-{}.wandb", name.rsplit('-').next().unwrap_or_default()));
        if !log.is_file() {
            continue;
        }
        match kept(&log, u64::MAX)? {
            Some(kept) if kept.ours && kept.named => return Ok(Some((folder, log, kept))),
            _ => {}
        }
    }
    Ok(None)
}

/// The part of a log that stays when its run goes on at a step; none if the file is no log.
pub(super) fn kept(path: &Path, step: u64) -> Result<Option<ResumableRun>, Error> {
    let fault = |error| Error::io("read", path)(error);
    let Some(mut records) = Records::open(File::open(path).map_err(fault)?).map_err(fault)? else {
        return Ok(None);
    };
    let mut kept = ResumableRun { end: records.end(), ..ResumableRun::default() };
    while let Some(record) = records.next().map_err(fault)? {
        match record::read(&record) {
            Record::Header { ours } => kept.ours = ours,
            Record::Run { .. } => kept.named = true,
            Record::Summary(values) => kept.summary.extend(values),
            Record::History { step: found, .. } if found >= step => break,
            Record::Exit { .. } => break,
            Record::History { step, values } => (kept.next, kept.last) = (step + 1, values),
            Record::Config(_) | Record::File(_) | Record::Other => {}
        }
        (kept.end, kept.records) = (records.end(), kept.records + 1);
    }
    Ok(Some(kept))
}
