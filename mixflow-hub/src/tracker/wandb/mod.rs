//! Run directories of Weights & Biases.

mod api;
mod files;
mod live;
mod log;
mod netrc;
mod pending;
mod record;
mod resumable;
mod run;
mod sent;
mod server;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use run::WandbRun;
pub use server::{WandbMode, WandbServer};

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::append::Append;
use super::protobuf::Message;
use super::{End, Entry, Histogram, Png, Tracker};
use crate::tracker::Error;
use live::Live;
use record::Values;
use resumable::{ResumableRun, kept, newest};
use sent::Sent;

/// A run directory that `wandb sync` uploads; and that is streamed, if [`live`](Self::live) says so.
///
/// It is `wandb/offline-run-DATE_TIME-ID` in the folder of the run, in UTC. A run that is resumed goes on in it, also
/// after a crash: torn records, and steps that are taken again, are removed; a later `wandb sync` uploads all of it
/// again.
///
/// Streaming is done by a thread that reads the run directory. A server that is away, slow or busy is asked again and
/// again while the run goes on; one that refuses is asked no more. The run neither waits for it nor fails: what a server
/// does not have at the end is in the run directory, where `wandb sync` finds it, and so does the next process that
/// goes on with the run. Rows that are taken again replace those that were sent.
///
/// # Source
/// The package `wandb` 0.31, whose own client writes the same offline.
#[derive(Debug)]
pub struct Wandb {
    /// The run directory.
    folder: PathBuf,
    file: Append,
    /// Records in the file.
    records: u64,
    /// What the run is configured with, and where the log has that.
    config: Option<(u64, Value)>,
    /// The row that may still grow.
    row: Row,
    /// The last values.
    summary: Values,
    /// Those of them that the file does not have yet.
    unsaid: Values,
    /// Those that it has behind the row, and loses when the row grows.
    behind: Values,
    opened: Instant,
    /// Seconds that the run took before it was opened.
    before: f64,
    live: Option<Live>,
}

/// Values of one step.
#[derive(Debug, Default)]
struct Row {
    step: u64,
    values: Values,
    /// If it is written: where its record begins, and its number.
    written: Option<(u64, u64)>,
}

impl Wandb {
    /// Opens the run directory in `folder`, the one of the last run of ours there, or a new one.
    ///
    /// # Errors
    /// If it cannot be created, read or written.
    pub fn open(folder: &Path, run: &WandbRun) -> Result<Self, Error> {
        let folder = folder.join("wandb");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        match newest(&folder)? {
            Some((run, log, kept)) => Self::go_on(run, &log, kept),
            None => Self::begin(&folder, run),
        }
    }

    /// Streams the run to a server while it goes on, from where an earlier process was.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub fn live(mut self, server: WandbServer) -> Result<Self, Error> {
        self.live = Some(Live::start(self.file.path(), server)?);
        Ok(self)
    }

    /// The run directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn begin(parent: &Path, run: &WandbRun) -> Result<Self, Error> {
        let (id, started) = (new_id(), SystemTime::now());
        let date = humantime::format_rfc3339_seconds(started).to_string(); // 2026-01-31T23:59:59Z
        let date = date.replace(['-', ':', 'Z'], "").replace('T', "_");
        let folder = parent.join(format!("offline-run-{date}-{id}"));
        let files = folder.join("files");
        fs::create_dir_all(&files).map_err(Error::io("create", &files))?;
        let mut file = Append::create(&folder.join(format!("run-{id}.wandb")))?;
        file.push(log::HEADER);
        let kept = ResumableRun { ours: true, named: true, ..ResumableRun::default() };
        let mut tracker = Self::new(folder, file, kept);
        tracker.push(&record::header());
        tracker.push(&record::run(&id, run, started));
        tracker.write_file("wandb-metadata.json", files::metadata(started).as_bytes())?;
        tracker.file.flush()?;
        Ok(tracker)
    }

    fn go_on(folder: PathBuf, log: &Path, kept: ResumableRun) -> Result<Self, Error> {
        // What is uploaded is no longer all of it.
        sent::unmark(log)?;
        Sent::lower(log, kept.end)?;
        let file = Append::reopen(log, kept.end)?;
        Ok(Self::new(folder, file, kept))
    }

    fn new(folder: PathBuf, file: Append, kept: ResumableRun) -> Self {
        let before = record::runtime(&kept.summary);
        let (records, summary) = (kept.records, kept.summary);
        let (row, unsaid, behind, opened) = (Row::default(), Values::new(), Values::new(), Instant::now());
        Self { folder, file, records, config: None, row, summary, unsaid, behind, opened, before, live: None }
    }

    /// Removes the rows of this step and later ones.
    fn start(&mut self, step: u64) -> Result<(), Error> {
        self.write()?;
        if let Some(kept) = kept(self.file.path(), step)?.filter(|kept| kept.named) {
            match &self.live {
                Some(live) => live.rewind(kept.end)?,
                None => drop(Sent::lower(self.file.path(), kept.end)?),
            }
            self.file.cut(kept.end);
            self.file.flush()?;
            (self.records, self.summary) = (kept.records, kept.summary);
        }
        self.row = Row { step, ..Row::default() };
        // What was told before the run went on is not of the rows that are removed.
        if let Some((_, config)) = self.config.take_if(|(at, _)| *at >= self.file.end()) {
            self.configure(&config)?;
            self.file.flush()?;
        }
        self.publish();
        Ok(())
    }

    /// Adds values to the row of a step. One that is past is not taken any more, as the official client does it.
    fn insert(&mut self, step: u64, values: impl IntoIterator<Item = (String, String)>) -> Result<(), Error> {
        if !self.begin_row(step) {
            return Ok(());
        }
        self.row.values.extend(values);
        if self.file.is_due() { self.save() } else { Ok(()) }
    }

    /// Makes the row of a step the one that grows; false if it is past.
    fn begin_row(&mut self, step: u64) -> bool {
        if step > self.row.step {
            self.write_row();
            self.row = Row { step, ..Row::default() };
        }
        self.take_row_back();
        step == self.row.step
    }

    /// Writes the row, if it has values that are not written.
    fn write_row(&mut self) {
        if self.row.values.is_empty() || self.row.written.is_some() {
            return;
        }
        let (now, runtime) = (SystemTime::now(), self.runtime());
        record::stamp(&mut self.row.values, self.row.step, now, runtime);
        self.row.written = Some((self.file.end(), self.records));
        self.push(&record::history(self.row.step, &self.row.values));
        self.behind.clear();
        let values = self.row.values.clone();
        self.summarise(values);
    }

    /// Takes the row back, and the summary behind it: it grows. In the file it stays until it is written anew.
    fn take_row_back(&mut self) {
        if let Some((end, records)) = self.row.written.take() {
            self.file.cut(end);
            self.records = records;
            self.behind.append(&mut self.unsaid);
            std::mem::swap(&mut self.behind, &mut self.unsaid);
        }
    }

    /// Adds values to the summary. The log says each once, for whoever reads it puts one summary upon the other.
    fn summarise(&mut self, values: Values) {
        self.summary.extend(values.clone());
        self.unsaid.extend(values);
    }

    /// Writes everything, with what is new in the summary, for others to read.
    fn save(&mut self) -> Result<(), Error> {
        self.write()?;
        self.publish();
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        self.write_row();
        if !self.unsaid.is_empty() {
            self.push(&record::summary(&self.unsaid));
            self.behind.append(&mut self.unsaid);
        }
        self.file.flush()
    }

    /// Shows whoever streams the log what is in it to stay.
    fn publish(&self) {
        if let Some(live) = &self.live {
            live.publish(self.row.written.map_or(self.file.end(), |(end, _)| end));
        }
    }

    fn configure(&mut self, config: &Value) -> Result<(), Error> {
        self.take_row_back();
        self.config = Some((self.file.end(), config.clone()));
        let empty = Map::new();
        let config = config.as_object().unwrap_or(&empty);
        self.push(&record::config(&as_json(config)));
        self.write_file("config.yaml", files::config(config).as_bytes())
    }

    fn image(&mut self, step: u64, name: &str, png: Png<'_>) -> Result<(), Error> {
        let digest = hex::encode(Sha256::digest(png.bytes()));
        let safe = |letter: char| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '_' };
        let safe: String = name.chars().map(safe).take(100).collect();
        let path = format!("media/images/{safe}_{step}_{}.png", &digest[..20]);
        let value = serde_json::json!({
            "_type": "image-file", "format": "png", "path": path, "sha256": digest,
            "size": png.bytes().len(), "width": png.width(), "height": png.height(),
        });
        if self.begin_row(step) {
            self.write_file(&path, png.bytes())?;
        }
        self.insert(step, [(name.into(), value.to_string())])
    }

    fn finish(&mut self, end: End) -> Result<(), Error> {
        self.save()?;
        // From here on the row stays.
        self.row = Row { step: u64::MAX, ..Row::default() };
        self.write_file("wandb-summary.json", files::object(&self.summary).as_bytes())?;
        self.push(&record::exit(end, self.runtime()));
        self.file.flush()?;
        self.publish();
        self.close();
        Ok(())
    }

    fn close(&self) {
        if let Some(live) = &self.live {
            live.close();
        }
    }

    /// Writes a file of the run, and the record that says so.
    fn write_file(&mut self, name: &str, contents: &[u8]) -> Result<(), Error> {
        let path = self.folder.join("files").join(name);
        let folder = path.parent().expect("it lies in a folder");
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        fs::write(&path, contents).map_err(Error::io("write", &path))?;
        self.push(&record::file(name));
        Ok(())
    }

    fn push(&mut self, record: &Message) {
        self.records += 1;
        let record = record::numbered(self.records, record);
        self.file.push(&log::frame(self.file.end(), record.as_bytes()));
    }

    fn runtime(&self) -> f64 {
        self.before + self.opened.elapsed().as_secs_f64()
    }
}

impl Tracker for Wandb {
    fn track(&mut self, entry: Entry<'_>) -> Result<(), Error> {
        match entry {
            Entry::Config(config) => self.configure(config),
            Entry::Started { step } => self.start(step),
            Entry::Scalars { step, values } => {
                self.insert(step, values.iter().map(|&(name, value)| (name.into(), record::number(value))))
            }
            Entry::Image { step, name, png } => self.image(step, name, png),
            Entry::Histogram { step, name, histogram } => self.insert(step, [(name.into(), json(histogram))]),
            Entry::Summary(summary) => {
                self.summarise(summary.as_object().map(as_json).unwrap_or_default());
                self.save()
            }
            Entry::Flush => self.save(),
            Entry::Finished(end) => self.finish(end),
        }
    }

    fn kept(&mut self, step: u64) -> Result<u64, Error> {
        self.write()?;
        Ok(kept(self.file.path(), step)?.map_or(step, |kept| kept.next))
    }

    fn shows(&mut self, step: u64, name: &str) -> Result<bool, Error> {
        self.write()?;
        let kept = kept(self.file.path(), step + 1)?;
        Ok(kept.is_some_and(|kept| kept.next == step + 1 && kept.last.contains_key(name)))
    }

    fn warnings(&mut self) -> Vec<String> {
        self.live.as_ref().map(Live::warnings).unwrap_or_default()
    }
}

impl Drop for Wandb {
    fn drop(&mut self) {
        // Whoever needs to know has flushed.
        let _ = self.save();
        self.close();
    }
}

/// Steps and run times of the rows in a log, and whether they have a picture.
#[cfg(test)]
pub(super) fn rows(log: &Path) -> Vec<(u64, f64, bool)> {
    let mut records = log::Records::open(fs::File::open(log).expect("a log")).expect("a log").expect("a log");
    let mut rows = vec![];
    while let Some(record) = records.next().expect("a log") {
        if let record::Record::History { step, values } = record::read(&record) {
            let time = values["_runtime"].parse().expect("a number");
            rows.push((step, time, values.values().any(|value| value.contains("image-file"))));
        }
    }
    rows
}

fn as_json(object: &Map<String, Value>) -> Values {
    object.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
}

fn json(histogram: &Histogram) -> String {
    serde_json::json!({ "_type": "histogram", "values": histogram.counts, "bins": histogram.edges }).to_string()
}

/// Eight random letters and digits, as the official client makes them.
fn new_id() -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut random = RandomState::new().hash_one(SystemTime::now());
    let mut letter = || {
        let letter = LETTERS[(random % 36) as usize];
        random /= 36;
        char::from(letter)
    };
    (0..8).map(|_| letter()).collect()
}
