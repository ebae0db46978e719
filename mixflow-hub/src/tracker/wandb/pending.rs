//! What of a log is to be sent.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::WandbRun;
use super::files;
use super::log::{HEADER, Records};
use super::record::{self, Known, Values};

/// Rows are sent together up to this size, in bytes.
const ROWS: usize = 1 << 20;

/// So many files are uploaded at once.
const FILES: usize = 20;

/// A log that is read while it grows.
#[derive(Debug)]
pub(super) struct Pending {
    log: PathBuf,
    /// Bytes that are read.
    end: u64,
    /// Rows that are read.
    rows: u64,
    /// Of the run itself: its id, and what it is called.
    pub(super) run: Option<(String, WandbRun)>,
    config: Values,
    summary: Values,
}

/// A part of a log that is sent together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batch {
    /// Where it ends in the log.
    pub(super) end: u64,
    /// Number of its first row in the run.
    pub(super) first: u64,
    /// Its rows, as JSON.
    pub(super) rows: Vec<String>,
    /// Files in the folder `files`.
    pub(super) files: Vec<String>,
    /// Whether it changes the configuration.
    pub(super) config: bool,
    /// Whether it changes the summary.
    pub(super) summary: bool,
    /// The exit code, if it ends the run.
    pub(super) exit: Option<u64>,
}

impl Pending {
    /// What is behind the first `sent` bytes of a log.
    pub(super) fn open(log: &Path, sent: u64) -> io::Result<Self> {
        let (config, summary) = (Values::new(), Values::new());
        let mut pending = Self { log: log.into(), end: HEADER.len() as u64, rows: 0, run: None, config, summary };
        while pending.end < sent {
            if pending.next(sent)?.is_none() {
                break;
            }
        }
        Ok(pending)
    }

    /// The next part, which ends at `stable` or before; none if that is reached.
    pub(super) fn next(&mut self, stable: u64) -> io::Result<Option<Batch>> {
        if self.end >= stable {
            return Ok(None);
        }
        let start = self.end;
        let mut batch = Batch { first: self.rows, ..Batch::default() };
        let mut records = Records::after(File::open(&self.log)?, self.end)?;
        let mut size = 0;
        while self.end < stable && size < ROWS && batch.files.len() < FILES {
            let Some(record) = records.next()? else { break };
            match record::read(&record) {
                Known::Run { id, run } => self.run = Some((id, run)),
                Known::Config(values) => {
                    self.config.extend(values);
                    batch.config = true;
                }
                Known::History { values, .. } => {
                    let row = files::object(&values);
                    size += row.len();
                    batch.rows.push(row);
                    self.rows += 1;
                    self.summary.extend(values);
                    batch.summary = true;
                }
                Known::Summary(values) => {
                    self.summary.extend(values);
                    batch.summary = true;
                }
                Known::File(name) => {
                    batch.files.retain(|known| *known != name);
                    batch.files.push(name);
                }
                Known::Exit { code } => batch.exit = Some(code),
                Known::Header { .. } | Known::Other => {}
            }
            self.end = records.end();
        }
        batch.end = self.end;
        Ok((self.end > start).then_some(batch))
    }

    /// The configuration so far, as JSON.
    pub(super) fn config(&self) -> String {
        let entry = |(name, value): (&String, &String)| (name.clone(), format!("{{\"value\":{value}}}"));
        files::object(&self.config.iter().map(entry).collect())
    }

    /// The summary so far, as JSON.
    pub(super) fn summary(&self) -> String {
        files::object(&self.summary)
    }
}
