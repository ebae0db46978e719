//! What a comparison found, as tables and figures.

use serde::{Deserialize, Serialize};

use super::Lag;
use crate::data::Labels;
use crate::evaluation::metric::{Measurement, Scores};
use crate::evaluation::slow_flow::equivalent_time;
use crate::evaluation::{Measured, are_pixels, pixels};
use crate::numbers::thousands;
use crate::report::{
    self, Arm, FrechetByEvaluations, FrechetPoint, Metrics, OwnMetric, Row, SlowFlowBand, SlowFlowTime, Table,
    evaluations_text,
};

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
    /// Factor on its velocity.
    pub lambda: f64,
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
    /// With other numbers of steps: every arm but the control.
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
        let rows = Arm::ALL.map(|arm| {
            let scores: Vec<&ArmScores> = self.table.iter().filter(|scores| scores.arm == arm).collect();
            let generated = scores.iter().map(|scores| (&scores.measurement.generated, &scores.more[..]));
            Row { arm, metrics: metrics(generated.collect(), |found| found.generated) }
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
        let all: Vec<&ArmScores> = self.table.iter().chain(&self.others).filter(|s| s.arm != Arm::Control).collect();
        // An adaptive solver takes other evaluations in each seed for one setting.
        let place = |scores: &ArmScores| match scores.steps {
            0 => (scores.arm, 0, scores.evaluations),
            steps => (scores.arm, steps, 0),
        };
        let mut places: Vec<_> = all.iter().map(|scores| place(scores)).collect();
        places.sort_unstable();
        places.dedup();
        let point = |here: (Arm, usize, usize)| {
            let here: Vec<&ArmScores> = all.iter().copied().filter(|scores| place(scores) == here).collect();
            let evaluations = here.iter().map(|scores| scores.evaluations as f64).sum::<f64>() / here.len() as f64;
            let frechet = here.iter().map(|scores| scores.measurement.generated.frechet).collect();
            FrechetPoint { arm: here[0].arm, evaluations: evaluations.round() as u64, frechet }
        };
        FrechetByEvaluations {
            sampler: sampler.into(),
            samples: all.first().map_or(0, |scores| scores.measurement.generated.rows),
            floor: all.first().map(|scores| scores.measurement.floor.frechet).into_iter().collect(),
            points: places.into_iter().map(point).collect(),
        }
    }
}

/// One value a seed of each measure; `own` reads those of one's own.
fn metrics(scores: Vec<(&Scores, &[Measured])>, own: fn(&Measured) -> f64) -> Metrics {
    let each = |value: fn(&Scores) -> f64| scores.iter().map(|(scores, _)| value(scores)).collect::<report::PerSeed>();
    let named = scores.first().map_or(&[][..], |(_, more)| more).iter().enumerate();
    let more = named.map(|(place, Measured { name, best, .. })| OwnMetric {
        name: name.clone(),
        best: *best,
        values: scores.iter().map(|(_, more)| own(&more[place])).collect(),
    });
    Metrics {
        frechet: each(|s| s.frechet),
        kernel: each(|s| s.kernel),
        precision: each(|s| s.precision),
        recall: each(|s| s.recall),
        variance_ratio: each(|s| s.variance_ratio),
        more: more.collect(),
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
            SlowFlowBand { arm: *arm, times: lag.generated.iter().map(time).collect() }
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
