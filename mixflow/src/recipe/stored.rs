//! Recipes whose data are stored latents: whether network, autoencoder and latents belong together; and latents that a run
//! stores itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use mixflow_backbones::{Autoencoder, Invalid};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{AutoencoderConfig, NetworkSettings, Recipe};
use crate::Error;
use crate::data::latents::{Latents, Origin};
use crate::data::{DataConfig, Dataset, Encoded, Fingerprint, learned};

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

    /// What the run in `folder` learns of a part of its images: their latents by its autoencoder, or without one the images.
    ///
    /// Latents are kept in `latents/<part>` of the folder. They are taken from there as long as nothing that they depend on has
    /// changed: the settings of data, division and autoencoder, the images by their names and [`stamp`](Dataset::stamp), and the
    /// files of the weights, whose hashes are in the folder ([`check_same_frozen`]). In a folder without these, and those of images
    /// of several sizes, they are in memory. `tell` hears how many images are encoded, and by an error it ends that; what is kept
    /// goes on from there.
    ///
    /// # Errors
    /// As [`Encoded::kept`].
    ///
    /// [`check_same_frozen`]: crate::train::check_same_frozen
    pub fn learned(
        &self,
        folder: &Path,
        part: &str,
        images: Arc<dyn Dataset>,
        autoencoder: Option<&dyn Autoencoder>,
        device: &Device,
        tell: &mut dyn FnMut(u64) -> Result<(), Error>,
    ) -> Result<Arc<dyn Dataset>, Error> {
        let weights = fs::read_to_string(folder.join("frozen.json"));
        let (Some(autoencoder), Ok(weights), Some(_), []) =
            (autoencoder, weights, images.classes().first(), images.buckets())
        else {
            return learned(images, autoencoder, device, tell);
        };
        let held_out = self.post_training.as_ref().map(|post| post.images);
        // Sizes are among the stamp.
        let content = (Fingerprint { sizes: None, ..images.fingerprint()? }, images.stamp());
        let (mut data, config) = (json!(self.data), self.autoencoder.as_ref().map(AutoencoderConfig::without_files));
        // What is known by its content may lie elsewhere.
        if let (Some(_), Some(path)) = (&content.1, data.get_mut("path")) {
            path.take();
        }
        let key = json!([(data, self.seed, held_out, part), (config, weights), content]);
        let key = hex::encode(Sha256::digest(key.to_string()));
        let place = folder.join("latents").join(part);
        Ok(Arc::new(Encoded::kept(&place, &key, &*images, autoencoder, device, tell)?))
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
