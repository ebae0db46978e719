//! Event files that `TensorBoard` reads.
//!
//! # Source
//! The records are those of TensorFlow's `tensorflow/core/lib/io/record_writer.h`, the messages those of its
//! `event.proto`, `summary.proto` and `tensor.proto`; numbers below are theirs. How a restarted run voids its later
//! steps is told in `TensorBoard`'s `backend/event_processing/event_accumulator.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crc32c::crc32c;
use serde_json::Value as Json;

use super::append::Append;
use super::protobuf::{Message, Value, field, fields};
use super::{Entry, Histogram, Png, Tracker, seconds};
use crate::tracker::Error;

/// An event file in a folder for `tensorboard --logdir`.
///
/// Every process writes a file of its own; `TensorBoard` reads those of a folder in their order as one run.
#[derive(Debug)]
pub struct TensorBoard {
    file: Append,
    /// The files of earlier processes, in their order.
    earlier: Vec<PathBuf>,
}

impl TensorBoard {
    /// Begins an event file in `folder`, which is created.
    ///
    /// # Errors
    /// If the folder or the file cannot be created.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let earlier = event_files(folder)?;
        // Their names are their order, whatever the clock says.
        let last =
            earlier.iter().filter_map(|path| path.to_str()?.rsplit_once(PREFIX)?.1.split('.').next()?.parse().ok());
        let second = last.max().map_or(0, |last: u64| last + 1).max(seconds(SystemTime::now()) as u64);
        let mut tracker =
            Self { file: Append::create(&folder.join(format!("{PREFIX}{second:010}.mixflow")))?, earlier };
        // The version from which TensorBoard understands that a run starts again.
        tracker.event(0, &Message::default().bytes(FILE_VERSION, "brain.Event:2"));
        tracker.file.flush()?;
        Ok(tracker)
    }

    fn event(&mut self, step: u64, what: &Message) {
        self.file.push(&record(event(seconds(SystemTime::now()), step, what).as_bytes()));
    }

    /// All event files of the run; what is pending is written first.
    fn files(&mut self) -> Result<Vec<PathBuf>, Error> {
        self.file.flush()?;
        Ok(self.earlier.iter().cloned().chain([self.file.path().to_path_buf()]).collect())
    }

    fn values(&mut self, step: u64, values: impl IntoIterator<Item = Message>) {
        let summary = values.into_iter().fold(Message::default(), |summary, value| summary.message(1, &value));
        self.event(step, &Message::default().message(SUMMARY, &summary));
    }
}

impl Tracker for TensorBoard {
    fn track(&mut self, entry: Entry<'_>) -> Result<(), Error> {
        match entry {
            Entry::Config(config) => self.values(0, [text("config", config)]),
            Entry::Started { step } => {
                // A session log of status START.
                let start = Message::default().varint(1, 1);
                self.event(step, &Message::default().message(SESSION_LOG, &start));
                return self.file.flush();
            }
            Entry::Scalars { step, values } => {
                self.values(step, values.iter().map(|(name, value)| scalar(name, *value)));
            }
            Entry::Image { step, name, png } => self.values(step, [image(name, png)]),
            Entry::Histogram { step, name, histogram } => self.values(step, [distribution(name, histogram)]),
            Entry::Summary(summary) => self.values(0, [text("summary", summary)]),
            Entry::Flush | Entry::Finished(_) => return self.file.flush(),
        }
        if self.file.is_due() { self.file.flush() } else { Ok(()) }
    }

    fn kept(&mut self, step: u64) -> Result<u64, Error> {
        let rows = steps_of(self.files()?, is_number)?;
        Ok(rows.into_iter().rfind(|row| *row < step).map_or(0, |row| row + 1))
    }

    fn shows(&mut self, step: u64, name: &str) -> Result<bool, Error> {
        let named = |value: &[u8]| field(value, 1).is_some_and(|tag| tag.bytes() == name.as_bytes());
        let steps = steps_of(self.files()?, |value| field(value, IMAGE).is_some() && named(value))?;
        Ok(steps.contains(&step))
    }
}

/// The event files in a folder, in their order.
fn event_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let is_one = |name: &str| name.starts_with(PREFIX);
        files.extend(path.file_name().and_then(|name| name.to_str()).is_some_and(is_one).then(|| path.clone()));
    }
    files.sort();
    Ok(files)
}

/// Whether a value is a number.
fn is_number(value: &[u8]) -> bool {
    field(value, 2).is_some()
}

/// Steps of such values in event files, as `TensorBoard` understands them: a start voids what was at its step and later. A
/// torn record ends its file.
fn steps_of(files: Vec<PathBuf>, is: impl Fn(&[u8]) -> bool) -> Result<Vec<u64>, Error> {
    let mut steps = vec![];
    for file in files {
        let bytes = fs::read(&file).map_err(Error::io("read", &file))?;
        let mut rest = &bytes[..];
        while let Some(data) = next_record(&mut rest) {
            let step = field(data, 2).map_or(0, Value::integer);
            if field(data, SESSION_LOG).is_some() {
                steps.retain(|other| *other < step);
            }
            let summary = field(data, SUMMARY).map_or(&[][..], Value::bytes);
            if fields(summary).any(|(number, value)| number == 1 && is(value.bytes())) {
                steps.push(step);
            }
        }
    }
    Ok(steps)
}

/// The data of the next record.
fn next_record<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let head = bytes.split_off(..12)?;
    let length = usize::try_from(u64::from_le_bytes(head[..8].try_into().ok()?)).ok()?;
    let data = bytes.split_off(..length)?;
    bytes.split_off(..4)?;
    Some(data)
}

/// Steps of numbers, and of pictures, in all files of a folder.
#[cfg(test)]
pub(super) fn rows(folder: &Path) -> Result<[Vec<u64>; 2], Error> {
    let steps = |is: fn(&[u8]) -> bool| steps_of(event_files(folder)?, is);
    Ok([steps(is_number)?, steps(|value| field(value, IMAGE).is_some())?])
}

/// What names of event files begin with; seconds since 1970 follow.
const PREFIX: &str = "events.out.tfevents.";

const FILE_VERSION: u32 = 3;
const SUMMARY: u32 = 5;
const SESSION_LOG: u32 = 7;
/// Of a value.
const IMAGE: u32 = 4;

/// An event at a time in seconds since 1970.
fn event(time: f64, step: u64, what: &Message) -> Message {
    Message::default().double(1, time).varint(2, step).and(what)
}

/// Length, its checksum, data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

/// A checksum that can itself be part of data that is checked.
fn masked(data: &[u8]) -> [u8; 4] {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn value(name: &str) -> Message {
    Message::default().bytes(1, name)
}

fn scalar(name: &str, number: f64) -> Message {
    value(name).float(2, number as f32)
}

fn image(name: &str, png: Png<'_>) -> Message {
    const RGB: u64 = 3;
    let picture = Message::default().varint(1, png.height().into()).varint(2, png.width().into()).varint(3, RGB);
    value(name).message(IMAGE, &picture.bytes(4, png.bytes()))
}

fn distribution(name: &str, histogram: &Histogram) -> Message {
    let [low, high] = [histogram.edges.first(), histogram.edges.last()].map(|edge| edge.copied().unwrap_or_default());
    let counts: Vec<f64> = histogram.counts.iter().map(|&count| count as f64).collect();
    let moments = Message::default().double(1, low).double(2, high).double(3, histogram.count as f64);
    let moments = moments.double(4, histogram.sum).double(5, histogram.sum_squares);
    // A bin has its upper border.
    let limits = histogram.edges.get(1..).unwrap_or_default();
    value(name).message(5, &moments.doubles(6, limits).doubles(7, &counts))
}

/// An object as a page of text.
fn text(name: &str, object: &Json) -> Message {
    const STRING: u64 = 7;
    const TENSOR: u64 = 2;
    let plugin = Message::default().message(1, &Message::default().bytes(1, "text")).varint(4, TENSOR);
    let shape = Message::default().message(2, &Message::default().varint(1, 1));
    // Markdown.
    let tensor = Message::default().varint(1, STRING).message(2, &shape).bytes(8, format!("```\n{object:#}\n```"));
    value(name).message(9, &plugin).message(8, &tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_after_all_earlier_ones_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        // Of a clock that went ahead, by other programs.
        for name in ["events.out.tfevents.9000000000.host.7.0", "events.out.tfevents.1700000000.zebra", "zzz"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        for count in 3..6 {
            let mut tracker = TensorBoard::open(folder.path()).unwrap();
            tracker.track(Entry::Scalars { step: count, values: &[("loss", 0.5)] }).unwrap();
            let files = tracker.files().unwrap();
            assert!(files.len() as u64 == count && files.is_sorted(), "{files:?}");
            assert_eq!(files, event_files(folder.path()).unwrap());
        }
        assert_eq!(rows(folder.path()).unwrap()[0], [3, 4, 5]);
    }

    #[test]
    fn records_are_those_of_tensorboard() {
        // What `EventFileWriter` of the package `tensorboard` 2.21 writes where `time.time()` is 1.5: its first event,
        // and `Summary(value=[Summary.Value(tag="loss", simple_value=0.25)])` at step 300.
        let writer = Message::default().bytes(1, "tensorboard.summary.writer.event_file_writer");
        let first = Message::default().double(1, 1.5).bytes(FILE_VERSION, "brain.Event:2").message(10, &writer);
        let summary = Message::default().message(1, &scalar("loss", 0.25));
        let second = event(1.5, 300, &Message::default().message(SUMMARY, &summary));
        assert_eq!(
            hex::encode(record(first.as_bytes())),
            "4800000000000000fe92489d09000000000000f83f1a0d627261696e2e4576656e743a32522e0a2c74656e736f72626f6172642e\
             73756d6d6172792e7772697465722e6576656e745f66696c655f777269746572c9900712"
        );
        assert_eq!(
            hex::encode(record(second.as_bytes())),
            "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e9908deed"
        );
    }
}
