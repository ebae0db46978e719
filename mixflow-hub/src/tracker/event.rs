//! The events and the results of a run, for trackers.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mixflow::backbones::weights::Weights;
use mixflow::report::Report;
use mixflow::train::Event;
use serde_json::{Map, Value};

use super::resumed::tell_picture;
use super::{Entry, Histogram, Png, Trackers};

impl Trackers {
    /// Tells all of them an event of [`Run::train`](mixflow::train::Run::train); warnings are for whoever shows them, and
    /// whoever goes on after it says when it has ended. Of a
    /// checkpoint the thread counts how the weights are distributed, from its file: the run does not wait for that.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Started { step } => self.track(Entry::Started { step: *step }),
            Event::Stepped(report) => {
                let step = [
                    ("loss", report.loss),
                    ("gradient_norm", report.gradient_norm),
                    ("learning_rate", report.learning_rate),
                ];
                self.track(Entry::Scalars { step: report.step, values: &[&step, &report.terms[..]].concat() });
            }
            // From its file, which has it whatever happens: it waits for nothing in memory.
            Event::Drawn { steps, file, .. } => {
                let (steps, file) = (*steps, file.clone());
                self.work(move |tell| {
                    tell_picture(&file, steps, tell);
                });
            }
            Event::Saved(checkpoint) => {
                self.track(Entry::Flush);
                let checkpoint = checkpoint.clone();
                self.work(move |tell| histograms(&checkpoint, tell));
            }
            Event::Finished | Event::Warning(_) => {}
        }
    }

    /// Tells all of them what a comparison found: the grids of samples, and the means of its table, as of the step 0.
    pub fn report(&mut self, report: &Report) {
        self.track(Entry::Started { step: 0 });
        for grid in &report.grids {
            let name = format!("samples/{}", grid.arm.as_ref().map_or("data", |arm| arm.name()));
            let bytes = STANDARD.decode(&grid.picture.png).unwrap_or_default();
            if let Some(png) = Png::new(&bytes) {
                self.track(Entry::Image { step: 0, name: &name, png });
            }
        }
        let of = if report.table.features == "pixels" { "pixel" } else { &report.table.features };
        let mut summary = Map::new();
        for row in &report.table.rows {
            let metrics = &row.metrics;
            let known = [
                ("frechet_distance", &metrics.frechet),
                ("kernel_distance", &metrics.kernel),
                ("precision", &metrics.precision),
                ("recall", &metrics.recall),
                ("variance_ratio", &metrics.variance_ratio),
            ];
            let known = known.map(|(name, values)| (format!("{of}_{name}"), values));
            let own = metrics.more.iter().map(|own| (own.name.clone(), &own.values));
            for (name, values) in known.into_iter().chain(own) {
                if let Some(mean) = values.mean() {
                    summary.insert(format!("{}/{name}", row.arm.name()), mean.into());
                }
            }
        }
        self.track(Entry::Summary(&Value::Object(summary)));
    }
}

/// How the weights of a checkpoint are distributed, tensor by tensor, as of the step that it was written after. A checkpoint
/// that has made room for newer ones meanwhile has none.
fn histograms(checkpoint: &Path, tell: &mut dyn FnMut(Entry<'_>)) {
    let steps = checkpoint.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse::<u64>().ok());
    let (Some(steps), Ok(weights)) = (steps, Weights::read(checkpoint.join("weights.safetensors"))) else { return };
    for (name, tensor) in weights.iter() {
        let Ok(values) = tensor.data() else { return };
        let values: Vec<f32> = values.iter::<f32>().collect();
        // A network that a recipe chooses is a variant, such as `Sit`, around the one that has names of its own.
        let own = name.split_once('.').filter(|_| name.starts_with(char::is_uppercase)).map_or(name, |(_, own)| own);
        let name = format!("weights/{own}");
        tell(Entry::Histogram { step: steps.saturating_sub(1), name: &name, histogram: &Histogram::new(&values) });
    }
}
