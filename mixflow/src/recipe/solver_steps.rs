//! Other numbers of steps than the sampling's, where quality is measured and images are drawn.

use mixflow_backbones::Invalid;

use super::{NetworkSettings, Recipe};
use crate::sampling::SolverConfig;

impl<N: NetworkSettings> Recipe<N> {
    /// Whether they fit the grid of the sampling, and change anything.
    pub(super) fn check_solver_steps(&self) -> Result<(), Invalid> {
        if matches!(self.sampling.sampler.solver, SolverConfig::Adaptive(_)) {
            let compared = self.post_training.as_ref().is_some_and(|post| !post.solver_steps.is_empty());
            let drawn = self.validation.as_ref().is_some_and(|validation| validation.solver_steps.is_some());
            let keys = [(compared, "post_training.solver_steps"), (drawn, "validation.solver_steps")];
            if let Some((_, key)) = keys.into_iter().find(|(set, _)| *set) {
                let reason = "are for a solver of fixed steps, and an adaptive one chooses its own: leave them out";
                return Err(Invalid::new(key, reason));
            }
        }
        for &steps in self.post_training.iter().flat_map(|post| &post.solver_steps) {
            let fault =
                |error| Invalid::new("post_training.solver_steps", format!("do not fit the grid of sampling: {error}"));
            self.sampling.with_steps(steps).map_err(fault)?;
        }
        Ok(())
    }
}
