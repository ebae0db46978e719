//! Autoencoders and target encoders, in a recipe.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use mixflow_backbones::Invalid;
use mixflow_backbones::autoencoder::{Autoencoder, KlAutoencoderConfig};
use mixflow_backbones::encoder::{Encoder, EncoderConfig, Normalisation};
use mixflow_backbones::rae::{DecoderConfig, LatentStatistics, Rae};
use mixflow_backbones::weights::Weights;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::autoencoder_training::RaeTraining;
use crate::data::latents::Origin;
use crate::data::{kl_origin, rae_origin};
use crate::objective::TargetEncoder;

/// What turns images into the latents that the network learns.
#[allow(clippy::large_enum_variant, reason = "a recipe has one of them")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AutoencoderConfig {
    /// A [`KlAutoencoder`](mixflow_backbones::autoencoder::KlAutoencoder), as Stable Diffusion has.
    Kl {
        /// Its shape.
        network: KlAutoencoderConfig,
        /// Its file, under any published naming.
        weights: PathBuf,
    },
    /// A published [`Rae`].
    Rae {
        /// Shape of the encoder.
        encoder: EncoderConfig,
        /// Shape of the decoder.
        decoder: DecoderConfig,
        /// File of the encoder.
        encoder_weights: PathBuf,
        /// File of the decoder.
        decoder_weights: PathBuf,
        /// File with `mean` and `var` of the latents.
        statistics: PathBuf,
    },
    /// A [`Rae`] that the run trains first.
    TrainedRae(TrainedRae),
}

impl AutoencoderConfig {
    /// Channels, height and width of the latents of images of this shape; or why there are none.
    pub fn latent_shape(&self, image: [usize; 3]) -> Result<[usize; 3], Invalid> {
        let [channels, height, width] = image;
        let expected = match self {
            Self::Kl { network, .. } => {
                network.check().map_err(|fault| fault.within("autoencoder.network"))?;
                let factor = 1 << (network.widths.len() - 1);
                if channels == network.image_channels && height % factor == 0 && width % factor == 0 {
                    return Ok([network.latent_channels, height / factor, width / factor]);
                }
                format!("{} channels and sides divisible by {factor}", network.image_channels)
            }
            Self::Rae { encoder, decoder, .. } | Self::TrainedRae(TrainedRae { encoder, decoder, .. }) => {
                return rae_latents("autoencoder", encoder, decoder, image);
            }
        };
        let reason = format!("takes images of {expected}, the data has {channels} x {height} x {width}");
        Err(Invalid::new("autoencoder", reason))
    }

    /// Whether it decodes latents of this shape: channels, height and width.
    pub(super) fn check_latents(&self, latents: [usize; 3]) -> Result<(), Invalid> {
        let [channels, height, width] = latents;
        let (key, expected) = match self {
            Self::Kl { network, .. } if network.latent_channels == channels => return Ok(()),
            Self::Kl { network, .. } => ("network", format!("{} channels", network.latent_channels)),
            Self::Rae { decoder, .. } | Self::TrainedRae(TrainedRae { decoder, .. }) => {
                let DecoderConfig { features, grid, .. } = *decoder;
                if latents == [features, grid, grid] {
                    return Ok(());
                }
                ("decoder", format!("{features} x {grid} x {grid}"))
            }
        };
        let reason = format!("decodes latents of {expected}, the generator makes {channels} x {height} x {width}");
        Err(Invalid::new(key, reason))
    }

    /// Channels, height and width of the images of latents of this shape.
    pub fn image_shape(&self, latents: [usize; 3]) -> [usize; 3] {
        let [_, height, width] = latents;
        match self {
            Self::Kl { network, .. } => {
                let factor = 1 << (network.widths.len() - 1);
                [network.image_channels, height * factor, width * factor]
            }
            Self::Rae { decoder, .. } | Self::TrainedRae(TrainedRae { decoder, .. }) => {
                let side = decoder.grid * decoder.patch;
                [decoder.channels, side, side]
            }
        }
    }

    /// What latents that it made say of it; none for one that the run trains.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn origin(&self) -> Result<Option<Origin>, Error> {
        match self {
            Self::Kl { network, weights } => kl_origin(network, weights).map(Some),
            Self::Rae { encoder, encoder_weights, statistics, .. } => {
                rae_origin(encoder, encoder_weights, statistics).map(Some)
            }
            Self::TrainedRae(_) => Ok(None),
        }
    }

    /// Channels of its images.
    pub fn image_channels(&self) -> usize {
        match self {
            Self::Kl { network, .. } => network.image_channels,
            Self::Rae { decoder, .. } | Self::TrainedRae(TrainedRae { decoder, .. }) => decoder.channels,
        }
    }

    /// The files of its weights: those that the recipe names, or what the run in `folder` trains.
    pub fn files(&self, folder: &Path) -> Vec<PathBuf> {
        match self {
            Self::Kl { weights, .. } => vec![weights.clone()],
            Self::Rae { encoder_weights, decoder_weights, statistics, .. } => {
                [encoder_weights, decoder_weights, statistics].map(PathBuf::clone).into()
            }
            Self::TrainedRae(_) => vec![TrainedRae::file(folder)],
        }
    }

    /// The files that the recipe names.
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Kl { weights, .. } => vec![weights],
            Self::Rae { encoder_weights, decoder_weights, statistics, .. } => {
                vec![encoder_weights, decoder_weights, statistics]
            }
            Self::TrainedRae(_) => vec![],
        }
    }

    /// What it is but for where its files are.
    pub(super) fn without_files(&self) -> Self {
        let mut config = self.clone();
        config.paths().into_iter().for_each(|path| path.clear());
        config
    }

    /// Reads the weights: from the files that the recipe names, or what the run in `folder` has trained.
    ///
    /// # Errors
    /// If a file cannot be read or does not fit.
    pub fn load(&self, folder: &Path, device: &Device) -> Result<Box<dyn Autoencoder>, Error> {
        Ok(match self {
            Self::Kl { network, weights } => Box::new(network.init(0, device).load(Weights::read(weights)?)?),
            Self::Rae { encoder, decoder, encoder_weights, decoder_weights, statistics } => {
                let grid = encoder.grid();
                let moments = LatentStatistics::new([encoder.width, grid, grid], device);
                Box::new(Rae {
                    encoder: encoder.init(0, device).load(Weights::read(encoder_weights)?)?,
                    decoder: decoder.init(0, device).load(Weights::read(decoder_weights)?)?,
                    statistics: moments.load(Weights::read(statistics)?)?,
                })
            }
            Self::TrainedRae(trained) => Box::new(trained.load(folder, device)?),
        })
    }

    /// What is wrong with its shape, or with its training, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Kl { network, .. } => network.check().map_err(|fault| fault.within("network")),
            Self::Rae { encoder, decoder, .. } => check_rae(encoder, decoder),
            Self::TrainedRae(trained) => trained.check(),
        }
    }

    /// Steps of its training, where the run trains it first.
    pub fn training_steps(&self) -> Option<u64> {
        match self {
            Self::TrainedRae(trained) => Some(trained.training.steps),
            _ => None,
        }
    }
}

/// Frozen encoders that an aligned network is compared with.
#[allow(clippy::large_enum_variant, reason = "a recipe has one of them")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TargetEncoderConfig {
    /// A published encoder.
    File {
        /// Its shape.
        encoder: EncoderConfig,
        /// Its file.
        weights: PathBuf,
    },
    /// The encoder of a [`Rae`] that the run trains first.
    Trained(TrainedRae),
}

impl TargetEncoderConfig {
    /// Shape of the encoder.
    pub fn encoder(&self) -> &EncoderConfig {
        match self {
            Self::File { encoder, .. } | Self::Trained(TrainedRae { encoder, .. }) => encoder,
        }
    }

    /// The files of its weights: that which the recipe names, or what the run in `folder` trains.
    pub fn files(&self, folder: &Path) -> Vec<PathBuf> {
        match self {
            Self::File { weights, .. } => vec![weights.clone()],
            Self::Trained(_) => vec![TrainedRae::file(folder)],
        }
    }

    /// What is wrong with its training, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Trained(trained) => trained.check(),
            Self::File { .. } => Ok(()),
        }
    }

    /// What keeps it from seeing images of this shape, channels, height and width, if anything; one that the run trains must
    /// make them, too.
    pub(super) fn check_images(&self, image: [usize; 3]) -> Result<(), Invalid> {
        match self {
            Self::Trained(TrainedRae { encoder, decoder, .. }) => {
                rae_latents("target_encoder", encoder, decoder, image).map(drop)
            }
            // Statistics of ImageNet are of three channels, which grey images become.
            Self::File { encoder, .. }
                if encoder.channels != image[0]
                    && (image[0] != 1 || encoder.normalisation != Normalisation::ImageNet) =>
            {
                let reason = format!("must be those of the data, {}, found {}", image[0], encoder.channels);
                Err(Invalid::new("target_encoder.encoder.channels", reason))
            }
            Self::File { .. } => Ok(()),
        }
    }

    /// Steps of its training, where the run trains it first.
    pub fn training_steps(&self) -> Option<u64> {
        match self {
            Self::Trained(trained) => Some(trained.training.steps),
            Self::File { .. } => None,
        }
    }
}

impl TargetEncoder for Encoder {
    fn features(&self, images: Tensor<4>) -> Vec<Tensor<3>> {
        vec![self.forward(images)]
    }
}

/// Channels, height and width of the latents of images of this shape, of the encoder and the decoder in the object `key`; or why
/// there are none.
fn rae_latents(
    key: &str,
    encoder: &EncoderConfig,
    decoder: &DecoderConfig,
    image: [usize; 3],
) -> Result<[usize; 3], Invalid> {
    encoder.check().map_err(|fault| fault.within(&format!("{key}.encoder")))?;
    let (grid, side) = (encoder.grid(), decoder.grid * decoder.patch);
    if (decoder.features, decoder.grid) != (encoder.width, grid) {
        let (features, decoded) = (encoder.width, decoder.features);
        let reason = format!(
            "takes {decoded} features on {0} x {0} places, the encoder gives {features} on {grid} x {grid}",
            decoder.grid
        );
        return Err(Invalid::new(format!("{key}.decoder"), reason));
    }
    if image == [encoder.channels, side, side] && decoder.channels == encoder.channels {
        return Ok([encoder.width, grid, grid]);
    }
    let [channels, height, width] = image;
    let found = format!("the data has {channels} x {height} x {width}");
    if decoder.channels != encoder.channels {
        let reason =
            format!("makes images of {} channels, the encoder takes {}, {found}", decoder.channels, encoder.channels);
        return Err(Invalid::new(format!("{key}.decoder"), reason));
    }
    let reason = format!("takes images of {} channels and {side} x {side} pixels, {found}", encoder.channels);
    Err(Invalid::new(key, reason))
}

fn check_rae(encoder: &EncoderConfig, decoder: &DecoderConfig) -> Result<(), Invalid> {
    encoder.check().map_err(|fault| fault.within("encoder"))?;
    decoder.check().map_err(|fault| fault.within("decoder"))
}

/// An encoder and its decoder, small enough to be trained in a run where nothing can be downloaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedRae {
    /// Shape of the encoder.
    pub encoder: EncoderConfig,
    /// Shape of the decoder.
    pub decoder: DecoderConfig,
    /// How both are trained.
    pub training: RaeTraining,
}

impl TrainedRae {
    pub(crate) fn file(folder: &Path) -> PathBuf {
        folder.join("autoencoder.safetensors")
    }

    pub(crate) fn load(&self, folder: &Path, device: &Device) -> Result<Rae, Error> {
        let file = Self::file(folder);
        if !file.is_file() {
            let reason = "it was trained in the run and belongs beside recipe.json, but is not there; copy it from where the \
                          run was trained";
            return Err(Error::unfit(file.display(), reason));
        }
        let grid = self.encoder.grid();
        let rae = Rae {
            encoder: self.encoder.init(0, device),
            decoder: self.decoder.init(0, device),
            statistics: LatentStatistics::new([self.encoder.width, grid, grid], device),
        };
        Ok(Weights::read(file)?.into_module(rae, str::to_string)?)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_rae(&self.encoder, &self.decoder)?;
        let DecoderConfig { channels, grid, patch, .. } = self.decoder;
        let training = &self.training;
        training
            .check()
            .and_then(|()| training.check_images(channels, grid * patch))
            .map_err(|fault| fault.within("training"))
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::Recipe;

    fn opened(changes: &[&str]) -> Result<(), String> {
        let set: Vec<String> = changes.iter().map(ToString::to_string).collect();
        Recipe::read("repa", &set).unwrap().open().map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_trained_target_encoder_sees_and_makes_the_images_of_the_data() {
        let coloured = [r#"data={"kind":"shapes","size":32}"#, "network.channels=3", "network.classes=16"];
        let [encoder, decoder] = ["target_encoder.encoder.channels=3", "target_encoder.decoder.channels=3"];
        assert_eq!(opened(&[]), Ok(()));
        assert_eq!(opened(&[&coloured[..], &[encoder, decoder]].concat()), Ok(()));
        let large = ["data.size=64", "network.input_size=64", "network.patch=16"];
        for (changes, words) in [
            (
                [&coloured[..], &[encoder]].concat(),
                "target_encoder.decoder makes images of 1 channels, the encoder takes 3, the data has 3 x 32 x 32",
            ),
            (
                [&coloured[..], &[decoder]].concat(),
                "target_encoder.decoder makes images of 3 channels, the encoder takes 1",
            ),
            (
                coloured.to_vec(),
                "target_encoder takes images of 1 channels and 32 x 32 pixels, the data has 3 x 32 x 32",
            ),
            (large.to_vec(), "target_encoder takes images of 1 channels and 32 x 32 pixels, the data has 1 x 64 x 64"),
            (vec!["target_encoder.decoder.features=32"], "target_encoder.decoder takes 32 features on 4 x 4 places"),
        ] {
            let error = opened(&changes).unwrap_err();
            assert!(error.contains(words), "{changes:?}: {error}");
        }
    }

    #[test]
    fn a_target_encoder_of_a_file_has_the_channels_of_the_data() {
        let encoder = |channels: usize, normalisation: &str| {
            format!(
                r#"target_encoder={{"kind":"file","weights":"none","encoder":{{"architecture":"dinov2","channels":{channels},
                "input_size":32,"table_size":32,"patch":8,"width":64,"depth":2,"heads":4,"hidden":256,
                "normalisation":"{normalisation}"}}}}"#
            )
        };
        assert_eq!(opened(&[&encoder(1, "symmetric")]), Ok(()));
        // Grey images become coloured ones by what ImageNet's statistics are.
        assert_eq!(opened(&[&encoder(3, "image-net")]), Ok(()));
        let error = opened(&[&encoder(3, "symmetric")]).unwrap_err();
        assert!(error.contains("target_encoder.encoder.channels must be those of the data, 1, found 3"), "{error}");
    }
}
