//! `metrics.jsonl`: one JSON object a line, written whatever else happens.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::StepReport;
use crate::Error;

/// The log of a run. A line is complete or absent: what a full disk tears is taken back, and what a killed process or a
/// power cut tore is dropped when the log is opened again.
///
/// A line has the step, its `loss` with its terms, `gradient_norm` and `learning_rate`; `skipped` where they were no numbers;
/// `wall_time`, when it was written, in seconds since 1970 as `TensorBoard` has it; and `runtime`, how many seconds the training
/// took so far, without those between its processes.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    /// The open file; none before the first line.
    file: Option<File>,
    /// Bytes of whole lines in the file.
    written: u64,
    /// Lines that are not written yet.
    pending: Vec<u8>,
    /// When all lines were written last.
    flushed: Instant,
    opened: Instant,
    /// Seconds that the training took in earlier processes.
    before: f64,
}

/// Key of the time when a line was written, in seconds since 1970.
pub(crate) const WALL_TIME: &str = "wall_time";

/// Key of the seconds that the training took until then.
pub(crate) const RUNTIME: &str = "runtime";

/// Lines are collected up to this size, in bytes.
const PENDING: usize = 8 << 10;

/// Lines are collected at most this long, so that those who follow the file see how a training goes.
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
        let mut before = 0.0;
        let earlier = |line: &&[u8]| {
            let line: Option<Value> = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
            let line = line.filter(|line| line["step"].as_u64().is_some_and(|found| found < step));
            before = line.as_ref().and_then(|line| line[RUNTIME].as_f64()).unwrap_or(before);
            line.is_some()
        };
        let kept: Vec<u8> = text.split_inclusive(|&byte| byte == b'\n').filter(earlier).flatten().copied().collect();
        if kept != text {
            crate::files::write_atomic(path, &kept)?;
        }
        let written = kept.len() as u64;
        let now = Instant::now();
        Ok(Self { path: path.into(), file: None, written, pending: Vec::new(), flushed: now, opened: now, before })
    }

    /// Adds the line of a step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn step(&mut self, report: &StepReport) -> Result<(), Error> {
        let mut line = json!({
            "step": report.step,
            "loss": report.loss,
            "gradient_norm": report.gradient_norm,
            "learning_rate": report.learning_rate,
            WALL_TIME: milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()),
            RUNTIME: milliseconds(self.before + self.opened.elapsed().as_secs_f64()),
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

    /// Writes all pending lines.
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

/// Seconds to three places.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
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

    /// Of a training that goes on twice, a step earlier each time.
    #[test]
    fn time_goes_on_where_the_last_row_that_stays_was() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("metrics.jsonl");
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let begun = now() - 1e-3;
        for first in [0, 2, 3] {
            let mut log = MetricsLog::open(&path, first).unwrap();
            log.opened -= Duration::from_secs(100);
            (first..first + 3).for_each(|step| log.step(&report(step)).unwrap());
            // Hours in which nothing happens.
            log.flush().unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let column = |name: &str| rows.iter().map(|row| row[name].as_f64().unwrap()).collect::<Vec<_>>();
        let whole: Vec<f64> = column(RUNTIME).iter().map(|seconds| (seconds / 100.0).floor()).collect();
        assert_eq!(whole, [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]);
        let times = column(WALL_TIME);
        assert!(times.is_sorted() && times[0] >= begun && times[5] <= now() + 1e-3, "{times:?}");
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
