//! Published weights.

use super::{LightningDit, official_key};
use crate::Error;
use crate::weights::Weights;

impl LightningDit {
    /// This network with the weights of a published checkpoint. A file without the tables of rotary positions, which are
    /// computed and never trained, leaves them as they are.
    ///
    /// # Errors
    /// As [`Weights::into_module`].
    pub fn load(self, mut weights: Weights) -> Result<Self, Error> {
        if let Some(table) = &self.feat_rope {
            table.insert_missing("feat_rope", &mut weights);
        }
        weights.into_module(self, official_key)
    }
}
