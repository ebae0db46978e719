//! The events of a run, for trackers.

use mixflow::train::Event;

use super::{Entry, Trackers};

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
}
