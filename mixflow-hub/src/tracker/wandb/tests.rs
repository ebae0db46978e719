//! What is in a log, whoever opened it when.

use std::fs::{self, File};

use super::record::Record;
use super::*;

const RUN: &str = "digits";

fn open(folder: &Path) -> Wandb {
    Wandb::open(folder, &WandbRun::new(RUN)).unwrap()
}

fn loss(tracker: &mut Wandb, step: u64, loss: f64) {
    tracker.track(Entry::Scalars { step, values: &[("loss", loss)] }).unwrap();
}

fn png() -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &[0, 0, 0, 3, 0, 0, 0, 4][..]].concat()
}

/// All records, and where the last whole one ends.
fn records(tracker: &Wandb) -> (Vec<Record>, u64) {
    let mut records = log::Records::open(File::open(tracker.file.path()).unwrap()).unwrap().unwrap();
    let mut known = vec![];
    while let Some(record) = records.next().unwrap() {
        let number = super::super::protobuf::field(&record, 1).unwrap().integer();
        assert_eq!(number, known.len() as u64 + 1);
        known.push(record::read(&record));
    }
    (known, records.end())
}

fn steps(tracker: &Wandb) -> Vec<u64> {
    let step = |record| if let Record::History { step, .. } = record { Some(step) } else { None };
    records(tracker).0.into_iter().filter_map(step).collect()
}

/// What the summary in the log comes to.
fn summary(tracker: &Wandb) -> Values {
    kept(tracker.file.path(), u64::MAX).unwrap().unwrap().summary
}

#[test]
fn a_run_goes_on_wherever_its_log_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = open(folder.path());
    let log = tracker.file.path().to_owned();
    (0..4).for_each(|step| loss(&mut tracker, step, 1.0));
    tracker.track(Entry::Finished(End::Done)).unwrap();
    assert_eq!(records(&tracker).0.last(), Some(&Record::Exit { code: 0 }));
    drop(tracker);
    let whole = fs::read(&log).unwrap();
    let begun = whole.len() - 350;
    for (length, started) in (begun..=whole.len()).flat_map(|length| [(length, Some(2)), (length, None)]) {
        fs::write(&log, &whole[..length]).unwrap();
        let mut tracker = open(folder.path());
        assert_eq!(tracker.file.path(), log);
        if let Some(step) = started {
            tracker.track(Entry::Started { step }).unwrap();
        }
        let first = started.unwrap_or(4);
        (first..6).for_each(|step| loss(&mut tracker, step, 2.0));
        tracker.track(Entry::Finished(End::Done)).unwrap();
        let (records, end) = records(&tracker);
        assert_eq!(end, fs::metadata(&log).unwrap().len(), "{length}");
        assert_eq!(records.iter().filter(|record| matches!(record, Record::Exit { .. })).count(), 1);
        // A row that was torn off is missing, none is there twice.
        let steps = steps(&tracker);
        assert!(steps.is_sorted_by(|one, next| one < next), "{steps:?}");
        assert!(steps.ends_with(&(first..6).collect::<Vec<_>>()), "{steps:?}");
        assert_eq!(summary(&tracker)["loss"], "2.0");
    }
}

#[test]
fn the_rows_of_steps_that_are_taken_again_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = open(folder.path());
    (0..10).for_each(|step| loss(&mut tracker, step, step as f64));
    tracker.track(Entry::Flush).unwrap();
    tracker.track(Entry::Started { step: 4 }).unwrap();
    assert_eq!(steps(&tracker), [0, 1, 2, 3]);
    loss(&mut tracker, 3, 7.0);
    loss(&mut tracker, 4, 5.0);
    drop(tracker);
    let tracker = open(folder.path());
    assert_eq!((steps(&tracker), summary(&tracker)["loss"].as_str()), (vec![0, 1, 2, 3, 4], "5.0"));
}

/// Whoever goes on with a run says what it is configured with now, and then where it goes on.
#[test]
fn the_configuration_of_a_run_that_goes_on_stays() {
    let folder = tempfile::tempdir().unwrap();
    for (started, batch) in [(0, 32), (4, 64), (8, 128), (5, 256)] {
        let mut tracker = open(folder.path());
        tracker.track(Entry::Config(&serde_json::json!({ "batch": batch }))).unwrap();
        tracker.track(Entry::Started { step: started }).unwrap();
        (started..10).for_each(|step| loss(&mut tracker, step, 1.0));
        tracker.track(Entry::Flush).unwrap();
        let (log, run) = (tracker.file.path().to_owned(), tracker.folder().to_owned());
        std::mem::forget(tracker);
        // As whoever sends it reads it.
        let mut read = pending::Pending::open(&log, 0).unwrap();
        let sent = read.next(fs::metadata(&log).unwrap().len()).unwrap().unwrap();
        assert_eq!(read.config(), format!("{{\"batch\":{{\"value\":{batch}}}}}"), "from step {started}");
        assert!(sent.rows.len() == 10 && sent.files.contains(&"config.yaml".into()), "{:?}", sent.files);
        assert!(fs::read_to_string(run.join("files/config.yaml")).unwrap().contains(&batch.to_string()));
    }
}

#[test]
fn a_row_that_is_written_still_grows() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = open(folder.path());
    let image = png();
    loss(&mut tracker, 3, 1.0);
    tracker.track(Entry::Flush).unwrap();
    tracker.track(Entry::Summary(&serde_json::json!({ "fid": 2.5 }))).unwrap();
    tracker.track(Entry::Image { step: 3, name: "../../a", png: Png::new(&image).unwrap() }).unwrap();
    tracker.track(Entry::Flush).unwrap();
    assert_eq!((steps(&tracker), summary(&tracker).len()), (vec![3], 6));
    tracker.track(Entry::Config(&serde_json::json!({ "late": true }))).unwrap();
    // Dropped, as where the process ends without a word.
    let folder = tracker.folder().to_owned();
    drop(tracker);
    let tracker = open(folder.parent().unwrap().parent().unwrap());
    let (records, _) = records(&tracker);
    use Record::{Config, File, Header, History, Run, Summary};
    let expected = matches!(
        &records[..],
        [Header { ours: true }, Run { .. }, File(_), File(picture), Config(_), File(text), History { step: 3, .. }, Summary(_)]
            if picture.starts_with("media/") && text == "config.yaml"
    );
    assert!(expected, "{records:?}");
    let summary = summary(&tracker);
    assert_eq!([&summary["loss"], &summary["fid"]], ["1.0", "2.5"]);
    let value: Value = serde_json::from_str(&summary["../../a"]).unwrap();
    let path = value["path"].as_str().unwrap();
    assert!(path.starts_with("media/images/______a_3_") && folder.join("files").join(path).is_file(), "{path}");
}

#[test]
fn runs_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ours = open(folder.path()).folder().to_owned();
    // The official client's, an empty one, and one that is no log; all newer.
    let theirs = Message::default().message(21, &Message::default().message(1, &Message::default().bytes(1, "0.31.0")));
    let theirs = [log::HEADER, &log::frame(7, theirs.as_bytes())].concat();
    let others = ["99990101_000000-theirs", "99990101_000001-empty", "99990101_000002-text"];
    for (name, contents) in others.iter().zip([&theirs[..], b"", b"text"]) {
        let run = folder.path().join("wandb").join(format!("offline-run-{name}"));
        fs::create_dir(&run).unwrap();
        fs::write(run.join(format!("run-{}.wandb", name.rsplit_once('-').unwrap().1)), contents).unwrap();
    }
    fs::create_dir(folder.path().join("wandb").join("offline-run-99990101_000003-nothing")).unwrap();
    assert_eq!(open(folder.path()).folder(), ours);
    fs::remove_dir_all(&ours).unwrap();
    let new = open(folder.path());
    assert!(!new.folder().to_str().unwrap().contains("9999"));
    assert_eq!(
        fs::read(folder.path().join("wandb/offline-run-99990101_000000-theirs/run-theirs.wandb")).unwrap(),
        theirs
    );
}

#[test]
fn what_was_uploaded_is_uploaded_again_once_the_run_went_on() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = open(folder.path());
    let marker = PathBuf::from(format!("{}.synced", tracker.file.path().display()));
    drop(tracker);
    fs::write(&marker, "").unwrap();
    drop(open(folder.path()));
    assert!(!marker.exists());
}

#[test]
fn a_log_that_is_torn_before_the_name_of_its_run_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = open(folder.path());
    tracker.track(Entry::Finished(End::Done)).unwrap();
    let log = tracker.file.path().to_owned();
    drop(tracker);
    fs::write(&log, &fs::read(&log).unwrap()[..60]).unwrap();
    let mut tracker = open(folder.path());
    assert_ne!(tracker.file.path(), log);
    assert!(matches!(records(&tracker).0[..2], [Record::Header { ours: true }, Record::Run { .. }]));
    // A log that somebody takes away meanwhile, where the system lets them, is an error, not a loss of others.
    if cfg!(unix) {
        fs::remove_file(tracker.file.path()).unwrap();
        assert!(tracker.track(Entry::Started { step: 0 }).unwrap_err().to_string().starts_with("cannot read"));
    }
}

#[test]
fn a_row_that_was_flushed_outlives_a_process_that_is_killed_while_it_grows() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = open(folder.path());
    (0..4).for_each(|step| loss(&mut tracker, step, 1.0));
    tracker.track(Entry::Flush).unwrap();
    tracker.track(Entry::Scalars { step: 3, values: &[("more", 2.0)] }).unwrap();
    // It is written anew with the next flush, which never comes.
    std::mem::forget(tracker);
    let mut tracker = open(folder.path());
    assert_eq!((tracker.kept(4).unwrap(), steps(&tracker)), (4, vec![0, 1, 2, 3]));
    // So does one that waits behind a change of the configuration.
    tracker.track(Entry::Config(&serde_json::json!({ "batch": 64 }))).unwrap();
    std::mem::forget(tracker);
    assert_eq!(steps(&open(folder.path())), [0, 1, 2, 3]);
}

#[test]
fn a_log_is_as_long_as_what_was_tracked() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = open(folder.path());
    let histogram = Histogram::new(&[1.0, 2.0, 3.0]);
    tracker.track(Entry::Histogram { step: 0, name: "weights", histogram: &histogram }).unwrap();
    for step in 1..=200 {
        loss(&mut tracker, step, step as f64);
        tracker.track(Entry::Flush).unwrap();
    }
    let length = fs::metadata(tracker.file.path()).unwrap().len();
    // A row and what it changes of the summary are 200 bytes each; a histogram alone is 1500.
    assert!(length < 200 * 500 + 10_000, "{length}");
    let summary = summary(&tracker);
    assert_eq!((&summary["weights"], summary["loss"].as_str()), (&json(&histogram), "200.0"));
}

#[test]
fn the_summary_keeps_what_was_said_behind_a_row_that_grows() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = open(folder.path());
    tracker.track(Entry::Scalars { step: 0, values: &[("first", 1.0)] }).unwrap();
    loss(&mut tracker, 1, 2.0);
    tracker.track(Entry::Summary(&serde_json::json!({ "fid": 2.5 }))).unwrap();
    // Twice: the second time it is said that the first time was taken back.
    for value in [3.0, 4.0] {
        loss(&mut tracker, 1, value);
        tracker.track(Entry::Flush).unwrap();
    }
    let summary = summary(&tracker);
    assert_eq!(["first", "fid", "loss"].map(|name| summary[name].as_str()), ["1.0", "2.5", "4.0"]);
    assert_eq!(summary, tracker.summary);
}
