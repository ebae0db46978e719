//! Runs are streamed to a server of Weights & Biases.

mod faults;
#[cfg(all(unix, feature = "pipeline"))]
mod killed;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mixflow_hub::tracker::{End, Entry, Histogram, Png, Tracker, Wandb, WandbRun, WandbServer};
use serde_json::{Value, json};

use super::wandb_server::{Fault, KEY, Server};
use super::{PNG, python};
use crate::shared::hasty;

fn to(address: &str) -> WandbServer {
    WandbServer::new(address, KEY).unwrap().patience(hasty()).interval(Duration::ZERO).closing(Duration::from_secs(20))
}

fn open(folder: &Path, address: &str) -> Wandb {
    Wandb::open(folder, &WandbRun::new("digits")).unwrap().live(to(address)).unwrap()
}

fn scalars(tracker: &mut Wandb, steps: std::ops::Range<u64>, loss: f64) {
    for step in steps {
        tracker.track(Entry::Scalars { step, values: &[("loss", loss), ("rate", 1e-7)] }).unwrap();
    }
    tracker.track(Entry::Flush).unwrap();
}

/// Everything that a run can tell, of 100 steps; `between` comes where part of it is told.
fn run(tracker: &mut Wandb, between: impl Fn(u64)) {
    let histogram = Histogram::new(&[1.0, 2.0, 3.0, 3.0]);
    tracker.track(Entry::Config(&json!({ "model": { "depth": 2 }, "rate": 1e-7 }))).unwrap();
    tracker.track(Entry::Started { step: 0 }).unwrap();
    scalars(tracker, 0..50, 1.0);
    between(50);
    tracker.track(Entry::Image { step: 49, name: "samples", png: Png::new(PNG).unwrap() }).unwrap();
    tracker.track(Entry::Histogram { step: 49, name: "weights", histogram: &histogram }).unwrap();
    scalars(tracker, 50..100, 2.0);
    between(100);
    tracker.track(Entry::Summary(&json!({ "fid": 2.5 }))).unwrap();
    tracker.track(Entry::Finished(End::Done)).unwrap();
}

fn whole(tracker: &mut Wandb) {
    run(tracker, |_| {});
}

/// Step and loss of each row, in the order of the rows.
fn losses(rows: &[&str]) -> Vec<(u64, f64)> {
    let row = |row: &&str| {
        let row: Value = serde_json::from_str(row).unwrap();
        (row["_step"].as_u64().unwrap(), row["loss"].as_f64().unwrap())
    };
    rows.iter().map(row).collect()
}

fn expected(parts: &[(std::ops::Range<u64>, f64)]) -> Vec<(u64, f64)> {
    parts.iter().flat_map(|(steps, loss)| steps.clone().map(|step| (step, *loss))).collect()
}

/// The log of the only run in a folder.
fn log(tracker: &Wandb) -> std::path::PathBuf {
    let id = tracker.folder().to_str().unwrap().rsplit_once('-').unwrap().1.to_string();
    tracker.folder().join(format!("run-{id}.wandb"))
}

/// Asserts that every row was sent once, each request going on where the last one ended.
fn once(server: &Server) {
    let run = server.run();
    let mut next = 0;
    for (first, count) in &run.pieces {
        assert_eq!(*first, next, "{:?}", run.pieces);
        next += count;
    }
    assert_eq!(next, run.history.len() as u64);
}

#[test]
fn a_run_is_streamed_in_order_and_once() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let mut tracker = open(folder.path(), &server.address);
    tracker.track(Entry::Started { step: 0 }).unwrap();
    // While it goes on.
    for part in 0..5 {
        scalars(&mut tracker, 100 * part..100 * (part + 1), part as f64);
        // The last row may still grow.
        server.wait(|run| run.history.len() as u64 == 100 * (part + 1) - 1);
        assert!(server.run().exit.is_none());
    }
    tracker.track(Entry::Scalars { step: 499, values: &[("bad", f64::NAN)] }).unwrap();
    tracker.track(Entry::Finished(End::Done)).unwrap();
    once(&server);
    let run = server.run();
    let parts: Vec<_> = (0..5).map(|part| (100 * part..100 * (part + 1), part as f64)).collect();
    let (last, rows) = run.rows().split_last().map(|(last, rows)| (*last, rows.to_vec())).unwrap();
    assert_eq!(losses(&rows), expected(&parts)[..499]);
    assert!(last.contains("\"bad\":NaN") && last.contains("\"loss\":4.0") && last.contains("\"_step\":499"), "{last}");
    assert!(run.summary.contains("\"bad\":NaN"), "{}", run.summary);
    assert_eq!((run.exit, &run.name), (Some(0), &json!("digits")));
    assert_eq!(tracker.warnings(), Vec::<String>::new());
    // What is sent need not be sent by hand.
    assert!(log(&tracker).with_extension("wandb.synced").exists());
}

/// A server with what `wandb sync` sends of a run directory that was streamed; none where the package is missing.
fn sync(run: &Path) -> Option<Server> {
    let (mut command, home, server) = (python("wandb")?, tempfile::tempdir().unwrap(), Server::start());
    let mut files = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    fs::remove_file(files.find(|path| path.to_str().unwrap().ends_with(".synced")).unwrap()).unwrap();
    let done = command.args(["-m", "wandb", "sync"]).arg(run).stdin(Stdio::null());
    let done = done.env("WANDB_BASE_URL", &server.address).env("WANDB_API_KEY", KEY).env("HOME", home.path());
    let done = done.env("WANDB_DIR", home.path()).env("WANDB_ERROR_REPORTING", "false").env("no_proxy", "127.0.0.1");
    let output = done.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(server)
}

/// What the official client sends of the same run directory is the measure.
#[test]
fn what_is_streamed_is_what_wandb_sync_sends() {
    let (folder, ours) = (tempfile::tempdir().unwrap(), Server::start());
    let mut tracker = open(folder.path(), &ours.address);
    whole(&mut tracker);
    let run = tracker.folder().to_owned();
    drop(tracker);
    once(&ours);
    let (ours, json) = (ours.run(), |text: &str| serde_json::from_str::<Value>(text).unwrap());
    assert_eq!(losses(&ours.rows()), expected(&[(0..50, 1.0), (50..100, 2.0)]));
    assert_eq!(json(&ours.config)["model"]["value"], json!({ "depth": 2 }));
    for name in ["wandb-metadata.json", "config.yaml", "wandb-summary.json"] {
        assert_eq!(ours.files[name], fs::read(run.join("files").join(name)).unwrap());
    }
    let picture = json(ours.rows()[49])["samples"]["path"].as_str().unwrap().to_string();
    assert_eq!(ours.files[&picture], PNG);
    assert!(ours.files.keys().all(|name| ours.uploaded.contains(name)));

    let Some(theirs) = sync(&run) else { return };
    let theirs = theirs.run();
    let numbers = |rows: Vec<&str>| rows.into_iter().map(|row| sorted(json(row))).collect::<Vec<_>>();
    assert_eq!(numbers(ours.rows()), numbers(theirs.rows()));
    assert_eq!(sorted(json(&ours.summary)), sorted(json(&theirs.summary)));
    let mut config = json(&theirs.config);
    config.as_object_mut().unwrap().remove("_wandb");
    assert_eq!(sorted(json(&ours.config)), sorted(config));
    assert_eq!((ours.exit, &ours.name), (theirs.exit, &theirs.name));
    assert!(ours.files.keys().all(|name| theirs.files.contains_key(name)), "{:?}", theirs.files.keys());
    assert_eq!(ours.files[&picture], theirs.files[&picture]);
}

/// All numbers as the same kind of number.
fn sorted(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(items) => items.into_iter().map(|(name, value)| (name, sorted(value))).collect(),
        other => other,
    }
}

#[test]
fn a_run_that_has_nothing_to_say_lives() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let tracker = Wandb::open(folder.path(), &WandbRun::new("digits")).unwrap();
    let mut tracker = tracker.live(to(&server.address).heartbeat(Duration::from_millis(10))).unwrap();
    tracker.track(Entry::Started { step: 0 }).unwrap();
    server.wait(|run| run.beats >= 2);
    scalars(&mut tracker, 0..2, 1.0);
    server.wait(|run| run.history.len() == 1);
    tracker.track(Entry::Finished(End::Done)).unwrap();
    assert_eq!(server.run().exit, Some(0));
}

#[test]
fn a_run_that_crashed_goes_on_from_what_was_acknowledged() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let mut tracker = open(folder.path(), &server.address);
    tracker.track(Entry::Started { step: 0 }).unwrap();
    scalars(&mut tracker, 0..100, 1.0);
    // Without a word: all is sent, but no end.
    drop(tracker);
    server.wait(|run| run.history.len() == 99 && run.exit.is_none());

    // Nothing is sent twice that stays.
    let mut tracker = open(folder.path(), &server.address);
    tracker.track(Entry::Started { step: 100 }).unwrap();
    scalars(&mut tracker, 100..150, 2.0);
    tracker.track(Entry::Finished(End::Stopped)).unwrap();
    drop(tracker);
    once(&server);
    assert_eq!(server.run().exit, Some(255));

    // Steps that are taken again take the places of the old ones.
    server.run().pieces.clear();
    let mut tracker = open(folder.path(), &server.address);
    tracker.track(Entry::Started { step: 120 }).unwrap();
    for (steps, rows) in [(120..160, 159), (160..200, 199)] {
        scalars(&mut tracker, steps, 3.0);
        server.wait(|run| run.history.len() == rows);
    }
    // In one process too.
    tracker.track(Entry::Started { step: 180 }).unwrap();
    scalars(&mut tracker, 180..200, 4.0);
    tracker.track(Entry::Finished(End::Done)).unwrap();
    drop(tracker);
    let run = server.run();
    assert_eq!(losses(&run.rows()), expected(&[(0..100, 1.0), (100..120, 2.0), (120..180, 3.0), (180..200, 4.0)]));
    assert_eq!((run.pieces[0].0, run.exit), (120, Some(0)));
    // The first answer was heard before the second request was made.
    assert!(run.pieces[1..].iter().all(|(first, _)| *first >= 159), "{:?}", run.pieces);
}

#[test]
fn another_server_is_told_from_the_start() {
    let (folder, first, second) = (tempfile::tempdir().unwrap(), Server::start(), Server::start());
    let mut tracker = open(folder.path(), &first.address);
    whole(&mut tracker);
    drop(tracker);
    let mut tracker = open(folder.path(), &second.address);
    tracker.track(Entry::Started { step: 100 }).unwrap();
    tracker.track(Entry::Finished(End::Done)).unwrap();
    once(&second);
    assert_eq!(second.run().rows(), first.run().rows());
    assert_eq!(second.run().files.keys().collect::<Vec<_>>(), first.run().files.keys().collect::<Vec<_>>());
}

#[test]
fn what_came_together_offline_is_sent_in_parts() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let mut tracker = Wandb::open(folder.path(), &WandbRun::new("digits")).unwrap();
    scalars(&mut tracker, 0..25_000, 1.0);
    for step in 25_000..25_030 {
        tracker.track(Entry::Image { step, name: "samples", png: Png::new(PNG).unwrap() }).unwrap();
    }
    drop(tracker);
    let mut tracker = open(folder.path(), &server.address);
    tracker.track(Entry::Started { step: 25_030 }).unwrap();
    tracker.track(Entry::Finished(End::Done)).unwrap();
    once(&server);
    let run = server.run();
    // A mebibyte of rows, the rest, and at most 20 files each.
    assert!((4..=6).contains(&run.pieces.len()) && run.history.len() == 25_030, "{:?}", run.pieces);
    assert_eq!(run.files.keys().filter(|name| name.starts_with("media/")).count(), 30);
}

#[test]
fn the_key_is_in_no_file_and_no_text() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    server.fault("/file_stream", Fault::Status(500));
    let mut tracker = open(folder.path(), &server.address);
    whole(&mut tracker);
    let texts = format!("{tracker:?} {:?} {:?}", tracker.warnings(), to(&server.address));
    assert!(!texts.contains(KEY) && texts.contains("answered 500"), "{texts}");
    let folder = tracker.folder().to_owned();
    drop(tracker);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut count = 0;
    for file in files {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", file.display());
        count += 1;
    }
    // The log, what is sent of it, and the mark that it is sent.
    assert_eq!(count, 3);
}
