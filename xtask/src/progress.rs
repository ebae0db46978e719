//! Progress bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mixflow::compare;
use mixflow::evaluation::Measuring;
use mixflow::train::{Event, StepReport};
use mixflow_hub::TransferProgress;

use crate::terminal::note;

/// Files are shown in units that a bar has room for.
const KIB: u64 = 1 << 10;

/// Lines of a log are at least this far apart.
const INTERVAL: Duration = Duration::from_secs(10);

/// Shows one part of a command after another.
pub(crate) struct Progress {
    name: String,
    steps: Option<u64>,
    bar: Option<ProgressBar>,
    started: Instant,
    first: u64,
    /// Steps that the trainings of the part have taken, by their folders.
    steps_of: BTreeMap<PathBuf, u64>,
    said: Instant,
    loss: f64,
    /// Files on their way from or to the Hub: name, bytes that have moved, size.
    moving: Vec<(String, u64, u64)>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            name: String::new(),
            steps: None,
            bar: None,
            started: now,
            first: 0,
            steps_of: BTreeMap::new(),
            said: now,
            loss: f64::NAN,
            moving: vec![],
        }
    }

    /// Begins a part; a number of steps makes a bar.
    pub(crate) fn begin(&mut self, name: &str, steps: Option<u64>) {
        self.end();
        *self = Self::new();
        (self.name, self.steps) = (name.into(), steps);
        if has_bars() {
            let bar = steps.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            // Without characters beyond ASCII, which some terminals do not have.
            let style = match steps {
                Some(_) => "{prefix:>28} [{wide_bar}] {pos}/{len}  {per_sec}  {eta} left  {msg}",
                None => "{prefix:>28} {spinner} {elapsed}  {msg}",
            };
            let style = ProgressStyle::with_template(style).expect("the template is fixed");
            bar.set_style(style.progress_chars("=> ").tick_chars("|/-\\ "));
            bar.set_prefix(self.name.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some(bar);
        } else {
            note(name);
        }
    }

    /// An event of the training in a folder; those of a part count its steps together.
    pub(crate) fn training(&mut self, folder: &Path, event: &Event) {
        match event {
            Event::Started { step } => {
                self.steps_of.insert(folder.into(), *step);
                if *step > 0 {
                    self.first += step;
                    self.line(&format!("{}: continued at step {step}", folder.display()));
                    self.counted_again();
                }
            }
            Event::Stepped(report) => {
                self.steps_of.insert(folder.into(), report.step + 1);
                self.step(report);
            }
            Event::Drawn { file, seconds, .. } => self.line(&format!("{}, {seconds:.1} s", file.display())),
            Event::Saved(_) | Event::Finished => {}
            Event::Warning(text) => self.line(&format!("warning: {text}")),
        }
    }

    /// Shows how a run goes.
    pub(crate) fn launch(&mut self, event: &compare::Progress<'_>) {
        use compare::Progress::{Begin, Continued, Images, Labels, Mebibytes, Note, Training};
        match event {
            Note(text) => self.line(text),
            Begin(name, steps) => self.begin(name, *steps),
            Continued(done) => self.encoding_from(*done),
            Images(done) => self.counted(*done, "image"),
            Labels(done) => self.counted(*done, "prompt"),
            Mebibytes(done) => self.checked(*done),
            Training { folder, event } => self.training(folder, event),
        }
    }

    /// Encoding starts at an image.
    pub(crate) fn encoding_from(&mut self, read: u64) {
        if read > 0 {
            self.continued(read, "image");
        }
    }

    /// So many of the units that the part consists of are done.
    pub(crate) fn counted(&mut self, done: u64, unit: &str) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None => self.log(done, unit, ""),
        }
    }

    /// Shows how measuring goes.
    pub(crate) fn measuring(&mut self, event: Measuring) {
        match event {
            Measuring::Begin(name, images) => self.begin(name, images),
            Measuring::Images(done) => self.counted(done, "image"),
        }
    }

    /// So many MiB of a data set are checked.
    pub(crate) fn checked(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.said.elapsed() >= INTERVAL => self.log(done, "MiB", ""),
            None => {}
        }
    }

    /// `done` of `count` images were seen.
    pub(crate) fn images(&mut self, done: usize, count: usize) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{done}/{count} images")),
            None if self.said.elapsed() >= INTERVAL => {
                self.said = Instant::now();
                let left = self.started.elapsed().as_secs_f64() * (count - done) as f64 / done as f64;
                note(format_args!("  image {done}/{count}  {left:.0} s left"));
            }
            None => {}
        }
    }

    /// Shows what comes from the Hub, or goes there.
    pub(crate) fn transfer(&mut self, event: &TransferProgress<'_>) {
        use TransferProgress::{Begin, Committing, Finished, Received, Sampling, Sending, Sent, Stored};
        match *event {
            Begin { file, size, resumed } => {
                self.moving(file, size);
                if resumed > 0 {
                    self.moved(file, resumed);
                }
            }
            Sending { file, size } => self.moving(file, size),
            Received { file, bytes, .. } | Sent { file, bytes, .. } => self.moved(file, bytes),
            Finished { file } | Stored { file } => self.arrived(file),
            Sampling { images, count } => {
                if self.name != "sample images" {
                    self.begin("sample images", Some(count as u64));
                }
                match &self.bar {
                    Some(bar) => bar.set_position(images as u64),
                    None => self.log(images as u64, "image", ""),
                }
            }
            Committing { files } => self.begin(&format!("committing {files} files"), None),
            _ => {}
        }
        if let Some(line) = said(event) {
            self.line(&line);
        }
    }

    /// A file begins to move, or does so again. Those that move at once share a bar.
    fn moving(&mut self, file: &str, size: u64) {
        self.moving.retain(|(name, ..)| name != file);
        self.moving.push((file.into(), 0, size));
        let size = self.moving.iter().map(|(.., size)| size).sum::<u64>().div_ceil(KIB);
        if self.moving.len() == 1 {
            let moving = std::mem::take(&mut self.moving);
            self.begin(file, Some(size));
            self.moving = moving;
            return;
        }
        (self.name, self.steps) = (format!("{} files", self.moving.len()), Some(size));
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(self.name.clone());
                bar.set_length(size);
            }
            None => note(file),
        }
    }

    fn moved(&mut self, file: &str, bytes: u64) {
        if let Some((_, moved, _)) = self.moving.iter_mut().find(|(name, ..)| name == file) {
            *moved = bytes;
        }
        let moved = self.moving.iter().map(|(_, moved, _)| moved).sum::<u64>().div_ceil(KIB);
        match &self.bar {
            Some(bar) => bar.set_position(moved),
            None => self.log(moved, "KiB", ""),
        }
    }

    /// A file is where it should be; with the last one the bar ends.
    fn arrived(&mut self, file: &str) {
        if let Some((_, moved, size)) = self.moving.iter_mut().find(|(name, ..)| name == file) {
            *moved = *size;
        }
        if self.moving.iter().all(|(_, moved, size)| moved == size) {
            self.end();
            self.moving.clear();
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Ends the part.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            bar.println("");
            note(format_args!("{:>28} done in {:.1} s", self.name, self.started.elapsed().as_secs_f64()));
        }
    }

    fn step(&mut self, report: &StepReport) {
        if report.finite {
            self.loss = if self.loss.is_nan() { report.loss } else { 0.98 * self.loss + 0.02 * report.loss };
        }
        let done = self.steps();
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(format!("loss {:.4}", self.loss));
            }
            None => self.log(done, "step", &format!("loss {:.4}  ", self.loss)),
        }
    }

    /// Those that the trainings of the part have taken, together.
    fn steps(&self) -> u64 {
        self.steps_of.values().sum()
    }

    /// A training went on from steps that this process has not taken: they say nothing of the time that is left.
    fn counted_again(&self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.steps());
            bar.reset_eta();
        }
    }

    /// A line about what is done, if the last one is long ago or nothing is left.
    fn log(&mut self, done: u64, unit: &str, more: &str) {
        if (self.said.elapsed() >= INTERVAL && done > self.first) || Some(done) == self.steps {
            self.said = Instant::now();
            let rate = (done - self.first) as f64 / self.started.elapsed().as_secs_f64();
            let total = self.steps.unwrap_or(done);
            let left = if done < total { (total - done) as f64 / rate } else { 0.0 };
            note(format_args!("  {unit} {done}/{total}  {more}{rate:.1} {unit}s/s  {left:.0} s left"));
        }
    }

    /// The part goes on where an earlier process stopped.
    fn continued(&mut self, first: u64, unit: &str) {
        self.first = first;
        if let Some(bar) = &self.bar {
            bar.set_position(first);
            bar.reset_eta();
        }
        self.line(&format!("{}: continued at {unit} {first}", self.name));
    }
}

/// What is told of a transfer in a line that stays.
fn said(event: &TransferProgress<'_>) -> Option<String> {
    use TransferProgress::{Begin, Cached, Created, Locked, Retrying};
    Some(match *event {
        Begin { file, resumed, .. } if resumed > 0 => format!("{file}: continued at KiB {}", resumed / KIB),
        Locked { file, by } => {
            let by = by.unwrap_or("another process");
            format!("{file}: {by} fetches it, waiting; Ctrl-C stops")
        }
        Retrying { reason, wait } => format!("{reason}; next attempt in {:.0} s", wait.as_secs_f64()),
        Cached { reason } => format!("taken from the cache: {reason}"),
        Created { address } => format!("made {address}"),
        _ => return None,
    })
}

/// Whether what is shown can be drawn over: on a terminal that is not dumb. `NO_COLOR` asks for plain text, too.
fn has_bars() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !plain && !ProgressDrawTarget::stderr().is_hidden()
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a publication needs may come from the Hub first, and is waited for like all that comes.
    #[test]
    fn who_waits_for_a_file_is_told_of_the_file() {
        let event = TransferProgress::Locked { file: "vae.safetensors", by: Some("python (process 7)") };
        let expected = "vae.safetensors: python (process 7) fetches it, waiting; Ctrl-C stops";
        assert_eq!(said(&event).as_deref(), Some(expected));
        let event = TransferProgress::Begin { file: "a", size: 9000, resumed: 5000 };
        assert_eq!(said(&event).as_deref(), Some("a: continued at KiB 4"));
        assert_eq!(said(&TransferProgress::Finished { file: "a" }), None);
    }
}
