//! `metrics.jsonl`: one JSON object a line, written whatever else happens.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::StepReport;
use crate::Error;

/// The log of a run. A line is complete or absent: what a full disk tears is taken back, and what a killed process or a
/// power cut tore is dropped when the log is opened again.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    /// None before the first line.
    file: Option<File>,
    /// Bytes of whole lines in the file.
    written: u64,
    /// Lines that the system does not have yet.
    pending: Vec<u8>,
    /// When it had all.
    flushed: Instant,
}

/// Lines are collected up to this size, in bytes,
const PENDING: usize = 8 << 10;

/// and this long: who follows the file sees how a training goes.
const DELAY: Duration = Duration::from_secs(2);

impl MetricsLog {
    /// Opens the log at `path` to continue at `step`: whole lines of earlier steps stay, all else is removed. A new file
    /// and its folder are made with the first line.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self, Error> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            text => text.map_err(Error::io("read", path))?,
        };
        let earlier = |line: &&[u8]| {
            let line: Option<Value> = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
            line.and_then(|line| line["step"].as_u64()).is_some_and(|found| found < step)
        };
        let kept: Vec<u8> = text.split_inclusive(|&byte| byte == b'\n').filter(earlier).flatten().copied().collect();
        if kept != text {
            crate::files::write_atomic(path, &kept)?;
        }
        let written = kept.len() as u64;
        Ok(Self { path: path.into(), file: None, written, pending: Vec::new(), flushed: Instant::now() })
    }

    /// Adds a step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn step(&mut self, report: &StepReport) -> Result<(), Error> {
        let mut line = json!({
            "step": report.step,
            "loss": report.loss,
            "gradient_norm": report.gradient_norm,
            "learning_rate": report.learning_rate,
        });
        for &(name, value) in &report.terms {
            line[name] = value.into();
        }
        if !report.finite {
            line["skipped"] = true.into();
        }
        self.pending.extend(format!("{line}\n").into_bytes());
        if self.pending.len() < PENDING && self.flushed.elapsed() < DELAY { Ok(()) } else { self.flush() }
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.flushed = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            file => file.insert(append(&self.path)?),
        };
        if let Err(error) = file.write_all(&self.pending) {
            // What stopped the write is the error to report.
            let _ = file.set_len(self.written);
            return Err(Error::io("write", &self.path)(error));
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

impl Drop for MetricsLog {
    fn drop(&mut self) {
        // Whoever needs to know has flushed.
        let _ = self.flush();
    }
}

fn append(path: &Path) -> Result<File, Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u64) -> StepReport {
        StepReport { step, loss: 0.5, terms: vec![], gradient_norm: 0.25, learning_rate: 0.125, finite: true }
    }

    fn steps(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect()
    }

    #[test]
    fn whole_lines_outlive_a_torn_end_of_any_bytes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        assert!(!path.parent().unwrap().exists(), "nothing is there before the first line");
        (0..3).for_each(|step| log.step(&report(step)).unwrap());
        drop(log);
        let whole = fs::read(&path).unwrap();
        // The start of a line, half a character, what a power cut leaves of a block, and a number that is cut.
        for torn in [&b"{\"step\":3,\"lo"[..], b"{\"step\":3,\"\xc3", &[0; 4096], b"\xff\xfe\n\xff", b"{\"step\":1}"] {
            fs::write(&path, [&whole, torn].concat()).unwrap();
            let mut log = MetricsLog::open(&path, 3).unwrap();
            assert_eq!(steps(&path), [0, 1, 2], "{torn:?}");
            log.step(&report(3)).unwrap();
            drop(log);
            assert_eq!(steps(&path), [0, 1, 2, 3], "{torn:?}");
        }
        drop(MetricsLog::open(&path, 2).unwrap());
        assert_eq!(steps(&path), [0, 1]);
    }

    #[test]
    fn a_line_is_in_the_file_within_seconds() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        log.step(&report(0)).unwrap();
        assert!(!path.exists(), "lines of fast steps are written together");
        log.flushed -= DELAY;
        log.step(&report(1)).unwrap();
        assert_eq!(steps(&path), [0, 1]);
    }
}
