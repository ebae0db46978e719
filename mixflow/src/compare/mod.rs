//! The comparison that MixFlow has to stand: plain and MixFlow post-training from one start, for equal steps.

mod lag;
mod outcome;
mod parts;
mod phases;
mod study;

pub use lag::{Lag, lag, lag_labels};
pub use outcome::{ArmScores, Results, slow_flow};
pub use parts::parts;
pub use study::{Progress, Study, StudyOutcome};

use serde::{Deserialize, Serialize};

use crate::train::OptimizerConfig;

/// Post-training and its evaluation, in a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostTraining {
    /// Steps of each post-training.
    pub steps: u64,
    /// How far MixFlow slows: `m ~ U[(1 − gamma) t, t]`, in [0, 1]; 0.8 is the paper's value for SiT.
    pub gamma: f64,
    /// Post-trainings of each kind, with seeds that follow the recipe's.
    #[serde(default = "three")]
    pub seeds: u64,
    /// Another optimiser than that of the training; the paper keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerConfig>,
    /// Generated images of each network, and as many held-out real ones for the floor.
    #[serde(default = "five_hundred")]
    pub images: usize,
    /// Steps of the solver at which quality is measured, beside those of the sampling.
    #[serde(default)]
    pub solver_steps: Vec<usize>,
    /// Factors on the velocity that the control may choose from.
    #[serde(default = "lambdas")]
    pub lambdas: Vec<f64>,
    /// Whether Slow Flow is measured too.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub slow_flow: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

fn three() -> u64 {
    3
}

fn five_hundred() -> usize {
    500
}

fn lambdas() -> Vec<f64> {
    vec![1.0, 1.03, 1.06]
}

impl PostTraining {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.gamma) {
            return Err(format!("gamma must be in [0, 1], found {}", self.gamma));
        }
        for (name, value, least) in
            [("steps", self.steps, 1), ("seeds", self.seeds, 1), ("images", self.images as u64, 8)]
        {
            if value < least {
                return Err(format!("{name} must be at least {least}, found {value}"));
            }
        }
        if self.solver_steps.contains(&0) {
            return Err("solver_steps must be at least 1 each, found 0".into());
        }
        if self.lambdas.is_empty() || !self.lambdas.iter().all(|lambda| lambda.is_finite() && *lambda > 0.0) {
            return Err(format!("lambdas must be numbers above 0, at least one, found {:?}", self.lambdas));
        }
        self.optimizer
            .as_ref()
            .map_or(Ok(()), |optimizer| optimizer.check().map_err(|fault| format!("optimizer.{fault}")))
    }
}
