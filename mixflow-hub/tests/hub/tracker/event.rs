//! A run's events reach trackers.

use std::path::Path;
use std::sync::{Arc, Mutex};

use mixflow::train::{Event, StepReport};
use mixflow_hub::Error;
use mixflow_hub::tracker::{Entry, Tracker, Trackers};

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
    let report = StepReport { step: 7, loss: 0.5, gradient_norm: 2.0, learning_rate: 1e-3, finite: true };
    trackers.event(&Event::Started { step: 7 });
    trackers.event(&Event::Stepped(&report));
    trackers.event(&Event::Saved(Path::new("checkpoint")));
    trackers.event(&Event::Warning("an image is broken".into()));
    assert_eq!(trackers.finish(), Vec::<String>::new());
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "Started { step: 7 }",
            "Scalars { step: 7, values: [(\"loss\", 0.5), (\"gradient_norm\", 2.0), (\"learning_rate\", 0.001)] }",
            "Flush"
        ]
    );
}
