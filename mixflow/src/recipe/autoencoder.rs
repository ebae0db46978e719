//! Autoencoders and target encoders, in a recipe.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use mixflow_backbones::Invalid;
use mixflow_backbones::autoencoder::{Autoencoder, KlAutoencoderConfig};
use mixflow_backbones::encoder::{Encoder, EncoderConfig};
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
                encoder.check().map_err(|fault| fault.within("autoencoder.encoder"))?;
                let (grid, side) = (encoder.grid(), decoder.grid * decoder.patch);
                if (decoder.features, decoder.grid) != (encoder.width, grid) {
                    let (features, decoded) = (encoder.width, decoder.features);
                    let reason = format!(
                        "takes {decoded} features on {0} x {0} places, the encoder gives {features} on {grid} x {grid}",
                        decoder.grid
                    );
                    return Err(Invalid::new("autoencoder.decoder", reason));
                }
                if image == [encoder.channels, side, side] && decoder.channels == channels {
                    return Ok([encoder.width, grid, grid]);
                }
                format!("{} channels and {side} x {side} pixels", decoder.channels)
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
