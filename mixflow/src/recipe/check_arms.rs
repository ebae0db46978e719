//! What arms of a comparison must be.

use mixflow_backbones::Invalid;

use super::{NetworkSettings, PostTraining, Recipe};

impl<N: NetworkSettings> Recipe<N> {
    /// Whether every arm is one by itself: its objective that of a training, its corrections those of the sampling.
    pub(super) fn check_arms(&self, post: &PostTraining) -> Result<(), Invalid> {
        if let Some(control) =
            post.arms.iter().find(|arm| arm.is_control()).filter(|_| self.sampling.correction.is_some())
        {
            return Err(control.fault(
                "it is the standard arm with its velocity multiplied, in the place of sampling.correction, which all others \
                 have: leave it out, or name the arms without it, as in post_training.arms=[\"standard\",\"mixflow\"]",
            ));
        }
        for arm in &post.arms {
            let alone = |objective, sampling| Self { objective, sampling, post_training: None, ..self.clone() };
            // Times for which MixFlow has no law are told by a comparison.
            let slowed = || Some(post.objectives(&self.objective).ok()?[1].clone());
            let objective = match arm.name.as_str() {
                "mixflow" if arm.of().is_none() => slowed(),
                _ if arm.objective.is_empty() => None,
                _ => Some(arm.changed(&self.objective)?),
            };
            if let Some(objective) = objective {
                let trained = alone(objective, self.sampling.clone());
                trained.check().map_err(|fault| arm.fault(fault))?;
            }
            for correction in arm.candidates(&post.lambdas)? {
                let corrected = alone(self.objective.clone(), self.sampling.corrected(correction));
                corrected.check().map_err(|fault| arm.fault(fault))?;
            }
        }
        Ok(())
    }
}
