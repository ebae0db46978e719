//! The package `tensorboard` reads event files.

use std::fs::{self, OpenOptions};

use mixflow_hub::tracker::{End, Entry, Histogram, Png, TensorBoard, Tracker};
use serde_json::json;

use super::{PNG, numbers, printed, python};

const PROGRAM: &str = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
run = EventAccumulator(sys.argv[1])
run.Reload()
tags = run.Tags()
print(json.dumps({
    'scalars': {tag: [[e.step, str(e.value)] for e in run.Scalars(tag)] for tag in tags['scalars']},
    'images': {tag: [[e.step, e.width, e.height, list(e.encoded_image_string)] for e in run.Images(tag)]
               for tag in tags['images']},
    'histograms': {tag: [[e.step, vars(e.histogram_value)] for e in run.Histograms(tag)] for tag in tags['histograms']},
    'texts': {tag: run.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in tags['tensors']},
    'plugins': sorted(run.PluginTagToContent('text')),
}))
";

#[test]
fn tensorboard_reads_a_run_that_crashed_and_went_on() {
    let Some(mut command) = python("tensorboard") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let scalars = |step| Entry::Scalars { step, values: &[("loss", 0.5), ("rate", 1e-4)] };
    let histogram = Histogram::new(&[1.0, 2.0, 3.0, 3.0]);

    let mut first = TensorBoard::open(&path).unwrap();
    first.track(Entry::Config(&json!({ "batch": 64 }))).unwrap();
    first.track(Entry::Started { step: 0 }).unwrap();
    for step in 0..6 {
        first.track(scalars(step)).unwrap();
    }
    drop(first);
    // The crash tore the last event.
    let file = fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();

    let mut second = TensorBoard::open(&path).unwrap();
    second.track(Entry::Started { step: 3 }).unwrap();
    second.track(Entry::Scalars { step: 3, values: &[("loss", 0.25), ("rate", f64::NAN)] }).unwrap();
    second.track(Entry::Image { step: 3, name: "samples", png: Png::new(PNG).unwrap() }).unwrap();
    second.track(Entry::Histogram { step: 3, name: "weights", histogram: &histogram }).unwrap();
    second.track(Entry::Histogram { step: 3, name: "empty", histogram: &Histogram::new(&[]) }).unwrap();
    second.track(Entry::Summary(&json!({ "fid": 2.5 }))).unwrap();
    second.track(Entry::Finished(End::Done)).unwrap();

    let run = printed(command.args(["-c", PROGRAM]).arg(&path));
    assert_eq!(run["scalars"]["loss"], json!([[0, "0.5"], [1, "0.5"], [2, "0.5"], [3, "0.25"]]));
    assert_eq!(run["scalars"]["rate"][3], json!([3, "nan"]));
    assert_eq!(run["images"], json!({ "samples": [[3, 1, 2, PNG]] }));
    let [step, found] = [0, 1].map(|index| &run["histograms"]["weights"][0][index]);
    assert_eq!((step, numbers(&found["bucket_limit"])), (&json!(3), histogram.edges[1..].to_vec()));
    assert_eq!(numbers(&found["bucket"]), histogram.counts.iter().map(|&count| count as f64).collect::<Vec<_>>());
    let moments = ["min", "max", "num", "sum", "sum_squares"].map(|name| found[name].as_f64().unwrap());
    assert_eq!(moments, [1.0, 3.0, 4.0, 9.0, 23.0]);
    assert_eq!(run["histograms"]["empty"][0][1]["num"], 0.0);
    assert_eq!(run["texts"]["config"], "```\n{\n  \"batch\": 64\n}\n```");
    assert_eq!(run["texts"]["summary"], "```\n{\n  \"fid\": 2.5\n}\n```");
    assert_eq!(run["plugins"], json!(["config", "summary"]));
}
