//! The training of a decoder alone, as one JSON value.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use mixflow_backbones::Invalid;
use mixflow_backbones::encoder::{Encoder, EncoderConfig};
use mixflow_backbones::rae::{Decoder, DecoderConfig};
use mixflow_backbones::weights::Weights;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::{changed, deserialize, embedded, read};
use super::{Fault, check_name};
use crate::Error;
use crate::autoencoder_training::RaeTraining;
use crate::data::{DataConfig, Dataset};

/// Everything that determines the training of a [`Decoder`] for a published encoder: RAE's first stage.
///
/// What comes out is a file for `decoder_weights` of [`AutoencoderConfig::Rae`](super::AutoencoderConfig::Rae).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderRecipe {
    /// Tells it from other recipes.
    pub kind: DecoderKind,
    /// Name of the run and of its folder.
    pub name: String,
    /// Images to learn from.
    pub data: DataConfig,
    /// Shape of the encoder.
    pub encoder: EncoderConfig,
    /// File of the encoder.
    pub encoder_weights: PathBuf,
    /// Shape of the decoder.
    pub decoder: DecoderConfig,
    /// How it is trained.
    pub training: RaeTraining,
}

/// The one value of [`DecoderRecipe::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecoderKind {
    /// The decoder of a representation autoencoder.
    #[serde(rename = "rae-decoder")]
    RaeDecoder,
}

impl DecoderRecipe {
    /// Reads a recipe by name, or from a JSON file, and changes it by `key=value` overrides, as
    /// [`Recipe::read`](super::Recipe::read) does; none if it is a recipe of another kind.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the place and what was expected.
    pub fn read(name_or_path: &str, overrides: &[String]) -> Result<Option<Self>, Error> {
        let text = match embedded(name_or_path) {
            Some(text) => text.into(),
            None => std::fs::read_to_string(name_or_path).unwrap_or_default(),
        };
        let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default();
        // What cannot be read is for the reader of other recipes to say.
        if Self::is_one(&value) { read(name_or_path, overrides, Self::from_value).map(Some) } else { Ok(None) }
    }

    /// This recipe changed by `key=value` overrides, as [`Recipe::with`](super::Recipe::with).
    ///
    /// # Errors
    /// [`Error::Recipe`] with the place and what was expected.
    pub fn with(&self, overrides: &[String]) -> Result<Self, Error> {
        changed(&self.name, &self.to_value().to_string(), overrides, Self::from_value)
    }

    /// The recipe that a JSON value holds, checked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_value(value: Value) -> Result<Self, Fault> {
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
    /// As [`DataConfig::open`], and [`Error::Unfit`] if the decoder does not make such images.
    pub fn open(&self) -> Result<Arc<dyn Dataset>, Error> {
        let data = self.data.open()?;
        let (found, expected) = (data.shape(), self.image());
        if found == expected {
            return Ok(data);
        }
        let ([channels, height, width], [made, side, _]) = (found, expected);
        let reason = format!(
            "the decoder makes images of {made} x {side} x {side} (channels, height, width), the data has {channels} x \
             {height} x {width}; change data.size or decoder.grid"
        );
        Err(Error::unfit(&self.name, reason))
    }

    /// The encoder and a decoder of random weights.
    ///
    /// # Errors
    /// If the encoder's file cannot be read or does not fit.
    pub fn networks(&self, device: &Device) -> Result<(Encoder, Decoder), Error> {
        let encoder = self.encoder.init(0, device).load(Weights::read(&self.encoder_weights)?)?;
        Ok((encoder, self.decoder.init(self.training.seed, device)))
    }

    /// The files of the frozen networks that it is trained with: the encoder, and those of its losses.
    pub fn frozen_files(&self) -> Vec<PathBuf> {
        [vec![self.encoder_weights.clone()], self.training.files()].concat()
    }

    pub(super) fn is_one(value: &Value) -> bool {
        value["kind"] == "rae-decoder"
    }

    fn image(&self) -> [usize; 3] {
        let DecoderConfig { channels, grid, patch, .. } = self.decoder;
        [channels, grid * patch, grid * patch]
    }

    fn check(&self) -> Result<(), Invalid> {
        check_name(&self.name)?;
        if self.data.buckets().is_some() {
            return Err(Invalid::new(
                "data.buckets",
                "are for networks that take any rectangle, and decoders make squares",
            ));
        }
        if self.data.mask().is_some() {
            return Err(Invalid::new("data.mask", "is for flow matching: a decoder learns whole images"));
        }
        if self.data.prior().is_some() {
            return Err(Invalid::new("data.prior", "is for flow matching: leave it out"));
        }
        self.encoder.check().map_err(|fault| fault.within("encoder"))?;
        self.decoder.check().map_err(|fault| fault.within("decoder"))?;
        let (features, grid) = (self.encoder.width, self.encoder.grid());
        if (self.decoder.features, self.decoder.grid) != (features, grid) {
            let reason = format!(
                "must be {features}, and decoder.grid {grid}: the encoder gives {features} features on {grid} x {grid} places"
            );
            return Err(Invalid::new("decoder.features", reason));
        }
        if matches!(self.data, DataConfig::Latents { .. }) {
            return Err(Invalid::new("data", "must be images, not latents"));
        }
        if self.data.flip() {
            return Err(Invalid::new(
                "data.flip",
                "mirrors images, which the training of a decoder does not: leave it out",
            ));
        }
        let [channels, side, _] = self.image();
        let training = &self.training;
        training.check().and_then(|()| training.check_images(channels, side)).map_err(|fault| fault.within("training"))
    }
}
