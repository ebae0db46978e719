//! Recipes whose images are learned beside those of a class.

use mixflow_backbones::Invalid;

use super::{NetworkSettings, Recipe};

impl<N: NetworkSettings> Recipe<N> {
    /// What keeps half of each batch from being images of a class, if they are to be.
    pub(super) fn check_prior(&self) -> Result<(), Invalid> {
        if self.data.prior().is_none() {
            return Ok(());
        }
        let batch = self.training.batch;
        if !batch.is_multiple_of(2) {
            let reason = format!("must be even, as half of a batch are images of data.prior, found {batch}");
            return Err(Invalid::new("training.batch", reason));
        }
        match self.objective.refuses_masks() {
            Some(_) => {
                let reason =
                    "weights flow matching image by image, and the loss of the recipe is another one: leave it out";
                Err(Invalid::new("data.prior", reason))
            }
            None => Ok(()),
        }
    }
}
