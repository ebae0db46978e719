//! Published weights.

use super::{Sit, official_key};
use crate::weights::Weights;
use crate::{Error, Network};

impl Sit {
    /// This network with the weights of a published checkpoint. A file without the position table, which is computed
    /// and never trained, leaves it as it is.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let mut weights = Network::own(weights)?;
        weights.insert_missing("pos_embed", || self.pos_embed.val().into_data());
        weights.into_module(self, official_key)
    }
}
