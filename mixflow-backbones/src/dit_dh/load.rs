//! Published weights.

use super::{DitDh, official_key};
use crate::weights::Weights;
use crate::{Error, Network};

impl DitDh {
    /// This network with the weights of a published checkpoint. A file without the tables of rotary positions, which are
    /// computed and never trained, leaves them as they are.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let mut weights = Network::own(weights)?;
        self.enc_feat_rope.insert_missing("enc_feat_rope", &mut weights);
        self.dec_feat_rope.insert_missing("dec_feat_rope", &mut weights);
        weights.into_module(self, official_key)
    }
}
