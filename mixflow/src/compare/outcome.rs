//! What a comparison found, as tables and figures.

use serde::{Deserialize, Serialize};

use super::Lag;
use crate::data::Labels;
use crate::evaluation::metric::{Measurement, Scores};
use crate::evaluation::slow_flow::equivalent_time;
use crate::evaluation::{Measured, are_pixels, pixels};
use crate::numbers::thousands;
use crate::report::{
    self, Arm, Difference, FrechetByEvaluations, FrechetPoint, Metrics, OwnMetric, Row, SlowFlowBand, SlowFlowTime,
    Table, evaluations_text,
};
use crate::sampling::correction::CorrectionConfig;

/// One network of the comparison, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmScores {
    /// Which network.
    pub arm: Arm,
    /// Number of its post-training, from 0.
    pub seed: u64,
    /// SHA-256 of the file of its weights, in hexadecimal; none of a start that was given, and in results that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// How it was sampled, in the place of the recipe's `sampling.correction`, where the arm is a way to sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<CorrectionConfig>,
    /// Steps of the solver; 0 in results that do not say.
    #[serde(default)]
    pub steps: usize,
    /// Network evaluations for each image.
    pub evaluations: usize,
    /// Its numbers, with the floor.
    pub measurement: Measurement,
    /// Those of one's own measures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Measured>,
}

/// All measurements of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// With the recipe's sampling: every arm.
    pub table: Vec<ArmScores>,
    /// With other numbers of steps.
    pub others: Vec<ArmScores>,
    /// How the classes of the generated images were chosen; results that do not say took every class equally often.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// What all measures saw of images: pixels, in results that do not say.
    #[serde(default = "pixels", skip_serializing_if = "are_pixels")]
    pub features: String,
}

impl Default for Results {
    fn default() -> Self {
        Self { table: vec![], others: vec![], labels: None, features: pixels() }
    }
}

impl Results {
    /// The result table; `sampler` in words.
    pub fn table(&self, sampler: &str) -> Table {
        let rows = self.arms().into_iter().map(|arm| {
            let scores: Vec<&ArmScores> = self.table.iter().filter(|scores| scores.arm == arm).collect();
            Row { arm, metrics: generated(&scores) }
        });
        let first = self.table.first();
        let floor = first.map(|scores| (&scores.measurement.floor, &scores.more[..]));
        let evaluations = || self.table.iter().map(|scores| scores.evaluations as u64);
        Table {
            sampler: sampler.into(),
            evaluations: evaluations().min().unwrap_or(0),
            most_evaluations: evaluations().max().unwrap_or(0),
            labels: self.labels,
            features: self.features.clone(),
            samples: first.map_or(0, |scores| scores.measurement.generated.rows),
            rows: rows.into_iter().filter(|row| row.metrics.frechet.count() > 0).collect(),
            floor: metrics(floor.into_iter().collect(), |found| found.floor),
        }
    }

    /// Quality against cost.
    pub fn by_evaluations(&self, sampler: &str) -> FrechetByEvaluations {
        let all: Vec<&ArmScores> = self.table.iter().chain(&self.others).collect();
        let point = |(arm, here): (Arm, Vec<&ArmScores>)| {
            let Metrics { frechet, recall, .. } = generated(&here);
            FrechetPoint { arm, steps: here[0].steps as u64, evaluations: mean_evaluations(&here), frechet, recall }
        };
        FrechetByEvaluations {
            sampler: sampler.into(),
            samples: all.first().map_or(0, |scores| scores.measurement.generated.rows),
            floor: all.first().map(|scores| scores.measurement.floor.frechet).into_iter().collect(),
            points: self.settings().into_iter().map(point).collect(),
        }
    }

    /// How every two arms differ: with the recipe's sampling in all measures, elsewhere in the Fréchet distance.
    pub fn differences(&self) -> Vec<Difference> {
        let settings = self.settings();
        let main = self.table.first().map(place);
        let mut differences = vec![];
        for (index, (arm, here)) in settings.iter().enumerate() {
            for (than, there) in settings[..index].iter().filter(|(_, there)| place(there[0]) == place(here[0])) {
                let pair = [here, there].map(|scores| generated(scores));
                let measures = Metrics::measures(&pair[0]);
                let shown = if main == Some(place(here[0])) { measures.len() } else { 1 };
                for ((name, best, a), (.., b)) in measures.into_iter().zip(Metrics::measures(&pair[1])).take(shown) {
                    // Of an arm that was not measured so there is nothing.
                    if a.count() > 0 && b.count() > 0 {
                        let at = mean_evaluations(here);
                        differences.push(Difference::new((arm, a), (than, b), (name, best), at));
                    }
                }
            }
        }
        differences
    }

    /// The arms in the order of the table; the usual ones first.
    fn arms(&self) -> Vec<Arm> {
        let mut arms: Vec<Arm> = vec![];
        let usual = Arm::USUAL.iter().filter(|arm| self.table.iter().any(|scores| scores.arm == **arm));
        for arm in usual.chain(self.table.iter().map(|scores| &scores.arm)) {
            if !arms.contains(arm) {
                arms.push(arm.clone());
            }
        }
        arms
    }

    /// Scores of an arm with the same sampling, seed by seed, in the order of the arms.
    fn settings(&self) -> Vec<(Arm, Vec<&ArmScores>)> {
        let all = || self.table.iter().chain(&self.others);
        let mut settings: Vec<(Arm, Vec<&ArmScores>)> = vec![];
        for arm in self.arms() {
            let mut places: Vec<_> = all().filter(|scores| scores.arm == arm).map(place).collect();
            places.sort_unstable();
            places.dedup();
            settings.extend(places.into_iter().map(|here| {
                let here = all().filter(|scores| scores.arm == arm && place(scores) == here);
                (arm.clone(), here.collect())
            }));
        }
        settings
    }
}

/// Steps, or evaluations in results that do not say. An adaptive solver takes other evaluations in each seed for one setting.
fn place(scores: &ArmScores) -> (usize, usize) {
    match scores.steps {
        0 => (0, scores.evaluations),
        steps => (steps, 0),
    }
}

fn mean_evaluations(scores: &[&ArmScores]) -> u64 {
    (scores.iter().map(|scores| scores.evaluations as f64).sum::<f64>() / scores.len() as f64).round() as u64
}

/// Numbers of an arm's images, one a seed.
fn generated(scores: &[&ArmScores]) -> Metrics {
    let each = scores.iter().map(|scores| (&scores.measurement.generated, &scores.more[..]));
    let mut metrics = metrics(each.collect(), |found| found.generated);
    metrics.frechet_ratio =
        scores.iter().map(|scores| scores.measurement.generated.frechet / scores.measurement.floor.frechet).collect();
    metrics
}

/// One value a seed of each measure; `own` reads those of one's own.
fn metrics(scores: Vec<(&Scores, &[Measured])>, own: fn(&Measured) -> f64) -> Metrics {
    let each = |value: fn(&Scores) -> f64| scores.iter().map(|(scores, _)| value(scores)).collect::<report::PerSeed>();
    let named = scores.first().map_or(&[][..], |(_, more)| more).iter().enumerate();
    let more = named.map(|(place, Measured { name, best, group, .. })| OwnMetric {
        name: name.clone(),
        best: *best,
        group: group.clone(),
        values: scores.iter().map(|(_, more)| own(&more[place])).collect(),
    });
    Metrics {
        frechet: each(|s| s.frechet),
        kernel: each(|s| s.kernel),
        precision: each(|s| s.precision),
        recall: each(|s| s.recall),
        variance_ratio: each(|s| s.variance_ratio),
        sliced: each(|s| s.sliced),
        density: each(|s| s.density),
        coverage: each(|s| s.coverage),
        more: more.collect(),
        ..Metrics::default()
    }
}

/// The two panels of the Slow Flow figure: as measured, and in the meter's calibrated time; `sampler` in words.
pub fn slow_flow(lags: &[(Arm, Lag)], sampler: &str) -> Vec<report::SlowFlowPanel> {
    let measured = lags.first().map_or_else(String::new, |(_, Lag { trajectories, .. })| {
        let evaluations = lags.iter().map(|(_, lag)| lag.evaluations as u64);
        let evaluations = evaluations_text(evaluations.clone().min().unwrap_or(0), evaluations.max().unwrap_or(0));
        format!(" {} trajectories of each network, {sampler}, {evaluations}.", thousands(*trajectories as u64))
    });
    let panel = |title: &str, caption: &str, read: fn(f64, &Lag) -> f64| {
        let band = |(arm, lag): &(Arm, Lag)| {
            let time = |band: &crate::evaluation::slow_flow::Band| {
                let [low, median, high] = band.quantiles.map(|m| read(m, lag));
                SlowFlowTime { t: band.t, low, median, high }
            };
            SlowFlowBand { arm: arm.clone(), times: lag.generated.iter().map(time).collect() }
        };
        report::SlowFlowPanel {
            title: title.into(),
            caption: format!("{caption}{measured}"),
            bands: lags.iter().map(band).collect(),
        }
    };
    vec![
        panel(
            "nearest true time",
            "For each state on the way from noise to image, the time m of the nearest interpolation between the same \
             noise and a real image of the same class. No generated image is that real image, so that even perfect \
             states read m < t.",
            |m, _| m,
        ),
        panel(
            "calibrated",
            "The same, read on a scale made from true interpolations of other real images: states without error \
             read m = t on average.",
            |m, lag| equivalent_time(m, &lag.real),
        ),
    ]
}
