//! Published weights.

use super::{DitDh, official_key};
use crate::Error;
use crate::weights::Weights;

impl DitDh {
    /// This network with the weights of a published checkpoint. A file without the tables of rotary positions, which are
    /// computed and never trained, leaves them as they are.
    ///
    /// # Errors
    /// As [`Weights::into_module`].
    pub fn load(self, mut weights: Weights) -> Result<Self, Error> {
        self.enc_feat_rope.insert_missing("enc_feat_rope", &mut weights);
        self.dec_feat_rope.insert_missing("dec_feat_rope", &mut weights);
        weights.into_module(self, official_key)
    }
}
