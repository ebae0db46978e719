//! Recipes whose data are stored latents: whether network, autoencoder and latents belong together.

use mixflow_backbones::Invalid;

use super::{AutoencoderConfig, NetworkSettings, Recipe};
use crate::Error;
use crate::data::latents::{Latents, Origin};
use crate::data::{DataConfig, Dataset};

impl<N: NetworkSettings> Recipe<N> {
    /// The stored latents that it learns, if these are its data.
    ///
    /// # Errors
    /// If they cannot be used, or the recipe names another autoencoder than that which made them: other weights, another
    /// scale, other moments.
    pub fn stored_latents(&self) -> Result<Option<Latents>, Error> {
        let DataConfig::Latents { path, .. } = &self.data else { return Ok(None) };
        let latents = Latents::open(path)?;
        let own = self.autoencoder.as_ref().map(AutoencoderConfig::origin).transpose()?.flatten();
        let made_by = &latents.manifest().contents.autoencoder;
        match own.filter(|own| own != made_by) {
            None => Ok(Some(latents)),
            Some(own) => {
                // Equal weights under other settings are told by all of these.
                let whole = own.sha256 == made_by.sha256;
                let [made_by, own] =
                    [made_by, &own].map(|of: &Origin| if whole { of.name.clone() } else { of.to_string() });
                let reason = format!(
                    "the latents {} were made by {made_by}, but the recipe's autoencoder is {own}: name the one that made \
                     them, or encode the images again",
                    path.display()
                );
                Err(Error::unfit(&self.name, reason))
            }
        }
    }

    /// Whether an autoencoder can decode what the network makes, and may have made what it learns.
    pub(crate) fn check_autoencoder(&self) -> Result<(), Invalid> {
        let Some(autoencoder) = &self.autoencoder else { return Ok(()) };
        autoencoder.check()?;
        if self.encoding().is_none() && matches!(autoencoder, AutoencoderConfig::TrainedRae(_)) {
            let reason = "is trained-rae, which is trained on images, but the data are latents: name the files of the \
                          autoencoder that made them";
            return Err(Invalid::new("kind", reason));
        }
        autoencoder.check_latents(self.network.shape())
    }

    /// Whether the features that come with the data are those that the network is to be aligned with.
    pub(super) fn check_features(&self, data: &dyn Dataset) -> Result<(), Invalid> {
        if self.objective.alignment.is_none() || self.target_encoder.is_some() {
            return Ok(());
        }
        let (found, [high, wide]) = (data.features(), self.network.token_grid());
        let expected: Vec<_> = self.network.projections().iter().map(|&width| [high * wide, width]).collect();
        if found == expected {
            return Ok(());
        }
        if found.is_empty() {
            let reason = "needs features, but the latents are stored without: encode with --features";
            return Err(Invalid::new("objective.alignment", reason));
        }
        let reason = format!(
            "project to {expected:?} features (tokens, width), the latents are stored with {found:?}: change them or encode \
             with the features of another encoder"
        );
        Err(Invalid::new("network.projectors", reason))
    }
}
