//! Numbers under the names that a card gives them.

use mixflow::evaluation::inception::InceptionEvaluation;
use mixflow::evaluation::metric::{Measurement, Scores};
use mixflow::numbers::plus_minus;
use serde_json::{Value, json};

use super::results::{Conditions, MeasuredScores};

/// A number that was measured.
pub(super) struct Metric {
    /// Its name for programs.
    kind: &'static str,
    /// Its name for people.
    pub(super) name: &'static str,
    /// What is better: less, "↓", more, "↑", or this number.
    pub(super) better: &'static str,
    pub(super) value: f64,
    /// Its standard deviation, where it is the mean of several.
    spread: Option<f64>,
}

impl Metric {
    /// For people: with the digits that its spread supports.
    pub(super) fn shown(&self) -> String {
        plus_minus(self.value, self.spread)
    }
}

/// Distances of one set of images, on pixels.
pub(super) fn pixel_metrics(scores: &Scores) -> Vec<Metric> {
    [
        ("pixel_frechet_distance", "Fréchet distance", "↓", scores.frechet),
        ("pixel_kernel_distance", "kernel distance", "↓", scores.kernel),
        ("pixel_precision", "precision", "↑", scores.precision),
        ("pixel_recall", "recall", "↑", scores.recall),
        ("pixel_variance_ratio", "variance ratio", "→ 1", scores.variance_ratio),
    ]
    .map(|(kind, name, better, value)| Metric { kind, name, better, value, spread: None })
    .into()
}

/// Distances of one set of images, on features of an Inception network.
pub(super) fn inception_metrics(found: &InceptionEvaluation) -> Vec<Metric> {
    let alone = |value: Option<f64>| value.map(|value| (value, None));
    let score = found.inception_score.as_ref().map(|score| (score.mean, score.known_deviation()));
    let metrics = [
        ("fid", "FID", "↓", alone(Some(found.fid))),
        ("sfid", "sFID", "↓", alone(found.sfid)),
        ("inception_score", "Inception Score", "↑", score),
        ("precision", "precision", "↑", alone(found.precision)),
        ("recall", "recall", "↑", alone(found.recall)),
        ("kid", "KID", "↓", found.kid.as_ref().map(|kid| (kid.mean, kid.deviation))),
    ];
    let metric = |(kind, name, better, number): (_, _, _, Option<(f64, Option<f64>)>)| {
        let (value, spread) = number?;
        Some(Metric { kind, name, better, value, spread })
    };
    metrics.into_iter().filter_map(metric).collect()
}

/// A number to six digits, which is more than an evaluation is good for.
pub(super) fn rounded(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

/// What the Hub shows beside the card; none where nothing was measured.
///
/// Numbers of an Inception network without the published weights compare with nothing and are left out.
///
/// # Source
/// `eval_results_to_model_index` of `huggingface_hub` 1.1 (`repocard_data.py`).
pub(super) fn model_index(
    measured: &MeasuredScores,
    (model, task): (&str, &str),
    (data, data_kind): (&str, &str),
) -> Option<Value> {
    let entry = |conditions: &Conditions, suffix: &str, reference: Option<&str>, metrics: Vec<Metric>| {
        let metrics: Vec<Value> = metrics.iter().map(|metric| entry(metric, suffix, conditions)).collect();
        json!({
            "task": { "type": task, "name": "image generation" },
            "dataset": { "type": data_kind, "name": reference.unwrap_or(data) },
            "metrics": metrics,
        })
    };
    let pixels = measured.pixels.iter().map(|(conditions, Measurement { generated, .. })| {
        entry(conditions, " on pixels", None, pixel_metrics(generated))
    });
    let inception =
        measured.inception.iter().filter(|(_, found)| found.network.published).map(|(conditions, found)| {
            let reference = super::files::last_part(&found.reference.name);
            let reference = reference.as_deref().unwrap_or(&found.reference.name);
            entry(conditions, "", Some(reference), inception_metrics(found))
        });
    let results: Vec<Value> = pixels.chain(inception).collect();
    (!results.is_empty()).then(|| json!([{ "name": model, "results": results }]))
}

fn entry(metric: &Metric, suffix: &str, conditions: &Conditions) -> Value {
    let mut arguments = serde_json::Map::new();
    for (name, value) in [
        ("sampler", json!(conditions.sampler)),
        ("steps", json!(conditions.steps)),
        ("network_evaluations", json!(conditions.evaluations)),
        ("images", json!(conditions.images)),
        ("seed", json!(conditions.seed)),
        ("labels", json!(conditions.labels)),
        ("precision", json!(conditions.precision)),
    ] {
        if !value.is_null() && value != "" {
            arguments.insert(name.into(), value);
        }
    }
    let evaluations = conditions.evaluations.map_or(String::new(), |count| format!(", {count} network evaluations"));
    let setting = format!("{}{evaluations}", conditions.sampler);
    let setting = setting.trim_start_matches(", ");
    let setting = if setting.is_empty() { String::new() } else { format!(" ({setting})") };
    json!({
        "type": metric.kind,
        "name": format!("{}{suffix}{setting}", metric.name),
        "value": rounded(metric.value),
        "args": arguments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_digits_are_kept() {
        for (number, expected) in [(1079.709284832, 1079.71), (2.0, 2.0), (0.0, 0.0), (-1.66646516e-7, -1.66647e-7)] {
            assert_eq!(rounded(number), expected);
        }
    }
}
