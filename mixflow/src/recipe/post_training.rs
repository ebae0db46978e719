//! Post-training and its comparison, in a recipe.

use mixflow_schedules::{Error, LawConfig, TimeGrid};
use serde::{Deserialize, Serialize};

use super::SamplingConfig;
use crate::train::OptimizerConfig;

/// Post-training and its evaluation, in a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostTraining {
    /// Steps of each post-training.
    pub steps: u64,
    /// How far MixFlow slows: `m ~ U[(1 − gamma) t, t]`, in [0, 1]; 0.8 is the paper's value for SiT. It is the only place
    /// of a comparison's γ: an objective that is slowed already is refused.
    pub gamma: f64,
    /// Law of the MixFlow arm's label `t`. None is that of the recipe with Beta(2, 1), the paper's law, in the place of
    /// uniform times: what shifts, truncates or carries them over stays. Times that follow another law inside compete with
    /// it, and then this must say what counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_law: Option<LawConfig>,
    /// Post-trainings of each kind, with seeds that follow the recipe's.
    #[serde(default = "three")]
    pub seeds: u64,
    /// The optimiser of the arms, with a schedule that counts their own steps. None is that of the training, as in the
    /// paper, at its full rate from the first step to the last: warm-up and decay belong to the training.
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
    /// The samplings of [`solver_steps`](Self::solver_steps), but for that which is `sampling` itself.
    ///
    /// # Errors
    /// As [`SamplingConfig::with_steps`].
    pub fn other_samplings(&self, sampling: &SamplingConfig) -> Result<Vec<SamplingConfig>, Error> {
        let all = self.solver_steps.iter().map(|&steps| sampling.with_steps(steps));
        all.filter(|other| other.as_ref() != Ok(sampling)).collect()
    }

    /// Whether these numbers can be used.
    ///
    /// # Errors
    /// A sentence that names the key.
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
        if self.seeds > 10_000 {
            return Err(format!("seeds must be at most 10000, found {}", self.seeds));
        }
        if u32::try_from(self.images).is_err() {
            return Err(format!("images must be below 2^32, found {}", self.images));
        }
        for (place, &steps) in self.solver_steps.iter().enumerate() {
            if self.solver_steps[..place].contains(&steps) {
                return Err(format!("solver_steps: {steps} is there twice, and would count as another seed"));
            }
            TimeGrid::new(steps).map_err(|fault| format!("solver_steps: {fault}"))?;
        }
        if self.lambdas.is_empty() || !self.lambdas.iter().all(|lambda| lambda.is_finite() && *lambda > 0.0) {
            return Err(format!("lambdas must be numbers above 0, at least one, found {:?}", self.lambdas));
        }
        self.optimizer
            .as_ref()
            .map_or(Ok(()), |optimizer| optimizer.check().map_err(|fault| format!("optimizer.{fault}")))
    }
}
