//! What a folder of latents says about itself.

use std::fs;
use std::path::Path;

use mixflow_backbones::json::explain;
use serde::{Deserialize, Serialize};

use crate::data::Error;
use crate::digest;

/// The name of the finished manifest; it is written last.
pub(super) const MANIFEST: &str = "manifest.json";

/// The version that this code writes and reads.
const FORMAT: u32 = 1;

/// Numbers that one example may have, in each of its tensors: those of 256 MiB.
const LARGEST: usize = 1 << 26;

/// What is in a folder of latents and where it comes from; the same for all of its shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Channels, height and width of a latent.
    pub shape: [usize; 3],
    /// How numbers are stored.
    pub precision: Precision,
    /// Whether the deviation of the posterior stands beside its mean.
    pub deviation: bool,
    /// Whether the latents of the mirrored images are stored too.
    pub flipped: bool,
    /// Whether latents are shifted and scaled to what networks are trained on.
    pub normalised: bool,
    /// Side of the encoded images, in pixels.
    pub image_size: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// What made the latents.
    pub autoencoder: Origin,
    /// Features of the images for alignment, one entry an encoder.
    pub features: Vec<Features>,
    /// Where the images come from, in words.
    pub source: String,
    /// Examples in every shard but the last.
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
pub struct Features {
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
pub enum Precision {
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
}

/// One shard in a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// The name of its file.
    pub file: String,
    /// How many it holds.
    pub examples: usize,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
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
        if self.shard_examples == 0 {
            return Err("have shards of no examples".into());
        }
        Ok(())
    }

    /// Numbers in one latent.
    pub(super) fn numbers(&self) -> usize {
        self.shape.iter().product()
    }

    /// The first thing that differs, by name.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let values = |contents: &Self| serde_json::to_value(contents).expect("plain numbers and text are JSON");
        let (one, two) = (values(self), values(other));
        let keys = one.as_object()?.keys();
        keys.into_iter().find(|key| one[key.as_str()] != two[key.as_str()]).cloned()
    }
}

impl Precision {
    /// Bytes of a number.
    pub(super) fn bytes(self) -> usize {
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
        Self { format: FORMAT, contents, read: 0, broken: Vec::new(), shards: Vec::new() }
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
        if self.format != FORMAT {
            return Err(format!("have format {}; this version reads format {FORMAT}", self.format));
        }
        self.contents.check()?;
        for (number, shard) in self.shards.iter().enumerate() {
            let ShardEntry { file, examples, .. } = shard;
            let full = self.contents.shard_examples;
            if *file != shard_name(number) {
                return Err(format!("call shard {number} `{file}`; expected `{}`", shard_name(number)));
            }
            if *examples == 0 || *examples > full || (*examples < full && number + 1 < self.shards.len()) {
                return Err(format!("have {examples} examples in `{file}`; expected {full}, fewer only in the last"));
            }
        }
        Ok(())
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
