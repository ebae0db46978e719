//! What of a log is to be sent.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::WandbRun;
use super::files;
use super::log::{HEADER, Records};
use super::record::{self, Record, Values};

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
    /// Id of the run, and what it is called.
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
    /// The log behind its first `sent` bytes.
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
                Record::Run { id, run } => self.run = Some((id, run)),
                Record::Config(values) => {
                    self.config.extend(values);
                    batch.config = true;
                }
                Record::History { values, .. } => {
                    let row = files::object(&values);
                    size += row.len();
                    batch.rows.push(row);
                    self.rows += 1;
                    self.summary.extend(values);
                    batch.summary = true;
                }
                Record::Summary(values) => {
                    self.summary.extend(values);
                    batch.summary = true;
                }
                // A log that somebody else wrote names no file elsewhere.
                Record::File(name)
                    if Path::new(&name).components().all(|part| matches!(part, Component::Normal(_))) =>
                {
                    batch.files.retain(|known| *known != name);
                    batch.files.push(name);
                }
                Record::Exit { code } => batch.exit = Some(code),
                Record::Header { .. } | Record::File(_) | Record::Other => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::wandb::log::frame;

    #[test]
    fn parts_go_on_where_the_last_one_ended_and_name_files_of_the_run_only() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("run-a.wandb");
        let row = |step: u64| record::history(step, &Values::from([("_step".into(), step.to_string())]));
        let config = record::config(&Values::from([("rate".into(), "1e-7".into())]));
        let files = ["media/a.png", "../secret", "/etc/passwd", "media/a.png"].map(record::file);
        let (mut file, mut ends) = (HEADER.to_vec(), vec![]);
        for record in [vec![config, row(0)], files.into(), vec![row(1), row(2)]].concat() {
            file.extend(frame(file.len() as u64, record.as_bytes()));
            ends.push(file.len() as u64);
        }
        std::fs::write(&log, &file).unwrap();

        let mut pending = Pending::open(&log, 0).unwrap();
        let batch = pending.next(ends[6]).unwrap().unwrap();
        assert_eq!((batch.end, batch.first, batch.rows.len(), batch.config), (ends[6], 0, 2, true));
        assert_eq!(batch.files, ["media/a.png"]);
        assert_eq!(pending.next(ends[6]).unwrap(), None);
        let rest = pending.next(ends[7]).unwrap().unwrap();
        assert_eq!((rest.first, &rest.rows[..], rest.config), (2, &["{\"_step\":2}".to_string()][..], false));
        assert_eq!(
            (pending.config().as_str(), pending.summary().as_str()),
            ("{\"rate\":{\"value\":1e-7}}", "{\"_step\":2}")
        );
        // Whoever comes later knows what was before.
        let mut later = Pending::open(&log, ends[6]).unwrap();
        assert_eq!((later.config(), later.next(ends[7]).unwrap()), (pending.config(), Some(rest)));
    }
}
