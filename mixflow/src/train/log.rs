//! `metrics.jsonl`: one JSON object a line, written whatever else happens.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::StepReport;
use crate::Error;

/// The log of a run. A line is complete or absent: what a full disk tears is taken back, and what a killed process tore
/// is dropped when the log is opened again.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines in the file.
    written: u64,
    /// Lines that the system does not have yet.
    pending: Vec<u8>,
}

/// Lines are collected up to this size, in bytes.
const PENDING: usize = 8 << 10;

impl MetricsLog {
    /// Opens the log at `path` to continue at `step`: lines of that step and later ones are removed.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self, Error> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(Error::io("read", path))?,
        };
        let earlier = |line: &&str| {
            let line: Option<Value> = serde_json::from_str(line).ok();
            line.and_then(|line| line["step"].as_u64()).is_some_and(|found| found < step)
        };
        let kept: String = text.lines().filter(earlier).flat_map(|line| [line, "\n"]).collect();
        if kept != text {
            crate::report::write_atomic(path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("write", path))?;
        Ok(Self { path: path.into(), file, written: kept.len() as u64, pending: Vec::new() })
    }

    /// Adds a step, with what its loss is made of.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn step(&mut self, report: &StepReport, terms: &[(&str, f64)]) -> Result<(), Error> {
        let mut line = json!({
            "step": report.step,
            "loss": report.loss,
            "gradient_norm": report.gradient_norm,
            "learning_rate": report.learning_rate,
        });
        for &(name, value) in terms {
            line[name] = value.into();
        }
        if !report.finite {
            line["skipped"] = true.into();
        }
        self.pending.extend(format!("{line}\n").into_bytes());
        if self.pending.len() < PENDING { Ok(()) } else { self.flush() }
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        if let Err(error) = self.file.write_all(&self.pending) {
            // What stopped the write is the error to report.
            let _ = self.file.set_len(self.written);
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
