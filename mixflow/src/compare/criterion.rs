//! Whether MixFlow is reproduced by a comparison, by a rule that was written before any was run.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::low_rank::contraction;
use crate::recipe::ArmConfig;
use crate::report::{Arm, Bias, FrechetPoint, PerSeed, Point, Report};
use crate::sampling::correction::CorrectionConfig;

/// What MixFlow has to do to count as reproduced.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    /// Numbers of evaluations at which its Fréchet distance is below that of standard post-training in every seed; two are
    /// needed.
    pub below_standard: Vec<u64>,
    /// Those of them at which its mean distance is also below that of every arm that scales the standard network's velocity;
    /// two are needed.
    pub below_factors: Vec<u64>,
    /// By how much recall falls with the recipe's sampling, mean over seeds: at most 0.01.
    pub recall_lost: f64,
}

impl Criterion {
    /// Whether all of it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.below_factors.len() >= 2 && self.recall_lost <= 0.01
    }
}

/// In a sentence.
impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |all: &[u64]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let [standard, factors] = [&self.below_standard, &self.below_factors].map(|all| list(all));
        let standard =
            if standard.is_empty() { "no number of evaluations".into() } else { format!("evaluations {standard}") };
        let factors = if factors.is_empty() { "none".into() } else { factors };
        // Nothing that is shown as zero has a sign.
        let lost = if self.recall_lost.abs() < 5e-4 { -0.0 } else { self.recall_lost };
        write!(
            f,
            "MixFlow is {}reproduced: below standard post-training in all seeds at {standard} (two are needed), there below \
             every factor on the velocity, too, at {factors} (two), recall {:+.3} (-0.010 at least)",
            if self.holds() { "" } else { "not " },
            -lost,
        )
    }
}

/// The rule on a report; none where MixFlow or standard post-training is no arm of it.
pub fn criterion(report: &Report) -> Option<Criterion> {
    let points = &report.frechet_by_evaluations.points;
    // An adaptive solver takes other evaluations of each arm for one setting.
    let setting = |point: &FrechetPoint| match point.steps {
        0 => (0, point.evaluations),
        steps => (steps, 0),
    };
    let at = |arm: &Arm, place| points.iter().find(|point| point.arm == *arm && setting(point) == place);
    let settings: BTreeSet<(u64, u64)> = points.iter().map(setting).collect();
    let (mut below_standard, mut below_factors) = (vec![], vec![]);
    let factors = factors(&report.recipe);
    for place in settings {
        let pair = at(&Arm::MixFlow, place).zip(at(&Arm::Standard, place));
        let Some((mixflow, standard)) = pair else { continue };
        let mut seeds = mixflow.frechet.0.iter().zip(&standard.frechet.0);
        if mixflow.frechet.count() < 2 || !seeds.all(|(mixflow, standard)| mixflow < standard) {
            continue;
        }
        below_standard.push(mixflow.evaluations);
        let below = |arm: &Arm| {
            let means = mixflow.frechet.mean().zip(at(arm, place).and_then(|factor| factor.frechet.mean()));
            means.is_some_and(|(mixflow, factor)| mixflow < factor)
        };
        // Without an arm that scales the velocity nothing is known of that.
        if !factors.is_empty() && factors.iter().all(below) {
            below_factors.push(mixflow.evaluations);
        }
    }
    let recall = |arm| report.table.metrics(arm)?.recall.mean();
    let recall_lost = recall(&Arm::Standard)? - recall(&Arm::MixFlow)?;
    Some(Criterion { below_standard, below_factors, recall_lost })
}

/// Arms that scale the velocity of the standard network.
fn factors(recipe: &Value) -> Vec<Arm> {
    let arms: Option<Vec<ArmConfig>> = serde_json::from_value(recipe["post_training"]["arms"].clone()).ok();
    let scaled = |arm: &&ArmConfig| {
        let candidates = arm.candidates(&[1.0]).unwrap_or_default();
        let factor = |correction: &CorrectionConfig| matches!(correction, CorrectionConfig::ScheduleCorrector(_));
        arm.of() == Some("standard") && !candidates.is_empty() && candidates.iter().all(factor)
    };
    arms.unwrap_or_else(ArmConfig::usual).iter().filter(scaled).map(Arm::from).collect()
}

/// Lost diversity by dimensions: exact from 16 to 32,768, and of the trained networks of reports.
pub fn bias(reports: &[Report]) -> Bias {
    let gamma = reports.first().map_or(1.0, |report| report.summary.gamma);
    let dimensions = (4..=15).map(|power| 1usize << power);
    let exact = dimensions.map(|count| Point(count as f64, contraction(count, gamma, 128))).collect();
    let trained = reports.iter().flat_map(|report| {
        let ratio = |arm| report.table.metrics(arm).map_or_else(PerSeed::default, |found| found.variance_ratio.clone());
        let (mixflow, standard) = (ratio(&Arm::MixFlow), ratio(&Arm::Standard));
        let made = report.summary.latents.unwrap_or(report.summary.shape);
        let count = made.iter().product::<usize>() as f64;
        let lost = |(mixflow, standard): (&f64, &f64)| Point(count, 1.0 - (mixflow / standard).sqrt());
        mixflow.0.iter().zip(&standard.0).map(lost).collect::<Vec<_>>()
    });
    Bias { exact, trained: trained.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Metrics, Row};

    fn report(mixflow: [[f64; 2]; 2], control: f64, recall: f64) -> Report {
        let mut report = Report::default();
        for (evaluations, mixflow) in [4, 10].into_iter().zip(mixflow) {
            let arms = [(Arm::Standard, [10.0, 12.0]), (Arm::MixFlow, mixflow), (Arm::Control, [control; 2])];
            report.frechet_by_evaluations.points.extend(arms.map(|(arm, frechet)| FrechetPoint {
                arm,
                steps: 0,
                evaluations,
                frechet: frechet.into(),
                recall: PerSeed::default(),
            }));
        }
        report.table.rows = [(Arm::Standard, 0.5), (Arm::MixFlow, recall)]
            .map(|(arm, recall)| Row { arm, metrics: Metrics { recall: recall.into(), ..Metrics::default() } })
            .into();
        report
    }

    #[test]
    fn each_part_of_the_rule_can_fail() {
        let all = [[9.0, 11.0]; 2];
        let found = criterion(&report(all, 10.5, 0.495)).unwrap();
        assert!(found.holds() && found.to_string().starts_with("MixFlow is reproduced"), "{found}");
        // One seed; one number of evaluations; a factor does as well; recall falls by two points.
        for other in [
            report([[9.0, 12.5]; 2], 20.0, 0.5),
            report([[9.0, 11.0], [9.0, 12.5]], 20.0, 0.5),
            report(all, 10.0, 0.5),
            report(all, 10.5, 0.48),
        ] {
            let found = criterion(&other).unwrap();
            assert!(!found.holds() && found.to_string().contains("not reproduced"), "{found}");
        }
        assert_eq!(criterion(&report([[9.0, 11.0], [9.0, 12.5]], 20.0, 0.5)).unwrap().below_standard, [4]);
        assert!(criterion(&Report::default()).is_none());
        // An adaptive solver: as many steps, other evaluations.
        let mut adaptive = report(all, 10.5, 0.495);
        for (index, point) in adaptive.frechet_by_evaluations.points.iter_mut().enumerate() {
            (point.steps, point.evaluations) = (point.evaluations, 30 + index as u64);
        }
        let found = criterion(&adaptive).unwrap();
        assert!(found.holds() && found.below_standard == [31, 34], "{found}");
    }

    #[test]
    fn all_arms_that_scale_the_standard_network_count_as_factors() {
        let arms = serde_json::json!(["standard", "control",
            { "name": "later", "of": "standard", "correction": { "kind": "schedule-corrector", "a": 0.1, "b": 2 } },
            { "name": "other", "of": "standard", "correction": { "kind": "epsilon-scaling", "scale": 1.01 } }]);
        let recipe = serde_json::json!({ "post_training": { "arms": arms } });
        assert_eq!(factors(&recipe), [Arm::Control, Arm::Other("later".into())]);
        assert_eq!(factors(&Value::Null), [Arm::Control]);
    }
}
