//! Which data to train on, as written in a recipe.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::latents::{Latents, PosteriorMode};
use super::prior::WithPrior;
use super::{
    BucketConfig, CaptionFormat, Channels, Dataset, Digits, Emoji, Error, ImageFolder, MaskConfig, OnBroken,
    PriorConfig, Scenes, Shapes, checked_size,
};

/// A data source and its options.
///
/// ```
/// use mixflow::data::DataConfig;
///
/// let config: DataConfig = serde_json::from_str(r#"{ "kind": "shapes", "size": 64 }"#)?;
/// let data = config.open()?;
/// assert_eq!(data.shape(), [3, 64, 64]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataConfig {
    /// [`Digits`]: 1,797 real handwritten digits, ten classes.
    Digits {
        /// Side in pixels, 1 to 4096.
        #[serde(deserialize_with = "size")]
        size: usize,
        /// 1 or 3.
        #[serde(default)]
        channels: Channels,
    },
    /// [`Shapes`]: endless coloured shapes, sixteen classes.
    Shapes {
        /// Side in pixels, 1 to 4096.
        #[serde(deserialize_with = "size")]
        size: usize,
        /// Chooses the scenes.
        #[serde(default)]
        seed: u64,
    },
    /// [`Scenes`]: endless scenes of shapes with captions, each of which is a class.
    Scenes {
        /// Side in pixels, 16 to 4096.
        #[serde(deserialize_with = "size")]
        size: usize,
        /// Chooses the scenes.
        #[serde(default)]
        seed: u64,
    },
    /// [`Emoji`]: 1,892 emoji, of which every group is a class, or every name.
    Emoji {
        /// Side in pixels, 1 to 4096; stored are 32.
        #[serde(deserialize_with = "size")]
        size: usize,
        /// The groups to take, as [`Emoji::new`] knows them; none takes all nine.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<String>,
        /// Each name is a class, for networks that are told prompts.
        #[serde(default)]
        captions: bool,
        /// Mirror every other example, at random.
        #[serde(default)]
        flip: bool,
    },
    /// [`ImageFolder`]: a directory with one sub-directory of images per class.
    Folder {
        /// The directory.
        path: PathBuf,
        /// Side in pixels after the centre crop, 1 to 4096.
        #[serde(deserialize_with = "size")]
        size: usize,
        /// What to do about images that cannot be decoded.
        #[serde(default)]
        on_broken: OnBroken,
        /// Mirror every other example, at random.
        #[serde(default)]
        flip: bool,
        /// In training, cut a random square of images of this shorter side, instead of the central one of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        random_crop: Option<usize>,
        /// In training, sizes of about the images' own aspect ratios instead of the square; for networks that take any
        /// rectangle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        buckets: Option<BucketConfig>,
        /// Which parts of the images the loss counts: `"alpha"`, `{"folder": "masks"}` or `{"beside": "-masklabel"}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mask: Option<MaskConfig>,
    },
    /// [`ImageFolder::captioned`]: a directory of images with captions, each of which is a class.
    Captions {
        /// The directory.
        path: PathBuf,
        /// Side in pixels after the centre crop, 1 to 4096.
        #[serde(deserialize_with = "size")]
        size: usize,
        /// What to do about images that cannot be decoded.
        #[serde(default)]
        on_broken: OnBroken,
        /// Mirror every other example, at random.
        #[serde(default)]
        flip: bool,
        /// In training, sizes of about the images' own aspect ratios instead of the square; for networks that take any
        /// rectangle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        buckets: Option<BucketConfig>,
        /// Which parts of the images the loss counts: `"alpha"`, `{"folder": "masks"}` or `{"beside": "-masklabel"}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mask: Option<MaskConfig>,
        /// Whether the text of an image is one caption or a caption a line, of which training tells one at a time.
        #[serde(default, skip_serializing_if = "is_whole")]
        captions: CaptionFormat,
        /// Images of a class that are learned beside those of one instance of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prior: Option<PriorConfig>,
    },
    /// [`Latents`]: images that an autoencoder has encoded before.
    Latents {
        /// The directory of shards.
        path: PathBuf,
        /// Which latent of an image to take, where deviations are stored.
        #[serde(default)]
        posterior: PosteriorMode,
        /// Take the latent of the mirrored image every other time, at random.
        #[serde(default)]
        flip: bool,
        /// Which of the images are of a class, and learned beside those of one instance of it: those with a caption.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prior: Option<PriorConfig>,
    },
}

impl DataConfig {
    /// Opens the source.
    ///
    /// # Errors
    /// If an option is out of range or a folder cannot be used.
    pub fn open(&self) -> Result<Arc<dyn Dataset>, Error> {
        let advised = |advice: &'static str| {
            move |error: Error| match error {
                Error::Read { path, source, .. } => Error::Read { path, advice, source },
                other => other,
            }
        };
        Ok(match self {
            Self::Digits { size, channels } => Arc::new(Digits::new(*size, *channels)?),
            Self::Shapes { size, seed } => Arc::new(Shapes::new(*size, *seed)?),
            Self::Scenes { size, seed } => Arc::new(Scenes::new(*size, *seed)?),
            Self::Emoji { size, groups, captions: false, .. } => Arc::new(Emoji::new(*size, groups)?),
            Self::Emoji { size, groups, captions: true, .. } => Arc::new(Emoji::captioned(*size, groups)?),
            Self::Folder { path, size, on_broken, random_crop, buckets, mask, .. } => {
                let advice = "data.path must be a directory with one sub-directory of images per class";
                mask.iter().try_for_each(|mask| mask.check(path))?;
                let folder =
                    ImageFolder::with_classes(path, *size, *on_broken, mask.as_ref()).map_err(advised(advice))?;
                Arc::new(match (buckets, random_crop) {
                    (Some(buckets), _) => folder.with_buckets(buckets)?,
                    (None, Some(short_side)) => folder.with_random_crop(*short_side)?,
                    (None, None) => folder,
                })
            }
            Self::Captions { path, size, on_broken, buckets, mask, captions, prior, .. } => {
                let advice = "data.path must be a directory of images with their captions, in a .txt beside each or in \
                              metadata.jsonl";
                mask.iter().try_for_each(|mask| mask.check(path))?;
                prior.iter().try_for_each(|prior| prior.check(path))?;
                let folder =
                    ImageFolder::with_captions(path, *size, *on_broken, *captions, mask.as_ref(), prior.as_ref());
                let folder = folder.map_err(advised(advice))?;
                let folder = Arc::new(match buckets {
                    Some(buckets) => folder.with_buckets(buckets)?,
                    None => folder,
                });
                match prior {
                    Some(prior) => {
                        Arc::new(WithPrior::new(folder.clone(), prior, |index| Ok(folder.file(index as usize).1))?)
                    }
                    None => folder,
                }
            }
            Self::Latents { path, posterior, flip, prior } => {
                let latents = Arc::new(Latents::open(path)?.for_training(*posterior, *flip)?);
                match prior {
                    Some(PriorConfig { path: Some(_), .. }) => {
                        let reason =
                            "has a path, and the data are latents: encode both kinds of images into one folder";
                        return Err(Error::Prior { reason: reason.into() });
                    }
                    Some(prior) => {
                        prior.check(path)?;
                        Arc::new(WithPrior::new(latents.clone(), prior, |index| latents.label(index))?)
                    }
                    None => latents,
                }
            }
        })
    }

    /// What the images are, in words.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Digits { .. } => "handwritten digits",
            Self::Shapes { .. } => "coloured shapes",
            Self::Scenes { .. } => "scenes of shapes",
            Self::Emoji { .. } => "emoji",
            Self::Folder { .. } => "images of a folder",
            Self::Captions { .. } => "images with captions",
            Self::Latents { .. } => "latents of images",
        }
    }

    /// The sizes in which training sees the images, where these are several.
    #[must_use]
    pub fn buckets(&self) -> Option<&BucketConfig> {
        match self {
            Self::Folder { buckets, .. } | Self::Captions { buckets, .. } => buckets.as_ref(),
            _ => None,
        }
    }

    /// Which parts of the images the loss counts, where that is said.
    #[must_use]
    pub fn mask(&self) -> Option<&MaskConfig> {
        match self {
            Self::Folder { mask, .. } | Self::Captions { mask, .. } => mask.as_ref(),
            _ => None,
        }
    }

    /// Which images are learned beside others to preserve what is known of their class, where that is said.
    #[must_use]
    pub fn prior(&self) -> Option<&PriorConfig> {
        match self {
            Self::Captions { prior, .. } | Self::Latents { prior, .. } => prior.as_ref(),
            _ => None,
        }
    }

    /// Whether training mirrors examples at random, for [`LoaderConfig::flip`](super::LoaderConfig::flip).
    #[must_use]
    pub fn flip(&self) -> bool {
        matches!(
            self,
            Self::Emoji { flip: true, .. }
                | Self::Folder { flip: true, .. }
                | Self::Captions { flip: true, .. }
                | Self::Latents { flip: true, .. }
        )
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_whole(format: &CaptionFormat) -> bool {
    *format == CaptionFormat::Whole
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    checked_size(usize::deserialize(deserializer)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_round_trip_and_fill_in_defaults() {
        for (text, config) in [
            (r#"{"kind":"digits","size":32}"#, DataConfig::Digits { size: 32, channels: Channels::One }),
            (r#"{"kind":"digits","size":8,"channels":3}"#, DataConfig::Digits { size: 8, channels: Channels::Three }),
            (r#"{"kind":"shapes","size":64}"#, DataConfig::Shapes { size: 64, seed: 0 }),
            (
                r#"{"kind":"emoji","size":32,"groups":["face"],"flip":true}"#,
                DataConfig::Emoji { size: 32, groups: vec!["face".into()], captions: false, flip: true },
            ),
            (
                r#"{"kind":"folder","path":"cats","size":256,"on_broken":"skip","flip":true}"#,
                DataConfig::Folder {
                    path: "cats".into(),
                    size: 256,
                    on_broken: OnBroken::Skip,
                    flip: true,
                    random_crop: None,
                    buckets: None,
                    mask: None,
                },
            ),
            (
                r#"{"kind":"folder","path":"cats","size":256,"random_crop":384}"#,
                DataConfig::Folder {
                    path: "cats".into(),
                    size: 256,
                    on_broken: OnBroken::Refuse,
                    flip: false,
                    random_crop: Some(384),
                    buckets: None,
                    mask: None,
                },
            ),
            (
                r#"{"kind":"captions","path":"cats","size":64,"flip":true}"#,
                DataConfig::Captions {
                    path: "cats".into(),
                    size: 64,
                    on_broken: OnBroken::Refuse,
                    flip: true,
                    buckets: None,
                    mask: None,
                    captions: CaptionFormat::Whole,
                    prior: None,
                },
            ),
            (
                r#"{"kind":"captions","path":"cats","size":64,"buckets":{"step":16,"sizes":[32,64]}}"#,
                DataConfig::Captions {
                    path: "cats".into(),
                    size: 64,
                    on_broken: OnBroken::Refuse,
                    flip: false,
                    buckets: Some(BucketConfig { step: 16, sizes: vec![32, 64] }),
                    mask: None,
                    captions: CaptionFormat::Whole,
                    prior: None,
                },
            ),
            (
                r#"{"kind":"captions","path":"cats","size":64,"mask":"alpha"}"#,
                DataConfig::Captions {
                    path: "cats".into(),
                    size: 64,
                    on_broken: OnBroken::Refuse,
                    flip: false,
                    buckets: None,
                    mask: Some(MaskConfig::Alpha),
                    captions: CaptionFormat::Whole,
                    prior: None,
                },
            ),
            (
                r#"{"kind":"folder","path":"cats","size":64,"mask":{"folder":"masks"}}"#,
                DataConfig::Folder {
                    path: "cats".into(),
                    size: 64,
                    on_broken: OnBroken::Refuse,
                    flip: false,
                    random_crop: None,
                    buckets: None,
                    mask: Some(MaskConfig::Folder("masks".into())),
                },
            ),
            (
                r#"{"kind":"captions","path":"cats","size":64,"captions":"lines"}"#,
                DataConfig::Captions {
                    path: "cats".into(),
                    size: 64,
                    on_broken: OnBroken::Refuse,
                    flip: false,
                    buckets: None,
                    mask: None,
                    captions: CaptionFormat::Lines,
                    prior: None,
                },
            ),
            (
                r#"{"kind":"latents","path":"l","posterior":"mean"}"#,
                DataConfig::Latents { path: "l".into(), posterior: PosteriorMode::Mean, flip: false, prior: None },
            ),
            (
                r#"{"kind":"latents","path":"l","prior":{"caption":"a dog"}}"#,
                DataConfig::Latents {
                    path: "l".into(),
                    posterior: PosteriorMode::default(),
                    flip: false,
                    prior: Some(PriorConfig { caption: "a dog".into(), path: None, weight: 1.0 }),
                },
            ),
        ] {
            assert_eq!(serde_json::from_str::<DataConfig>(text).unwrap(), config);
            let written = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<DataConfig>(&written).unwrap(), config);
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_with_what_it_must_be() {
        for (kind, expected) in [
            ("folder", "a directory with one sub-directory of images per class"),
            ("captions", "a directory of images with their captions, in a .txt beside each or in metadata.jsonl"),
        ] {
            let config = serde_json::json!({ "kind": kind, "path": "not/there", "size": 8 });
            let config: DataConfig = serde_json::from_value(config).unwrap();
            let message = config.open().unwrap_err().to_string();
            assert_eq!(message, format!("cannot read `not/there`; data.path must be {expected}"));
        }
    }

    #[test]
    fn unknown_keys_and_values_out_of_range_are_refused_by_name() {
        for (text, word) in [
            (r#"{"kind":"digits","size":32,"colour":1}"#, "colour"),
            (r#"{"kind":"digits","size":0}"#, "size must be from 1 to 4096 pixels, found 0"),
            (r#"{"kind":"digits","size":8,"channels":2}"#, "channels must be 1 or 3, found 2"),
            (r#"{"kind":"shapes","size":5000}"#, "found 5000"),
            (r#"{"kind":"folder","size":32}"#, "path"),
            (r#"{"kind":"folder","path":"a","size":32,"on_broken":"ignore"}"#, "ignore"),
            (r#"{"kind":"movies","size":32}"#, "movies"),
        ] {
            let message = serde_json::from_str::<DataConfig>(text).unwrap_err().to_string();
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}
