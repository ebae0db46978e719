//! The events and the results of a run, for trackers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mixflow::report::Report;
use mixflow::train::Event;
use serde_json::{Map, Value};

use super::{Entry, Png, Trackers};

impl Trackers {
    /// Tells all of them an event of [`Run::train`](mixflow::train::Run::train); warnings are for whoever shows them.
    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { step } => self.track(Entry::Started { step: *step }),
            Event::Stepped(report) => self.track(Entry::Scalars {
                step: report.step,
                values: &[
                    ("loss", report.loss),
                    ("gradient_norm", report.gradient_norm),
                    ("learning_rate", report.learning_rate),
                ],
            }),
            Event::Saved(_) => self.track(Entry::Flush),
            Event::Warning(_) => {}
        }
    }

    /// Tells all of them what a comparison found: the grids of samples, and the means of its table, as of the step 0.
    pub fn report(&mut self, report: &Report) {
        self.track(Entry::Started { step: 0 });
        for grid in &report.grids {
            let name = format!("samples/{}", grid.arm.map_or("data", |arm| arm.name()));
            let bytes = STANDARD.decode(&grid.picture.png).unwrap_or_default();
            if let Some(png) = Png::new(&bytes) {
                self.track(Entry::Image { step: 0, name: &name, png });
            }
        }
        let mut summary = Map::new();
        for row in &report.table.rows {
            let metrics = &row.metrics;
            for (name, values) in [
                ("frechet", &metrics.frechet),
                ("kid", &metrics.kid),
                ("precision", &metrics.precision),
                ("recall", &metrics.recall),
                ("variance_ratio", &metrics.variance_ratio),
            ] {
                if let Some(mean) = values.mean() {
                    summary.insert(format!("{}/{name}", row.arm.name()), mean.into());
                }
            }
        }
        self.track(Entry::Summary(&Value::Object(summary)));
    }
}
