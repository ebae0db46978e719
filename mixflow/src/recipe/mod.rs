//! A run as one JSON value.

mod adapter;
mod arms;
mod autoencoder;
mod buckets;
mod check_arms;
mod decoder;
mod guide;
#[cfg(test)]
mod guide_page;
mod network;
mod objective;
mod post_training;
mod prior;
mod read;
mod sampling;
mod size;
mod solver_steps;
mod stored;
#[cfg(test)]
mod tests;
mod validation;

pub use adapter::AdapterConfig;
pub(crate) use adapter::{METADATA, adapter_beside};
pub use arms::ArmConfig;
pub use autoencoder::{AutoencoderConfig, TargetEncoderConfig, TrainedRae};
pub use decoder::{DecoderKind, DecoderRecipe};
pub use guide::{Guide, GuideConfig};
pub use network::{ConditionOf, NetworkCost, NetworkSettings, Sides};
pub use objective::{ConfiguredObjective, ObjectiveConfig};
pub use post_training::PostTraining;
pub use sampling::SamplingConfig;
pub use validation::ValidationConfig;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use mixflow_backbones::{Invalid, NetworkConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::read::no_such_recipe;
use self::read::{DECODERS, EMBEDDED, PUBLISHED, changed, deserialize, read};
use crate::Error;
use crate::data::{DataConfig, Dataset, Split, own_len, split};
pub use crate::error::recipe::Fault;
use crate::train::{TrainConfig, check_positions};

/// Everything that determines a run: data, network, objective, training, sampling, comparison.
///
/// `N` describes the network: [`NetworkConfig`] the published ones, your own type your own ones.
///
/// Unknown keys, values out of range and conflicting laws of time are errors. It is stored with every checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe<N = NetworkConfig> {
    /// Name of the run and of its folder.
    pub name: String,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// What to learn.
    pub data: DataConfig,
    /// What turns images into latents; none learns pixels, or latents that are stored already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoencoder: Option<AutoencoderConfig>,
    /// Whose features the network is aligned with, where `objective.alignment` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_encoder: Option<TargetEncoderConfig>,
    /// Who learns it.
    pub network: N,
    /// What is trained of it, if not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterConfig>,
    /// What is minimised.
    #[serde(default)]
    pub objective: ObjectiveConfig,
    /// How long and how fast.
    pub training: TrainConfig,
    /// How images are made.
    pub sampling: SamplingConfig,
    /// Images that are drawn while the network is trained, and its arms; none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationConfig>,
    /// Post-training with and without MixFlow, and their comparison; none trains only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_training: Option<PostTraining>,
}

/// The JSON value of a recipe, by name or from a file, as it stands there.
///
/// # Errors
/// If there is none, or it is no JSON.
pub fn value(name_or_path: &str) -> Result<Value, Error> {
    read(name_or_path, &[], Ok)
}

impl Recipe {
    /// Names of the recipes of this type that come with the crate; the first is the default.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().chain(&PUBLISHED).map(|(name, _)| *name)
    }

    /// Reads a recipe by name, or from a JSON file, and changes it by `key=value` overrides.
    ///
    /// Those of the published networks are called `paper/sit-xl-2-256`, `paper/sit-xl-2-256-mixflow` and so on.
    ///
    /// A key is a path such as `training.steps`; a value is JSON, or text where it is not.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the place and what was expected.
    pub fn read(name_or_path: &str, overrides: &[String]) -> Result<Self, Error> {
        read(name_or_path, overrides, Self::from_value)
    }

    /// The recipe that a JSON value holds, checked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_value(value: Value) -> Result<Self, Fault> {
        Self::parse_value(value)
    }
}

impl<N: NetworkSettings> Recipe<N> {
    /// Reads a recipe from JSON and changes it by `key=value` overrides, as [`read`](Recipe::read) does. `origin` is where
    /// the JSON comes from, for messages.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the place and what was expected.
    pub fn parse(origin: &str, text: &str, overrides: &[String]) -> Result<Self, Error> {
        changed(origin, text, overrides, Self::parse_value)
    }

    /// This recipe changed by `key=value` overrides, as [`read`](Recipe::read) takes them; they find the values of all keys,
    /// also where the recipe was silent.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the place and what was expected.
    pub fn with(&self, overrides: &[String]) -> Result<Self, Error> {
        changed(&self.name, &self.to_value().to_string(), overrides, Self::parse_value)
    }

    /// As [`from_value`](Recipe::from_value).
    ///
    /// # Errors
    /// As there.
    pub fn parse_value(value: Value) -> Result<Self, Fault> {
        if DecoderRecipe::is_one(&value) {
            let kind = "it trains the decoder of an autoencoder, which is for `train` and `plan` alone";
            return Err(Fault::OtherKind(kind));
        }
        N::recognise(&value["network"])?;
        let recipe: Self = deserialize(value)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as JSON.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("plain numbers and text are JSON")
    }

    /// Opens the data.
    ///
    /// # Errors
    /// As [`DataConfig::open`], and [`Error::Unfit`] if the network cannot learn these images and classes.
    pub fn open(&self) -> Result<Arc<dyn Dataset>, Error> {
        let data = self.data.open()?;
        let network = &self.network;
        let fault = |reason: String| Err(Error::unfit(&self.name, reason));
        let shape = match self.encoding() {
            None => data.shape(),
            Some(autoencoder) => match autoencoder.latent_shape(data.shape()) {
                Ok(shape) => shape,
                Err(invalid) => return Err(Error::recipe(&self.name, invalid)),
            },
        };
        if let Some(target) = &self.target_encoder {
            target.check_images(data.shape()).map_err(|invalid| Error::recipe(&self.name, invalid))?;
        }
        let ([channels, height, width], classes) = (shape, data.classes().len());
        if [channels, height, width] != network.shape() {
            let [expected, high, wide] = network.shape();
            let change = match self.data {
                DataConfig::Latents { .. } => "or encode images of another size",
                _ => "or data.size",
            };
            return fault(format!(
                "the network makes images of {expected} x {high} x {wide} (channels, height, width), the data has \
                 {channels} x {height} x {width}; change {} {change}",
                network.shape_keys()
            ));
        }
        self.check_sides(&*data)?;
        if let (true, Some(reason)) = (data.masked(), self.objective.refuses_masks()) {
            return fault(format!("the data have masks, and a mask {reason}"));
        }
        self.check_features(&*data).map_err(|invalid| Error::unfit(&self.name, invalid))?;
        if classes != network.classes() {
            let (expected, key) = (network.classes(), network.classes_key());
            return fault(format!("the network knows {expected} classes, the data has {classes}; set {key}={classes}"));
        }
        Ok(data)
    }

    /// How many numbers its `network` has, tables that are computed not among them.
    pub fn parameters_of(&self, network: &N::Network) -> u64 {
        self.network.cost().map_or_else(|| network.num_params() as u64, |cost| cost.parameters)
    }

    /// The autoencoder, if training needs it: stored latents are what it has made already.
    pub fn encoding(&self) -> Option<&AutoencoderConfig> {
        self.autoencoder.as_ref().filter(|_| !matches!(self.data, DataConfig::Latents { .. }))
    }

    /// The files of the frozen networks that the run in `folder` is trained with: autoencoder and target encoder.
    pub fn frozen_files(&self, folder: &Path) -> Vec<PathBuf> {
        let autoencoder = self.encoding().map_or(vec![], |config| config.files(folder));
        let encoder = self.target_encoder.as_ref().map_or(vec![], |config| config.files(folder));
        [autoencoder, encoder].concat()
    }

    /// The files of frozen networks that a run in `folder` reads and does not train.
    pub(crate) fn given_files(&self, folder: &Path) -> Vec<PathBuf> {
        // What makes images of stored latents is read where images are made.
        let is_read = self.encoding().is_some() || self.validation.is_some();
        let autoencoder = self.autoencoder.iter().filter(|config| is_read && config.training_steps().is_none());
        let encoder = self.target_encoder.iter().filter(|config| config.training_steps().is_none());
        autoencoder
            .flat_map(|config| config.files(folder))
            .chain(encoder.flat_map(|config| config.files(folder)))
            .collect()
    }

    /// The data for training and the held-out data, as a comparison divides them; a recipe without comparison trains
    /// on both, and `held_out` examples are kept from the first part.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`split`].
    pub fn parts(&self, held_out: usize) -> Result<(Split, Split), Error> {
        let data = self.open()?;
        let Some(post) = &self.post_training else {
            if let Some(len) = own_len(&*data).filter(|len| *len <= held_out as u64) {
                let reason =
                    format!("{held_out} images are held out, which must be fewer than those of the data, {len}");
                return Err(Error::unfit(&self.name, reason));
            }
            return Ok(split(&data, held_out as u64, self.seed)?);
        };
        if let Some(len) = own_len(&*data).filter(|len| *len <= post.images as u64) {
            let reason = format!(
                "post_training.images are held out and must be fewer than the images of the data, {len}, found {}",
                post.images
            );
            return Err(Error::unfit(&self.name, reason));
        }
        Ok(split(&data, post.images as u64, self.seed)?)
    }

    /// The same with whole paths for the files in `folder` that it names: a published recipe names what lies beside it.
    #[must_use]
    pub fn beside(mut self, folder: &Path) -> Self {
        let autoencoder = self.autoencoder.iter_mut().flat_map(AutoencoderConfig::paths);
        for path in autoencoder.chain(self.sampling.guide.iter_mut().map(|guide| &mut guide.weights)) {
            let file = folder.join(&*path);
            if file.is_file() {
                *path = file;
            }
        }
        self
    }

    fn check(&self) -> Result<(), Invalid> {
        check_name(&self.name)?;
        let network = &self.network;
        network.check().map_err(|fault| fault.within("network"))?;
        if let Some(adapter) = &self.adapter {
            adapter.check().map_err(|fault| fault.within("adapter"))?;
        }
        let dropout = self.objective.condition_dropout;
        if !(0.0..=1.0).contains(&dropout) {
            return Err(Invalid::new("objective.condition_dropout", format!("must be in [0, 1], found {dropout}")));
        }
        if dropout > 0.0 && !network.null_class() {
            let reason = "needs a network with null_class, or must be 0";
            return Err(Invalid::new("objective.condition_dropout", reason));
        }
        self.check_encoder_dropout()?;
        self.check_guidance()?;
        self.check_autoencoder().map_err(|fault| fault.within("autoencoder"))?;
        self.check_alignment()?;
        self.objective.check()?;
        self.objective.check_variance(network.learns_variance(), self.post_training.is_some())?;
        if self.post_training.is_some() && matches!(self.data, DataConfig::Latents { .. }) {
            let reason = "measures images, but the data are latents: train the arms one by one and compare their images with \
                          eval";
            return Err(Invalid::new("post_training", reason));
        }
        if self.encoding().is_some() && self.data.flip() {
            let reason = "mirrors images, but an autoencoder's latents are made beforehand: switch it off";
            return Err(Invalid::new("data.flip", reason));
        }
        if self.encoding().is_some() && matches!(self.data, DataConfig::Folder { random_crop: Some(_), .. }) {
            let reason =
                "cuts images anew at every visit, but an autoencoder's latents are made beforehand: leave it out";
            return Err(Invalid::new("data.random_crop", reason));
        }
        if matches!(self.data, DataConfig::Folder { random_crop: Some(_), buckets: Some(_), .. }) {
            let reason = "cuts squares, and data.buckets has rectangles: leave out one of them";
            return Err(Invalid::new("data.random_crop", reason));
        }
        self.check_buckets()?;
        if let (Some(_), Some(reason)) = (self.data.mask(), self.objective.refuses_masks()) {
            return Err(Invalid::new("data.mask", reason));
        }
        self.check_prior()?;
        let (shape, schedule) = (network.shape(), &self.objective.schedule);
        let fits = self.objective.timesteps.check_latents([shape[1], shape[2]]);
        fits.map_err(|fault| Invalid::new("objective.timesteps", format!("do not fit: {fault}")))?;
        self.sampling.check(shape, schedule).map_err(|fault| fault.within("sampling"))?;
        if self.sampling.tiles.is_some() && !matches!(self.autoencoder, Some(AutoencoderConfig::Kl { .. })) {
            return Err(Invalid::new("sampling.tiles", "are for autoencoders of the kind `kl`: leave them out"));
        }
        self.check_solver_steps()?;
        self.training.check().map_err(|fault| fault.within("training"))?;
        if let Some(validation) = &self.validation {
            validation.check(self).map_err(|fault| fault.within("validation"))?;
        }
        let Some(post) = &self.post_training else { return Ok(()) };
        post.check().map_err(|fault| fault.within("post_training"))?;
        if let Some(law) = &post.label_law {
            let fits = law.check_latents([shape[1], shape[2]]);
            fits.map_err(|fault| Invalid::new("post_training.label_law", format!("does not fit: {fault}")))?;
        }
        self.check_arms(post).map_err(|fault| fault.within("post_training"))?;
        check_positions(post.steps, self.training.batch, 0).map_err(|fault| fault.within("post_training"))?;
        if self.seed.checked_add(post.seeds).is_none() {
            let (seed, seeds) = (self.seed, post.seeds);
            let reason =
                format!("and post_training.seeds, which follow it, must be below 2^64, found {seed} and {seeds}");
            return Err(Invalid::new("seed", reason));
        }
        Ok(())
    }

    /// Whether there are the encoders that are to be left out now and then.
    fn check_encoder_dropout(&self) -> Result<(), Invalid> {
        let (given, known) = (self.objective.encoder_dropout.encoders(), self.network.encoders());
        let fault = |reason: String| Err(Invalid::new("objective.encoder_dropout", reason));
        match given {
            0 => Ok(()),
            _ if known < 2 => fault(format!(
                "is for networks that several encoders tell of a prompt, and a {} is told by one: set condition_dropout",
                self.network.name()
            )),
            _ if given != known => {
                fault(format!("must have a probability for each of {known} encoders, found {given}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is something to be guided away from.
    fn check_guidance(&self) -> Result<(), Invalid> {
        if self.sampling.distilled_guidance.is_some() && !self.network.is_told_guidance() {
            let reason = "is for networks that are told a scale of guidance, and this one is not";
            return Err(Invalid::new("sampling.distilled_guidance", reason));
        }
        match (&self.sampling.guidance, &self.sampling.guide) {
            (Some(_), None) if !self.network.null_class() => {
                Err(Invalid::new("sampling.guidance", "needs a network with null_class, or sampling.guide"))
            }
            (None, Some(_)) => {
                let reason = "has no effect without sampling.guidance, such as {\"scale\": 1.5}";
                Err(Invalid::new("sampling.guide", reason))
            }
            (_, Some(guide)) => {
                guide.check(&self.network, &self.objective).map_err(|fault| fault.within("sampling.guide"))
            }
            _ => Ok(()),
        }
    }

    /// Whether somebody is there to be aligned with.
    fn check_alignment(&self) -> Result<(), Invalid> {
        let widths = self.network.projections();
        let fault = |key: &str, reason: &str| Err(Invalid::new(key, reason));
        if self.objective.alignment.is_none() {
            return match self.target_encoder {
                Some(_) => fault("target_encoder", "has no effect without objective.alignment"),
                None => Ok(()),
            };
        }
        if widths.is_empty() {
            return fault("objective.alignment", "needs a network with projectors, of kind repa");
        }
        let Some(target) = &self.target_encoder else {
            return match self.data {
                DataConfig::Latents { .. } => Ok(()),
                _ => fault("objective.alignment", "needs a target_encoder, or latents that are stored with features"),
            };
        };
        if self.autoencoder.is_some() || matches!(self.data, DataConfig::Latents { .. }) {
            return fault("target_encoder", "sees images: store the features with the latents instead");
        }
        target.check().map_err(|fault| fault.within("target_encoder"))?;
        let encoder = target.encoder();
        encoder.check().map_err(|fault| fault.within("target_encoder.encoder"))?;
        let (features, places) = ([encoder.width], [encoder.grid(); 2]);
        if widths != features || self.network.token_grid() != places {
            let reason = format!(
                "has {places:?} tokens of {features:?} features, the network projects {:?} to {widths:?}",
                self.network.token_grid()
            );
            return fault("target_encoder", &reason);
        }
        Ok(())
    }
}

/// Names of all recipes that come with the crate: [`Recipe::names`], and those of a [`DecoderRecipe`].
pub fn names() -> impl Iterator<Item = &'static str> {
    Recipe::names().chain(DECODERS.iter().map(|(name, _)| *name))
}

/// Whether a recipe is one of a network for text, of the crate `mixflow-t2i`: a [`Recipe`] of other settings.
pub fn is_for_text(recipe: &Value) -> bool {
    NetworkConfig::recognise(&recipe["network"]).is_err()
}

/// What a name becomes a folder of.
fn check_name(name: &str) -> Result<(), Invalid> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(valid) {
        let reason = format!("must be made of letters, digits, '-', '_' and '.', found {name:?}");
        return Err(Invalid::new("name", reason));
    }
    Ok(())
}
