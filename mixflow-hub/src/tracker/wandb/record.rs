//! The records of a `.wandb` file.
//!
//! # Source
//! wandb 0.31, `wandb/proto/wandb_internal.proto`; the numbers of fields are its. Values are JSON texts, in which NaN
//! and infinities are allowed, as Python writes them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::seconds;
use super::WandbRun;
use crate::tracker::End;
use crate::tracker::protobuf::{Message, field, fields};

/// Names and their values as JSON.
pub(super) type Values = BTreeMap<String, String>;

const HISTORY: u32 = 2;
const SUMMARY: u32 = 3;
const CONFIG: u32 = 5;
const FILES: u32 = 6;
const RUN: u32 = 17;
const EXIT: u32 = 18;
const HEADER: u32 = 21;

/// Who wrote the file, as its first record says; we go on with our own files only.
const PRODUCER: &str = concat!("mixflow ", env!("CARGO_PKG_VERSION"));

/// The record of the release that writes the file.
pub(super) fn header() -> Message {
    let version = Message::default().bytes(1, PRODUCER);
    Message::default().message(HEADER, &Message::default().message(1, &version))
}

/// The record of what the run is called, which comes before all others but the header.
pub(super) fn run(id: &str, run: &WandbRun, started: SystemTime) -> Message {
    let mut message = Message::default().bytes(1, id);
    if let Some(entity) = &run.entity {
        message = message.bytes(2, entity);
    }
    message = message.bytes(3, &run.project).bytes(8, &run.name);
    let time = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Message::default().varint(1, time.as_secs()).varint(2, time.subsec_nanos().into());
    Message::default().message(RUN, &message.message(17, &time))
}

/// What the run is configured with.
pub(super) fn config(values: &Values) -> Message {
    Message::default().message(CONFIG, &items(values))
}

/// Values of a step.
pub(super) fn history(step: u64, values: &Values) -> Message {
    let step = Message::default().varint(1, step);
    Message::default().message(HISTORY, &items(values).message(2, &step))
}

/// The record of the last values of the run.
pub(super) fn summary(values: &Values) -> Message {
    Message::default().message(SUMMARY, &items(values))
}

/// A file in the folder `files`.
pub(super) fn file(path: &str) -> Message {
    Message::default().message(FILES, &Message::default().message(1, &Message::default().bytes(1, path)))
}

/// The record of the end of a run that took `runtime` seconds.
pub(super) fn exit(end: End, runtime: f64) -> Message {
    // As the official client, `wandb/sdk/lib/exit_hooks.py`: Ctrl-C is 255, any other exception 1.
    let code = match end {
        End::Done => 0,
        End::Failed => 1,
        End::Stopped => 255,
    };
    let exit = Message::default().varint(1, code).varint(2, runtime as u64);
    Message::default().message(EXIT, &exit)
}

fn items(values: &Values) -> Message {
    values.iter().fold(Message::default(), |message, (name, json)| {
        message.message(1, &Message::default().bytes(1, name).bytes(16, json))
    })
}

/// A record that was read.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// The file begins, and was written by a release of ours, or not.
    Header { ours: bool },
    /// What the run is called.
    Run { id: String, run: WandbRun },
    /// What the run is configured with.
    Config(Values),
    /// Values of a step.
    History { step: u64, values: Values },
    /// Values that the summary has from here on.
    Summary(Values),
    /// A file in the folder `files`.
    File(String),
    /// The end of the run.
    Exit { code: u64 },
    /// Something else.
    Other,
}

/// Reads the bytes of a record.
pub(super) fn read(record: &[u8]) -> Record {
    let Some((kind, value)) = fields(record).find(|(kind, _)| *kind != NUMBER) else { return Record::Other };
    let message = value.bytes();
    let inner = |message, number| field(message, number).map(|value| value.bytes()).unwrap_or_default();
    let text = |message, number| String::from_utf8_lossy(inner(message, number)).into_owned();
    let values = || {
        let items = fields(message).filter(|(number, _)| *number == 1).map(|(_, item)| item.bytes());
        items.map(|item| (text(item, 1), text(item, 16))).collect()
    };
    match kind {
        HEADER => Record::Header { ours: inner(inner(message, 1), 1).starts_with(b"mixflow ") },
        HISTORY => {
            let step = field(inner(message, 2), 1).map_or(0, |value| value.integer());
            Record::History { step, values: values() }
        }
        SUMMARY => Record::Summary(values()),
        CONFIG => Record::Config(values()),
        FILES => Record::File(text(inner(message, 1), 1)),
        RUN => {
            let entity = field(message, 2).map(|_| text(message, 2));
            let run = WandbRun { project: text(message, 3), entity, name: text(message, 8) };
            Record::Run { id: text(message, 1), run }
        }
        EXIT => Record::Exit { code: field(message, 1).map_or(0, |value| value.integer()) },
        _ => Record::Other,
    }
}

/// The field that counts records.
const NUMBER: u32 = 1;

/// A record with its number, from 1.
pub(super) fn numbered(number: u64, record: &Message) -> Message {
    Message::default().varint(NUMBER, number).and(record)
}

/// A number as JSON of Python.
pub(super) fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value if value.is_nan() => "NaN".into(),
        value => serde_json::Value::from(value).to_string(),
    }
}

/// The runtime in a summary, in seconds.
pub(super) fn runtime(summary: &Values) -> f64 {
    summary.get(RUNTIME).and_then(|json| json.parse().ok()).unwrap_or(0.0)
}

/// The name of the seconds since the run began.
pub(super) const RUNTIME: &str = "_runtime";

/// Adds what every row of a history has.
pub(super) fn stamp(values: &mut Values, step: u64, now: SystemTime, runtime: f64) {
    values.insert("_step".into(), step.to_string());
    values.insert("_timestamp".into(), number(seconds(now)));
    values.insert(RUNTIME.into(), number(runtime));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_known_again() {
        let values = Values::from([("loss".into(), number(f64::NAN)), (RUNTIME.into(), number(12.5))]);
        let named = WandbRun { entity: Some("team".into()), ..WandbRun::new("name") };
        let records = [
            header(),
            run("id", &named, UNIX_EPOCH),
            run("id", &WandbRun::new("name"), UNIX_EPOCH),
            config(&values),
            history(0, &values),
            history(300, &values),
            summary(&values),
            exit(End::Stopped, 1.0),
            file("a"),
        ];
        let known = records.map(|record| read(numbered(7, &record).as_bytes()));
        assert_eq!(
            known,
            [
                Record::Header { ours: true },
                Record::Run { id: "id".into(), run: named },
                Record::Run { id: "id".into(), run: WandbRun::new("name") },
                Record::Config(values.clone()),
                Record::History { step: 0, values: values.clone() },
                Record::History { step: 300, values: values.clone() },
                Record::Summary(values.clone()),
                Record::Exit { code: 255 },
                Record::File("a".into()),
            ]
        );
        assert_eq!((values["loss"].as_str(), runtime(&values)), ("NaN", 12.5));
        // A header of the official client.
        let theirs = Message::default().bytes(1, "0.31.0");
        let theirs = Message::default().message(HEADER, &Message::default().message(1, &theirs));
        assert_eq!(read(theirs.as_bytes()), Record::Header { ours: false });
        for torn in [&b""[..], &[0xff; 9]] {
            assert_eq!(read(torn), Record::Other);
        }
    }
}
