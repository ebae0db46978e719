//! Networks that turn images into stored latents and features.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::Invalid;
use mixflow_backbones::autoencoder::{Autoencoder, KlAutoencoder, KlAutoencoderConfig, LatentDistribution};
use mixflow_backbones::encoder::{Encoder, EncoderConfig};
use mixflow_backbones::rae::{LatentStatistics, to_planes};
use mixflow_backbones::weights::Weights;
use serde::Serialize;

use crate::Error;
use crate::data::BucketConfig;
use crate::data::latents::{Contents, EncodedBatch, ImageBatch, Origin, StoragePrecision, StoredFeatures};
use crate::data::source::Source;

/// The encoding half of an autoencoder, with the encoders whose features are stored beside the latents.
///
/// [`contents`](Self::contents) begins a folder of latents, [`encode`](Self::encode) is what
/// [`encode_dataset`](crate::data::latents::encode_dataset) fills it with.
#[derive(Debug)]
pub struct LatentEncoder {
    network: Half,
    origin: Origin,
    /// Of a latent: channels, height, width.
    shape: [usize; 3],
    image_size: usize,
    targets: Vec<(Encoder, StoredFeatures)>,
    device: Device,
}

/// What can be chosen freely about a folder of latents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// How numbers are stored.
    pub precision: StoragePrecision,
    /// Whether the latents of the mirrored images are stored too, for training with random flips.
    pub flipped: bool,
    /// Examples in every shard but the last, at least one.
    pub shard_examples: usize,
    /// Sizes of about the images' own aspect ratios, instead of squares.
    pub buckets: Option<BucketConfig>,
    /// Whether masks stand beside the latents: of images that come with one, that, and of others their alpha channel.
    pub masked: bool,
}

/// What encoding needs of an autoencoder.
#[allow(clippy::large_enum_variant, reason = "a program has one of them, and its weights are elsewhere")]
#[derive(Debug)]
enum Half {
    Kl(KlAutoencoder),
    Rae(Encoder, LatentStatistics),
}

impl LatentEncoder {
    /// A [`KlAutoencoder`] with the weights of a file, under any published naming, for images of `image_size` pixels.
    ///
    /// # Errors
    /// If the configuration is faulty, the image size is not divisible by the autoencoder's factor, or the file cannot be
    /// read or does not fit.
    pub fn kl(config: &KlAutoencoderConfig, weights: &Path, image_size: usize, device: &Device) -> Result<Self, Error> {
        config.check().map_err(|invalid| Error::recipe("autoencoder", invalid))?;
        if config.image_channels != 3 {
            return Err(fault("image_channels", format!("must be 3, as images have, found {}", config.image_channels)));
        }
        let factor = 1 << (config.widths.len() - 1);
        if image_size == 0 || !image_size.is_multiple_of(factor) {
            return Err(fault("image_size", format!("must be divisible by {factor}, found {image_size}")));
        }
        let network = config.init(0, device).load(Weights::read(weights)?)?;
        let side = image_size / factor;
        Ok(Self {
            network: Half::Kl(network),
            origin: kl_origin(config, weights)?,
            shape: [config.latent_channels, side, side],
            image_size,
            targets: vec![],
            device: device.clone(),
        })
    }

    /// The encoder of a [`Rae`](mixflow_backbones::rae::Rae): its weights, and the moments of its features as in RAE's
    /// `stat.pt`. It resizes images of any `image_size` by itself; the published ones are for 256 pixels.
    ///
    /// # Errors
    /// If the configuration is faulty, or a file cannot be read or does not fit.
    pub fn rae(
        config: &EncoderConfig,
        weights: &Path,
        statistics: &Path,
        image_size: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        let encoder = load(config, weights, device)?;
        if image_size == 0 {
            return Err(fault("image_size", "must be at least 1, found 0"));
        }
        let shape = [config.width, config.grid(), config.grid()];
        Ok(Self {
            network: Half::Rae(encoder, LatentStatistics::new(shape, device).load(Weights::read(statistics)?)?),
            origin: rae_origin(config, weights, statistics)?,
            shape,
            image_size,
            targets: vec![],
            device: device.clone(),
        })
    }

    /// The same with the features of one more encoder, for [`Alignment`](crate::Alignment).
    ///
    /// # Errors
    /// If the configuration is faulty, or the file cannot be read or does not fit.
    pub fn with_features(mut self, config: &EncoderConfig, weights: &Path) -> Result<Self, Error> {
        let encoder = load(config, weights, &self.device)?;
        let origin = Origin::of_file(describe("encoder", config), weights)?;
        let features = StoredFeatures { tokens: config.grid().pow(2), width: config.width, encoder: origin };
        self.targets.push((encoder, features));
        Ok(self)
    }

    /// Refuses sizes that the autoencoder does not take.
    ///
    /// # Errors
    /// If its step is not a multiple of the autoencoder's, this is none of the kind that takes any rectangle, or features are
    /// stored, which are of squares.
    pub fn check_buckets(&self, buckets: &BucketConfig) -> Result<(), Error> {
        let [_, height, _] = self.shape;
        let factor = self.image_size / height;
        buckets.check(self.image_size).map_err(Error::from)?;
        match &self.network {
            Half::Rae(..) => Err(fault("buckets", "are for a KL autoencoder, which takes any rectangle")),
            Half::Kl(_) if !self.targets.is_empty() => {
                Err(fault("buckets", "do not go with features, which are of squares"))
            }
            Half::Kl(_) if !buckets.step.is_multiple_of(factor) => {
                Err(fault("buckets", format!("must have a step divisible by {factor}, found {}", buckets.step)))
            }
            Half::Kl(_) => Ok(()),
        }
    }

    /// Numbers that are stored for an image, or of the square, the most: latent, its deviation where there is one, and features.
    pub fn numbers(&self) -> usize {
        let latents = if matches!(self.network, Half::Kl(_)) { 2 } else { 1 };
        let features = self.targets.iter().map(|(_, features)| features.tokens * features.width);
        latents * self.shape.iter().product::<usize>() + features.sum::<usize>()
    }

    /// What a folder of the latents of `source` says about itself.
    pub fn contents(&self, source: &dyn Source, storage: StorageConfig) -> Contents {
        Contents {
            shape: self.shape,
            precision: storage.precision,
            deviation: matches!(self.network, Half::Kl(_)),
            flipped: storage.flipped,
            normalised: true,
            image_size: self.image_size,
            buckets: storage.buckets,
            masked: storage.masked,
            several_captions: source.several_captions(),
            classes: source.classes().to_vec(),
            autoencoder: self.origin.clone(),
            features: self.targets.iter().map(|(_, features)| features.clone()).collect(),
            source: source.describe(),
            shard_examples: storage.shard_examples,
        }
    }

    /// Normalised latents and features of a batch.
    pub fn encode(&self, images: ImageBatch) -> EncodedBatch {
        let images = Tensor::<4>::from_data(TensorData::new(images.pixels, images.shape), &self.device);
        let LatentDistribution { mean, deviation } = match &self.network {
            Half::Kl(network) => network.encode(images.clone()),
            Half::Rae(encoder, statistics) => {
                let features = to_planes(encoder.forward(images.clone()));
                LatentDistribution { mean: statistics.normalise(features), deviation: None }
            }
        };
        EncodedBatch {
            mean: numbers(mean),
            deviation: deviation.map(numbers),
            features: self.targets.iter().map(|(encoder, _)| numbers(encoder.forward(images.clone()))).collect(),
            mask: None,
        }
    }
}

/// What the latents of a KL autoencoder say of it.
pub(crate) fn kl_origin(config: &KlAutoencoderConfig, weights: &Path) -> Result<Origin, Error> {
    Origin::of_file(describe("KL autoencoder", config), weights)
}

/// What the latents of a RAE say of it. Other moments make other latents of the same weights.
pub(crate) fn rae_origin(config: &EncoderConfig, weights: &Path, statistics: &Path) -> Result<Origin, Error> {
    let moments = Origin::of_file("moments", statistics)?.sha256;
    Origin::of_file(format!("{}, moments {moments}", describe("RAE", config)), weights)
}

fn load(config: &EncoderConfig, weights: &Path, device: &Device) -> Result<Encoder, Error> {
    config.check().map_err(|invalid| Error::recipe("encoder", invalid))?;
    if config.channels != 3 {
        return Err(fault("channels", format!("must be 3, as images have, found {}", config.channels)));
    }
    Ok(config.init(0, device).load(Weights::read(weights)?)?)
}

/// Kind and whole configuration: what differs in anything is called differently.
fn describe(kind: &str, config: &impl Serialize) -> String {
    format!("{kind} {}", serde_json::to_string(config).expect("plain numbers and text are JSON"))
}

fn fault(key: &str, reason: impl Into<String>) -> Error {
    Error::recipe("autoencoder", Invalid::new(key, reason))
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
