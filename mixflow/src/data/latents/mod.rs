//! Images that an autoencoder has encoded before training.
//!
//! A folder of latents holds `shard-00000.safetensors`, … and, written last, `manifest.json` ([`Manifest`]). A shard
//! of `n` examples has the tensors
//!
//! | name | shape | |
//! |---|---|---|
//! | `mean` | `[n, channels, height, width]` | mean of the posterior |
//! | `deviation` | as `mean` | its standard deviation; where the autoencoder has one |
//! | `features_0`, … | `[n, tokens, width]` | the image's features, one tensor an encoder |
//! | `mean_flipped`, … | as without | the same of the mirrored image: an encoder does not commute with mirroring |
//! | `mask` | `[n, height, width]` | how much of the loss counts at each place, where [masks](Contents::masked) are stored |
//! | `size` | `[n, 2]`, i64 | height and width of each latent, of images in [buckets](Contents::buckets); the latents of all `n` stand one after the other in tensors of one axis then |
//! | `caption`, `caption_weight`, `caption_end` | `[captions]`, i64; `[captions]`, f64; `[n]`, i64 | where images have [several](Contents::several_captions): the classes that their captions are, one image after the other, how often each is told, and where those of each end |
//! | `class` | `[n]`, i64 | index into the manifest's classes |
//! | `name`, `name_end` | `[bytes]`, u8; `[n]`, i64 | names of the sources one after the other, and where each ends |
//! | `image_sha256` | `[n, 32]`, u8 | SHA-256 of each image's file |
//!
//! [`Writer`] writes them, by the hand of [`encode_dataset`]; [`Latents`] reads them.

mod encode;
mod join;
mod manifest;
mod number;
mod resume;
mod shard;
mod stamp;
mod verify;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use encode::{EncodeConfig, EncodeOutcome, Encoding, ImageBatch, encode_dataset, images_at_a_time};
pub use join::{check_part, join_parts, known_classes};
pub use manifest::{Contents, Manifest, Origin, ShardEntry, StoragePrecision, StoredFeatures};
pub use verify::Verified;
pub(super) use write::begun;
pub use write::{EncodedBatch, Image, Writer};

use self::shard::Shard;
use super::{Dataset, Error, Example, Fingerprint, Variation, in_one_shape};
use crate::random::{self, Stream};

/// A folder of latents, as a source of examples.
///
/// [`Dataset::example`] gives the mean; in training [`Dataset::variant`] draws from the posterior, with noise that is a
/// function of (seed, position), and takes the mirrored image's latent where the position says so. Opening reads
/// headers, sizes and classes; [`verify`](Self::verify) reads everything, for which training is the time.
///
/// Shards are read by memory map: they must stay as they are meanwhile.
#[derive(Debug)]
pub struct Latents {
    folder: PathBuf,
    manifest: Manifest,
    shards: Vec<Shard>,
    /// Examples before each shard.
    starts: Vec<u64>,
    /// Where latents have several sizes, the shapes that there are.
    buckets: Vec<[usize; 3]>,
    posterior: PosteriorMode,
}

/// Which latent of an image to take, where deviations are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PosteriorMode {
    /// Another one at every visit, as `SiT` and REPA do.
    #[default]
    Sample,
    /// Always the mean.
    Mean,
}

impl Latents {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// If there is no finished manifest, or a shard is not what the manifest says. Memory is bounded by the sizes of the
    /// files.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fault = |reason: &str| Error::Latents { path: path.into(), reason: reason.into() };
        let manifest = Manifest::read(&path.join(manifest::MANIFEST))?
            .ok_or_else(|| fault("have no manifest.json; finish encoding them"))?;
        if manifest.shards.is_empty() {
            return Err(fault("have no shards"));
        }
        let shards = manifest.shards.iter().map(|entry| Shard::open(path, entry, &manifest.contents));
        let shards = shards.collect::<Result<Vec<_>, _>>()?;
        let sizes = shards.iter().flat_map(|shard| (0..shard.classes.len()).filter_map(|row| shard.size(row)));
        let buckets: BTreeSet<_> = sizes.map(|[height, width]| [manifest.contents.shape[0], height, width]).collect();
        let buckets = buckets.into_iter().collect();
        let sizes = manifest.shards.iter().map(|shard| shard.examples as u64);
        let starts = sizes.scan(0, |next, size| Some(std::mem::replace(next, *next + size))).collect();
        Ok(Self { folder: path.into(), manifest, shards, starts, buckets, posterior: PosteriorMode::default() })
    }

    /// The same, after a check that training can use it.
    ///
    /// # Errors
    /// If the latents are not normalised, or mirrored ones are wanted and not there.
    pub fn for_training(mut self, posterior: PosteriorMode, flip: bool) -> Result<Self, Error> {
        let fault = |reason: &str| Err(Error::Latents { path: self.folder.clone(), reason: reason.into() });
        if !self.manifest.contents.normalised {
            return fault("are not normalised, as networks expect them; encode them again");
        }
        if flip && !self.manifest.contents.flipped {
            return fault("have no mirrored twins; set `flip` to false or encode them with flipping");
        }
        self.posterior = posterior;
        Ok(self)
    }

    /// What the folder says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Name of an example's source.
    ///
    /// # Errors
    /// If it cannot be read.
    ///
    /// # Panics
    /// If the index is out of range.
    pub fn name(&self, index: u64) -> Result<String, Error> {
        let (shard, row) = self.find(index);
        shard.name(row)
    }

    fn find(&self, index: u64) -> (&Shard, usize) {
        let count = self.manifest.examples();
        assert!(index < count, "index {index} of {count} latents");
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        (&self.shards[shard], (index - self.starts[shard]) as usize)
    }

    /// The example at the mean, in whatever shape.
    pub(super) fn mean(&self, index: u64) -> Example {
        self.read(index, false, None)
    }

    /// The example, or its mirrored twin, at the mean or where `noise` says.
    fn read(&self, index: u64, mirrored: bool, noise: Option<&Variation>) -> Example {
        let contents = &self.manifest.contents;
        let (shard, row) = self.find(index);
        let single = 1 + usize::from(contents.deviation);
        let first = if mirrored { single + contents.features.len() } else { 0 };
        let mut pixels = shard.numbers(first, row, contents);
        if let Some(Variation { seed, position, .. }) = noise.filter(|_| contents.deviation) {
            let deviation = shard.numbers(first + 1, row, contents);
            let mut noise = vec![0.0; pixels.len()];
            random::normal(&mut random::rng(*seed, Stream::Posterior, *position), &mut noise);
            pixels.iter_mut().zip(deviation).zip(noise).for_each(|((mean, deviation), z)| *mean += deviation * z);
        }
        let features = (0..contents.features.len()).map(|k| shard.numbers(first + single + k, row, contents));
        let mut mask = contents.masked.then(|| shard.numbers(shard.last_column(), row, contents));
        if let Some(mask) = mask.as_mut().filter(|_| mirrored) {
            let width = shard.size(row).map_or(contents.shape[2], |[_, width]| width);
            mask.chunks_exact_mut(width).for_each(<[f32]>::reverse);
        }
        Example {
            pixels,
            label: shard.classes[row] as usize,
            features: features.collect(),
            mask,
            captions: shard.captions(row).to_vec(),
        }
    }
}

impl Dataset for Latents {
    fn len(&self) -> Option<u64> {
        Some(self.manifest.examples())
    }

    fn classes(&self) -> &[String] {
        &self.manifest.contents.classes
    }

    fn shape(&self) -> [usize; 3] {
        self.manifest.contents.shape
    }

    fn buckets(&self) -> &[[usize; 3]] {
        &self.buckets
    }

    fn bucket(&self, index: u64) -> usize {
        let (shard, row) = self.find(index);
        let channels = self.manifest.contents.shape[0];
        let shape = shard.size(row).map(|[height, width]| [channels, height, width]);
        shape.and_then(|shape| self.buckets.binary_search(&shape).ok()).unwrap_or(0)
    }

    /// # Errors
    /// [`Error::OtherShape`] where there are buckets and the latent is no square: a square of it is not stored.
    fn example(&self, index: u64) -> Result<Example, Error> {
        in_one_shape(self, index)?;
        Ok(self.mean(index))
    }

    fn label(&self, index: u64) -> Result<usize, Error> {
        let (shard, row) = self.find(index);
        Ok(shard.classes[row] as usize)
    }

    /// # Errors
    /// If a mirrored latent is wanted and not there.
    fn variant(&self, index: u64, variation: Variation) -> Result<Example, Error> {
        let mirrored = variation.mirrored();
        if mirrored && !self.manifest.contents.flipped {
            return Err(Error::Latents { path: self.folder.clone(), reason: "have no mirrored twins".into() });
        }
        Ok(self.read(index, mirrored, (self.posterior == PosteriorMode::Sample).then_some(&variation)))
    }

    fn masked(&self) -> bool {
        self.manifest.contents.masked
    }

    fn several_captions(&self) -> bool {
        self.manifest.contents.several_captions
    }

    fn features(&self) -> Vec<[usize; 2]> {
        self.manifest.contents.features.iter().map(|features| [features.tokens, features.width]).collect()
    }

    /// With the hashes of the shards as the content.
    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let examples = (0..self.manifest.examples()).map(|index| Ok((self.name(index)?, self.label(index)?)));
        let examples: Vec<_> = examples.collect::<Result<_, Error>>()?;
        let mut content = Sha256::new();
        self.manifest.shards.iter().for_each(|shard| content.update(&shard.sha256));
        let content = Some(hex::encode(content.finalize()));
        let captions = (0..self.manifest.examples()).map(|index| {
            let (shard, row) = self.find(index);
            shard.captions(row)
        });
        Ok(Fingerprint { content, ..Fingerprint::named(self.classes(), examples).with_captions(captions) })
    }
}
