//! What a folder of latents says about itself.

use std::fmt;
use std::fs;
use std::path::Path;

use mixflow_backbones::json::explain;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Shard;
use crate::data::buckets::Size;
use crate::data::{BucketConfig, Error};
use crate::files::digest;
use crate::numbers::counted;

/// The name of the finished manifest; it is written last.
pub(super) const MANIFEST: &str = "manifest.json";

/// The version that this code writes. It reads version 1 too, which does not say what images the latents are of.
const FORMAT: u32 = 2;

/// Numbers that one example may have, in each of its tensors: those of 256 MiB.
const LARGEST: usize = 1 << 26;

/// What is in a folder of latents and where it comes from; the same for all of its shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Channels, height and width of a latent.
    pub shape: [usize; 3],
    /// How numbers are stored.
    pub precision: StoragePrecision,
    /// Whether the deviation of the posterior stands beside its mean.
    pub deviation: bool,
    /// Whether the latents of the mirrored images are stored too.
    pub flipped: bool,
    /// Whether latents are shifted and scaled to what networks are trained on.
    pub normalised: bool,
    /// Side of the encoded images, in pixels; of images in [`buckets`](Self::buckets), that of the square, whose latents have
    /// `shape`.
    pub image_size: usize,
    /// How images were given sizes of about their own aspect ratios, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<BucketConfig>,
    /// Whether masks of the images stand beside their latents: how much of the loss counts at each place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
    /// Whether images have several captions, which stand beside their latents; the class of each is the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub several_captions: bool,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// What made the latents.
    pub autoencoder: Origin,
    /// Features of the images for alignment, one entry an encoder.
    pub features: Vec<StoredFeatures>,
    /// Where the images come from, in words.
    pub source: String,
    /// Examples in a shard; fewer in the last one of every encoding.
    pub shard_examples: usize,
}

/// A network and its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// In words.
    pub name: String,
    /// SHA-256 of the file of its weights, in hexadecimal.
    pub sha256: String,
}

/// Features that an encoder made of the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFeatures {
    /// Tokens of an image.
    pub tokens: usize,
    /// Numbers of a token.
    pub width: usize,
    /// The encoder.
    pub encoder: Origin,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoragePrecision {
    /// As they are.
    #[default]
    F32,
    /// Half the size: 11 bits of precision, at most 65,504.
    F16,
    /// Half the size: 8 bits of precision, the range of `f32`.
    Bf16,
}

/// The manifest of a folder of latents, `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// What the shards hold.
    pub contents: Contents,
    /// Samples of the source that were read, broken ones too.
    pub read: u64,
    /// Names of samples that could not be decoded and were left out.
    pub broken: Vec<String>,
    /// The shards, in order.
    pub shards: Vec<ShardEntry>,
    /// SHA-256 of all of the above, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    checksum: String,
}

/// How many latents, of how many classes, and what made them.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contents { shape: [channels, height, width], flipped, image_size, classes, autoencoder, .. } =
            &self.contents;
        let (images, classes) = (counted(self.examples(), "image"), counted(classes.len() as u64, "class"));
        let sizes = if self.contents.buckets.is_some() { " or sizes of at most as many" } else { "" };
        write!(f, "{images} of {classes}, {image_size} x {image_size} pixels{sizes}, as latents of ")?;
        write!(f, "{channels} x {height} x {width}{}", if sizes.is_empty() { "" } else { " or less" })?;
        if *flipped {
            f.write_str(", with those of the mirrored images")?;
        }
        if self.contents.masked {
            f.write_str(", with masks")?;
        }
        if !self.broken.is_empty() {
            write!(f, ", without {}", counted(self.broken.len() as u64, "broken image"))?;
        }
        write!(f, "; made by {autoencoder}")?;
        for features in &self.contents.features {
            write!(f, ", with features of {}", features.encoder)?;
        }
        Ok(())
    }
}

/// One shard in a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// The name of its file, behind that of its part and a `/` where it was made in one.
    pub file: String,
    /// How many it holds.
    pub examples: usize,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// What tells without reading them whether any of its images may have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
}

impl Origin {
    /// The network called `name` in words, with the weights of a file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_file(name: impl Into<String>, weights: &Path) -> Result<Self, crate::Error> {
        let sha256 = digest::file(weights).map_err(crate::Error::io("read", weights))?;
        Ok(Self { name: name.into(), sha256 })
    }
}

/// The name without its settings, and the weights.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.split(" {").next().unwrap_or_default();
        write!(f, "{name}, weights of SHA-256 {}", self.sha256.get(..12).unwrap_or(&self.sha256))
    }
}

impl Contents {
    /// What is wrong with it, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        let sizes = self.features.iter().map(|features| vec![features.tokens, features.width]);
        for size in sizes.chain([self.shape.to_vec()]) {
            let numbers = size.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
            if !numbers.is_some_and(|numbers| (1..=LARGEST).contains(&numbers)) {
                return Err(format!("have shape {size:?}; expected from 1 to {LARGEST} numbers"));
            }
        }
        if self.classes.is_empty() {
            return Err("have no classes".into());
        }
        if let Some(buckets) = &self.buckets {
            buckets.check(self.image_size).map_err(|error| format!("have sizes that are none: {error}"))?;
            if !self.features.is_empty() {
                return Err("have features for alignment, which are for images of one size".into());
            }
            if self.shape[1..].iter().any(|side| !self.image_size.is_multiple_of(*side)) {
                return Err(format!("have shape {:?} of images of {} pixels", self.shape, self.image_size));
            }
        }
        if self.shard_examples == 0 {
            return Err("have shards of no examples".into());
        }
        Ok(())
    }

    /// Numbers in a latent of this height and width.
    pub(super) fn numbers(&self, [height, width]: Size) -> usize {
        self.shape[0] * height * width
    }

    /// Of a column whose rows have this shape for the largest latent: what it has for latents of so many numbers.
    pub(super) fn part_of(&self, numbers: usize, row: &[usize]) -> usize {
        let [own, all] = [row, &self.shape].map(|shape| shape.iter().product::<usize>() as u128);
        (numbers as u128 * own / all) as usize
    }

    /// Height and width of the latents of an image that has these in pixels.
    pub(super) fn latent_size(&self, image: Size) -> Size {
        let [_, height, width] = self.shape;
        [image[0] * height / self.image_size, image[1] * width / self.image_size]
    }

    /// Height and width in pixels of an image that is encoded, of one that has this width and height.
    pub(super) fn image_size_of(&self, image: [u32; 2]) -> Size {
        self.buckets.as_ref().map_or([self.image_size; 2], |buckets| buckets.size_of(image, self.image_size))
    }

    /// What keeps latents of `other` from standing beside these, with both values. The source may have moved, and classes
    /// may be new at the end.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let values = |contents: &Self| serde_json::to_value(contents).expect("plain numbers and text are JSON");
        let (one, two) = (values(self), values(other));
        // One that is not there is in the other.
        let keys = one.as_object()?.keys().chain(two.as_object()?.keys());
        let mut keys = keys.filter(|key| !["source", "classes"].contains(&key.as_str()));
        if let Some(key) = keys.find(|key| one[key.as_str()] != two[key.as_str()]) {
            if key == "several_captions" {
                let words = match self.several_captions {
                    false => {
                        "one caption of each image, where some have several now: leave out `--caption-lines`, or lists"
                    }
                    true => {
                        "several captions of some images, where each has one now: give `--caption-lines`, if they were lines"
                    }
                };
                return Some(words.into());
            }
            return Some(format!("another `{key}`, {}, not {}", one[key], two[key]));
        }
        let (old, new) = (&self.classes, &other.classes);
        let place = (0..old.len()).find(|&place| old.get(place) != new.get(place))?;
        let now = new.get(place).map_or("none".into(), |class| format!("`{class}`"));
        Some(format!("other classes, of which number {place} is `{}`, not {now}", old[place]))
    }
}

impl StoragePrecision {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Its name in a safetensors header.
    pub(super) fn dtype(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }
}

impl Manifest {
    pub(super) fn new(contents: Contents) -> Self {
        let checksum = String::new();
        Self { format: FORMAT, contents, read: 0, broken: Vec::new(), shards: Vec::new(), checksum }
    }

    /// As it stands in its file.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let whole = Self { checksum: self.sum(), ..self.clone() };
        serde_json::to_vec_pretty(&whole).expect("plain numbers and text are JSON")
    }

    /// The hash of everything but itself.
    fn sum(&self) -> String {
        let bare = Self { checksum: String::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&bare).expect("plain numbers and text are JSON");
        hex::encode(Sha256::digest(bytes))
    }

    /// Whether it says which images its latents are of, so that more can be added.
    pub(super) fn knows_images(&self) -> bool {
        self.format == FORMAT
    }

    /// Whether it has all shards of another one, and perhaps more.
    pub(super) fn extends(&self, other: &Self) -> bool {
        let hashes = |manifest: &Self| manifest.shards.iter().map(|shard| shard.sha256.clone()).collect::<Vec<_>>();
        hashes(self).starts_with(&hashes(other))
    }

    /// Reads and checks a manifest; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let fault = |reason: String| Error::Latents { path: path.into(), reason };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(format!("cannot be read: {error}"))),
        };
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| fault(format!("have a damaged manifest: {}", explain(&error))))?;
        manifest.check().map_err(fault)?;
        Ok(Some(manifest))
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=FORMAT).contains(&self.format) {
            return Err(format!("have format {}; this version reads formats up to {FORMAT}", self.format));
        }
        self.contents.check()?;
        for (number, shard) in self.shards.iter().enumerate() {
            let ShardEntry { file, examples, .. } = shard;
            let full = self.contents.shard_examples;
            let own = file.split_once('/').map_or(*file == shard_name(number), |(part, name)| {
                Shard::named(part).is_some() && is_shard_name(name)
            });
            if !own {
                return Err(format!("call shard {number} `{file}`; expected `{}`", shard_name(number)));
            }
            if !(1..=full).contains(examples) {
                return Err(format!("have {examples} examples in `{file}`; expected from 1 to {full}"));
            }
        }
        if self.knows_images() && self.checksum != self.sum() {
            return Err("have a manifest that was changed after it was written; restore it or encode again".into());
        }
        Ok(())
    }

    /// Size of all shards.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Number of examples in all shards.
    #[must_use]
    pub fn examples(&self) -> u64 {
        self.shards.iter().map(|shard| shard.examples as u64).sum()
    }
}

/// The file of a shard.
pub(super) fn shard_name(number: usize) -> String {
    format!("shard-{number:05}.safetensors")
}

fn is_shard_name(name: &str) -> bool {
    let number = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".safetensors"));
    number.and_then(|number| number.parse().ok()).is_some_and(|number| name == shard_name(number))
}
