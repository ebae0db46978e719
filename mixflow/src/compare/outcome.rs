//! What a comparison found, as tables and figures.

use serde::{Deserialize, Serialize};

use super::Lag;
use crate::metric::{Measurement, Scores};
use crate::report::{self, Arm, FrechetByEvaluations, FrechetPoint, Metrics, Row, SlowFlowBand, SlowFlowTime, Table};
use crate::slow_flow::equivalent_time;

/// One network of the comparison, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmScores {
    /// Which network.
    pub arm: Arm,
    /// Number of its post-training, from 0.
    pub seed: u64,
    /// Factor on its velocity.
    pub lambda: f64,
    /// Network evaluations for each image.
    pub evaluations: usize,
    /// Its numbers, with the floor.
    pub measurement: Measurement,
}

/// All measurements of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// With the recipe's sampling: every arm.
    pub table: Vec<ArmScores>,
    /// With other numbers of steps: every arm but the control.
    pub others: Vec<ArmScores>,
}

impl Results {
    /// The result table; `sampler` in words.
    pub fn table(&self, sampler: &str) -> Table {
        let rows = Arm::ALL.map(|arm| Row { arm, metrics: metrics(self.table.iter().filter(|s| s.arm == arm)) });
        let first = self.table.first();
        Table {
            sampler: sampler.into(),
            evaluations: first.map_or(0, |scores| scores.evaluations as u64),
            samples: first.map_or(0, |scores| scores.measurement.generated.rows),
            rows: rows.into_iter().filter(|row| row.metrics.frechet.count() > 0).collect(),
            floor: first.map_or_else(Metrics::default, |scores| of_scores([scores.measurement.floor].iter())),
        }
    }

    /// Quality against cost.
    pub fn by_evaluations(&self, sampler: &str) -> FrechetByEvaluations {
        let all: Vec<&ArmScores> = self.table.iter().chain(&self.others).filter(|s| s.arm != Arm::Control).collect();
        let mut places: Vec<(Arm, usize)> = all.iter().map(|scores| (scores.arm, scores.evaluations)).collect();
        places.sort_unstable();
        places.dedup();
        let point = |(arm, evaluations): (Arm, usize)| {
            let here = all.iter().filter(|s| (s.arm, s.evaluations) == (arm, evaluations));
            let frechet = here.map(|scores| scores.measurement.generated.frechet).collect();
            FrechetPoint { arm, evaluations: evaluations as u64, frechet }
        };
        FrechetByEvaluations {
            sampler: sampler.into(),
            samples: all.first().map_or(0, |scores| scores.measurement.generated.rows),
            floor: all.first().map(|scores| scores.measurement.floor.frechet).into_iter().collect(),
            points: places.into_iter().map(point).collect(),
        }
    }
}

fn metrics<'a>(scores: impl Iterator<Item = &'a ArmScores>) -> Metrics {
    of_scores(scores.map(|scores| &scores.measurement.generated))
}

fn of_scores<'a>(scores: impl Iterator<Item = &'a Scores>) -> Metrics {
    let scores: Vec<&Scores> = scores.collect();
    let each = |value: fn(&Scores) -> f64| scores.iter().map(|scores| value(scores)).collect::<report::Measurement>();
    Metrics {
        frechet: each(|s| s.frechet),
        kid: each(|s| s.kernel),
        precision: each(|s| s.precision),
        recall: each(|s| s.recall),
        variance_ratio: each(|s| s.variance_ratio),
    }
}

/// The two panels of the Slow Flow figure: as measured, and in the meter's calibrated time.
pub fn slow_flow(lags: &[(Arm, Lag)]) -> Vec<report::SlowFlow> {
    let panel = |title: &str, caption: &str, read: fn(f64, &Lag) -> f64| {
        let band = |(arm, lag): &(Arm, Lag)| {
            let time = |band: &crate::slow_flow::Band| {
                let [low, median, high] = band.quantiles.map(|m| read(m, lag));
                SlowFlowTime { t: band.t, low, median, high }
            };
            SlowFlowBand { arm: *arm, times: lag.generated.iter().map(time).collect() }
        };
        report::SlowFlow { title: title.into(), caption: caption.into(), bands: lags.iter().map(band).collect() }
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
            "The same, read on a scale made from true interpolations of other real images: a state without error \
             reads m = t.",
            |m, lag| equivalent_time(m, &lag.real),
        ),
    ]
}
