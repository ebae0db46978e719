//! `wandb sync` uploads run directories, to a server on loopback.

use std::fs::{self, OpenOptions};
use std::path::Path;

use mixflow_hub::tracker::{End, Entry, Histogram, Png, Tracker, Wandb, WandbRun};
use serde_json::{Value, json};

use super::{PNG, numbers, printed, python};

/// What `wandb sync` sends of a run directory; none where the package is missing.
fn sync(run: &Path) -> Option<Value> {
    let mut command = python("wandb")?;
    let home = tempfile::tempdir().unwrap();
    Some(printed(command.args(["-c", include_str!("wandb.py")]).args([run, home.path()])))
}

/// Step and loss of each row.
fn rows(sent: &Value) -> Vec<(u64, f64)> {
    let rows = sent["history"].as_array().unwrap().iter();
    rows.map(|row| (row["_step"].as_u64().unwrap(), row["loss"].as_f64().unwrap())).collect()
}

fn scalars(tracker: &mut Wandb, step: u64, loss: f64) {
    tracker.track(Entry::Scalars { step, values: &[("loss", loss), ("rate", 1e-7)] }).unwrap();
}

fn text(sent: &Value, file: &str) -> String {
    let hex = sent["files"][file].as_str().unwrap_or_else(|| panic!("{file} was not sent"));
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    String::from_utf8_lossy(&(0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>()).into_owned()
}

#[test]
fn wandb_sync_uploads_a_whole_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = Wandb::open(folder.path(), &WandbRun::new("digits")).unwrap();
    let histogram = Histogram::new(&[1.0, 2.0, 3.0, 3.0]);
    tracker.track(Entry::Config(&json!({ "model": { "depth": 2 }, "rate": 1e-7 }))).unwrap();
    tracker.track(Entry::Started { step: 0 }).unwrap();
    tracker.track(Entry::Histogram { step: 0, name: "once", histogram: &histogram }).unwrap();
    for step in 0..1000 {
        scalars(&mut tracker, step, step as f64);
        // What a summary does not say again stays.
        if step % 100 == 0 {
            tracker.track(Entry::Flush).unwrap();
        }
    }
    // All of one step are one row, also when a checkpoint is written in between.
    tracker.track(Entry::Flush).unwrap();
    tracker.track(Entry::Scalars { step: 999, values: &[("bad", f64::NAN)] }).unwrap();
    tracker.track(Entry::Scalars { step: 998, values: &[("past", 1.0)] }).unwrap();
    tracker.track(Entry::Image { step: 999, name: "samples/a b", png: Png::new(PNG).unwrap() }).unwrap();
    tracker.track(Entry::Histogram { step: 999, name: "weights", histogram: &histogram }).unwrap();
    tracker.track(Entry::Summary(&json!({ "fid": 2.5 }))).unwrap();
    tracker.track(Entry::Finished(End::Done)).unwrap();
    let run = tracker.folder().to_owned();
    drop(tracker);

    let Some(sent) = sync(&run) else { return };
    let first = &sent["runs"][0];
    assert_eq!([&first["project"], &first["displayName"]], ["mixflow", "digits"]);
    assert!(run.to_str().unwrap().ends_with(first["name"].as_str().unwrap()));
    let config = sent["runs"].as_array().unwrap().iter().rev().find_map(|run| run["config"].as_str());
    let config: Value = serde_json::from_str(config.unwrap()).unwrap();
    assert_eq!(config["model"]["value"], json!({ "depth": 2 }));
    assert!(text(&sent, "config.yaml").contains("depth: 2"));
    assert!(text(&sent, "wandb-metadata.json").contains("startedAt"));
    assert!(rows(&sent).into_iter().eq((0..1000).map(|step| (step, step as f64))));

    let last = &sent["history"][999];
    assert_eq!(last["rate"], 1e-7);
    assert_eq!([&last["weights"]["_type"], &last["bad"]], ["histogram", "NaN"]);
    assert_eq!(last["weights"]["values"], json!(histogram.counts));
    assert_eq!(numbers(&last["weights"]["bins"]), histogram.edges);
    let image = &last["samples/a b"];
    let size = json!(PNG.len());
    assert_eq!(
        [&image["_type"], &image["width"], &image["height"], &image["size"]],
        [&json!("image-file"), &json!(1), &json!(2), &size]
    );
    let file = image["path"].as_str().unwrap();
    assert_eq!(fs::read(run.join("files").join(file)).unwrap(), PNG);
    assert_eq!(sent["files"][file].as_str().unwrap().len(), 2 * PNG.len());
    assert_eq!(
        [&sent["summary"]["fid"], &sent["summary"]["loss"], &sent["summary"]["_step"]],
        [&json!(2.5), &json!(999), &json!(999)]
    );
    assert_eq!(sent["summary"]["once"]["_type"], "histogram");
    assert!(sent["summary"]["past"].is_null());
    assert_eq!(sent["exit"], 0);
    assert!(sent["output"].as_str().unwrap().contains("Finished syncing"), "{sent}");
}

#[test]
fn wandb_sync_uploads_a_run_that_crashed_and_went_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = Wandb::open(folder.path(), &WandbRun::new("digits")).unwrap();
    let run = tracker.folder().to_owned();
    for step in 0..2000 {
        scalars(&mut tracker, step, 1.0);
    }
    tracker.track(Entry::Flush).unwrap();
    drop(tracker);
    // The crash tore the last record.
    let id = run.to_str().unwrap().rsplit_once('-').unwrap().1;
    let log = run.join(format!("run-{id}.wandb"));
    let file = OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(file.metadata().unwrap().len() - 9).unwrap();
    drop(file);

    // As it is: all that is whole.
    if let Some(sent) = sync(&run) {
        assert!(rows(&sent).into_iter().eq((0..2000).map(|step| (step, 1.0))), "{}", sent["output"]);
    }
    fs::write(log.with_extension("wandb.synced"), "").unwrap();

    let mut tracker = Wandb::open(folder.path(), &WandbRun::new("digits")).unwrap();
    assert_eq!(tracker.folder(), run);
    tracker.track(Entry::Started { step: 1500 }).unwrap();
    for step in 1500..2500 {
        scalars(&mut tracker, step, 2.0);
    }
    tracker.track(Entry::Finished(End::Done)).unwrap();
    let Some(sent) = sync(&run) else { return };
    assert!(rows(&sent).into_iter().eq((0..2500).map(|step| (step, if step < 1500 { 1.0 } else { 2.0 }))));
    assert_eq!((&sent["exit"], &sent["summary"]["loss"]), (&json!(0), &json!(2)));
}
