//! A run's events reach trackers.

use std::sync::{Arc, Mutex};

use mixflow::backbones::weights::Weights;
use mixflow::report::{Arm, Grid, Metrics, PerSeed, Picture, Report, Row, Table};
use mixflow::train::{Event, StepReport};
use mixflow_hub::tracker::{Entry, Error, Tracker, Trackers};

struct Text(Arc<Mutex<Vec<String>>>);

impl Tracker for Text {
    fn track(&mut self, entry: Entry<'_>) -> Result<(), Error> {
        self.0.lock().unwrap().push(format!("{entry:?}"));
        Ok(())
    }
}

#[test]
fn trackers_hear_what_the_log_of_a_run_holds() {
    let heard = Arc::new(Mutex::new(vec![]));
    let mut trackers = Trackers::default();
    trackers.add(Ok(Text(heard.clone())));
    let report = StepReport {
        step: 7,
        loss: 0.5,
        terms: vec![("projection", -0.25)],
        gradient_norm: 2.0,
        learning_rate: 1e-3,
        finite: true,
    };
    trackers.event(&Event::Started { step: 7 });
    trackers.event(&Event::Stepped(report));
    trackers.event(&Event::Saved("checkpoint".into()));
    trackers.event(&Event::Warning("an image is broken".into()));
    assert_eq!(trackers.finish(), Vec::<String>::new());
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "Started { step: 7 }",
            "Scalars { step: 7, values: [(\"loss\", 0.5), (\"gradient_norm\", 2.0), (\"learning_rate\", 0.001), (\"projection\", -0.25)] }",
            "Flush"
        ]
    );
}

#[test]
fn trackers_hear_how_the_weights_of_a_checkpoint_are_distributed() {
    let folder = tempfile::tempdir().unwrap();
    crate::publication::train(folder.path(), serde_json::json!({}));
    let checkpoint = folder.path().join("checkpoints/step-00000003");
    let names: Vec<String> = Weights::read(checkpoint.join("weights.safetensors"))
        .unwrap()
        .iter()
        .map(|(name, tensor)| {
            let name = name.trim_start_matches("Sit.");
            format!("Histogram {{ step: 2, name: \"weights/{name}\", count: {} }}", tensor.num_elements())
        })
        .collect();
    let heard = Arc::new(Mutex::new(vec![]));
    let mut trackers = Trackers::default();
    trackers.add(Ok(Text(heard.clone())));
    trackers.event(&Event::Saved(checkpoint));
    assert_eq!(trackers.finish(), Vec::<String>::new());
    let heard: Vec<String> = heard.lock().unwrap().clone();
    let short = |line: &String| {
        let count = line.split("counts: ").nth(1).and_then(|rest| rest.split(" count: ").nth(1)?.split(',').next());
        let head = line.split(", histogram").next().unwrap();
        count.map_or(line.clone(), |count| format!("{head}, count: {count} }}"))
    };
    assert_eq!(heard.iter().map(short).collect::<Vec<_>>(), [vec!["Flush".to_string()], names].concat());
}

#[test]
fn trackers_hear_what_a_comparison_found() {
    // Two grey pixels, as the tests of the official packages have them, in base64.
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAACCAAAAAC86un7AAAADElEQVR4nGMQYPgAAAEkAQFDedMfAAAAAElFTkSuQmCC";
    let picture = Picture { width: 1, height: 2, png: png.into() };
    let grid = |arm| Grid { arm, caption: String::new(), picture: picture.clone() };
    let metrics = Metrics { frechet: PerSeed(vec![1.0, 2.0]), ..Metrics::default() };
    let report = Report {
        grids: vec![grid(None), grid(Some(Arm::MixFlow))],
        table: Table { rows: vec![Row { arm: Arm::MixFlow, metrics }], ..Table::default() },
        ..Report::default()
    };
    let heard = Arc::new(Mutex::new(vec![]));
    let mut trackers = Trackers::default();
    trackers.add(Ok(Text(heard.clone())));
    trackers.report(&report);
    assert_eq!(trackers.finish(), Vec::<String>::new());
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 4);
    assert_eq!(heard[0], "Started { step: 0 }");
    assert!(heard[1].starts_with("Image { step: 0, name: \"samples/data\", png: Png {"), "{}", heard[1]);
    assert!(heard[2].contains("\"samples/MixFlow\"") && heard[2].contains("width: 1, height: 2"), "{}", heard[2]);
    assert_eq!(heard[3], "Summary(Object {\"MixFlow/pixel_frechet_distance\": Number(1.5)})");
}
