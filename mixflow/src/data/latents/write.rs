//! Writing shards so that nothing half-written is ever read.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{Contents, MANIFEST, Manifest, ShardEntry, StoragePrecision, shard_name};
use super::shard::Rows;
use super::stamp::stamp;
use crate::data::source::SourceEntry;
use crate::files::{write_atomic, write_atomic_with};
use crate::{Error, data};

/// The manifest of a folder that is not finished.
pub(super) const PARTIAL: &str = "partial.json";

/// What an encoder makes of a batch of `n` images; rows one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedBatch {
    /// `[n, channels, height, width]`, mean of the posterior.
    pub mean: Vec<f32>,
    /// As `mean`, its standard deviation; given if and only if [`Contents::deviation`] says so.
    pub deviation: Option<Vec<f32>>,
    /// `[n, tokens, width]` for each of [`Contents::features`].
    pub features: Vec<Vec<f32>>,
    /// `[n, height, width]`, in [0, 1], of images that are not mirrored; given if and only if [`Contents::masked`].
    pub mask: Option<Vec<f32>>,
}

impl EncodedBatch {
    /// That of one of its `n` images.
    pub(super) fn of(&self, image: usize, n: usize) -> Self {
        let row = |all: &Vec<f32>| all[image * all.len() / n..(image + 1) * all.len() / n].to_vec();
        Self {
            mean: row(&self.mean),
            deviation: self.deviation.as_ref().map(row),
            features: self.features.iter().map(row).collect(),
            mask: self.mask.as_ref().map(row),
        }
    }
}

/// Which image a latent is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// What is known of it in its source.
    pub entry: SourceEntry,
    /// SHA-256 of its file.
    pub sha256: [u8; 32],
}

/// Writes a folder of latents, shard by shard.
///
/// A shard appears whole under its name or not at all and is never written again, then `partial.json` tells that it is
/// there; [`finish`] writes `manifest.json` last. A writer of a folder that was not finished continues after its last whole
/// shard. One of a finished folder adds shards, and until it has finished the folder holds what it held before.
///
/// [`finish`]: Self::finish
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    manifest: Manifest,
    rows: Rows,
    /// What is known of the images in `rows`.
    entries: Vec<SourceEntry>,
    /// Broken samples since the last whole shard.
    broken: Vec<String>,
    /// Whether it may finish without examples.
    may_be_empty: bool,
}

impl Writer {
    /// Starts or continues the folder at `path`.
    ///
    /// # Errors
    /// If the folder was begun with other contents, but for images and classes that are new, a shard of it is gone, or the
    /// file system refuses.
    pub fn open(path: &Path, contents: Contents) -> Result<Self, Error> {
        let fault = |reason: String| data::Error::Latents { path: path.into(), reason };
        contents.check().map_err(fault)?;
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        remove_leftovers(path).map_err(Error::io("clean", path))?;
        let mut manifest = begun(path)?.unwrap_or_else(|| Manifest::new(contents.clone()));
        if !manifest.knows_images() {
            let reason = "are of an earlier format, which does not say which images they are of: train on them as they \
                          are, or encode into another folder";
            return Err(fault(reason.into()).into());
        }
        if let Some(difference) = manifest.contents.difference(&contents) {
            let reason = format!("were begun with {difference}; choose another folder or the same settings");
            return Err(fault(reason).into());
        }
        manifest.contents = contents;
        // Those that are broken still are found again.
        manifest.broken.clear();
        for ShardEntry { file, bytes, .. } in &manifest.shards {
            let found = fs::metadata(path.join(file)).map_err(Error::io("continue with", &path.join(file)))?.len();
            if found != *bytes {
                let reason = format!("are damaged: `{file}` has {found} bytes of {bytes}; start in another folder");
                return Err(fault(reason).into());
            }
        }
        let rows = Rows::new(&manifest.contents);
        Ok(Self { folder: path.into(), rows, manifest, entries: vec![], broken: vec![], may_be_empty: false })
    }

    /// The same of a part, whose images may all be broken.
    #[must_use]
    pub fn of_part(self) -> Self {
        Self { may_be_empty: true, ..self }
    }

    /// Where it writes.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The whole shards.
    pub(super) fn shards(&self) -> &[ShardEntry] {
        &self.manifest.shards
    }

    /// Notes what the images of a shard were found unchanged by.
    pub(super) fn restamp(&mut self, shard: usize, stamp: Option<String>) {
        self.manifest.shards[shard].stamp = stamp;
    }

    /// What the folder holds.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.manifest.contents
    }

    /// Images that were pushed or skipped, now or before.
    #[must_use]
    pub fn read(&self) -> u64 {
        let pending = self.rows.classes.len() + self.broken.len() + self.manifest.broken.len();
        self.manifest.examples() + pending as u64
    }

    /// Examples that fit into the shard that is being filled.
    #[must_use]
    pub fn room(&self) -> usize {
        self.contents().shard_examples - self.rows.classes.len()
    }

    /// Takes a batch, and what became of its mirrored images if [`Contents::flipped`].
    ///
    /// # Errors
    /// If a number is not finite in the precision that is stored.
    ///
    /// # Panics
    /// If something has not the size that the contents say, or the batch exceeds the [`room`](Self::room).
    pub fn push(
        &mut self,
        images: &[Image],
        encoded: &EncodedBatch,
        mirrored: Option<&EncodedBatch>,
    ) -> Result<(), Error> {
        let [_, height, width] = self.manifest.contents.shape;
        self.push_sized(images, [height, width], encoded, mirrored)
    }

    /// The same of images whose latents have this height and width, where [`Contents::buckets`] has several.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    ///
    /// # Panics
    /// As [`push`](Self::push).
    pub fn push_sized(
        &mut self,
        images: &[Image],
        size: [usize; 2],
        encoded: &EncodedBatch,
        mirrored: Option<&EncodedBatch>,
    ) -> Result<(), Error> {
        let contents = &self.manifest.contents;
        let own = size[..] == contents.shape[1..];
        assert!(own || contents.buckets.is_some(), "latents of {size:?}, where all have shape {:?}", contents.shape);
        assert!(images.len() <= self.room(), "{} examples for {} places", images.len(), self.room());
        assert_eq!(mirrored.is_some(), contents.flipped, "mirrored images are given if and only if they are stored");
        assert_eq!(encoded.mask.is_some(), contents.masked, "masks are given if and only if they are stored");
        let masks = encoded.mask.iter().map(|mask| ("mask", mask, size.iter().product()));
        let mut batches = vec![];
        for EncodedBatch { mean, deviation, features, .. } in [Some(encoded), mirrored].into_iter().flatten() {
            assert_eq!(deviation.is_some(), contents.deviation, "deviations are given if and only if they are stored");
            assert_eq!(features.len(), contents.features.len(), "encoders of features");
            let latent = contents.numbers(size);
            let mut parts = vec![("latent", mean, latent)];
            parts.extend(deviation.as_ref().map(|deviation| ("deviation", deviation, latent)));
            let sizes = contents.features.iter().map(|of| of.tokens * of.width);
            parts.extend(features.iter().zip(sizes).map(|(features, size)| ("feature", features, size)));
            batches.extend(parts);
        }
        for ((what, numbers, size), bytes) in batches.into_iter().chain(masks).zip(&mut self.rows.columns) {
            assert_eq!(numbers.len(), images.len() * size, "numbers of {what}s of {} images", images.len());
            for (row, Image { entry, .. }) in numbers.chunks(size).zip(images) {
                if let Some(number) = contents.precision.narrow(row, bytes) {
                    let reason = unfit(what, &entry.name, number, contents.precision);
                    return Err(data::Error::Latents { path: self.folder.clone(), reason }.into());
                }
            }
        }
        for Image { entry, sha256 } in images {
            let SourceEntry { name, class, .. } = entry;
            assert!(*class < contents.classes.len(), "class {class} of {}", contents.classes.len());
            self.rows.names.push_str(name);
            self.rows.name_ends.push(self.rows.names.len() as i64);
            self.rows.classes.push(*class as i64);
            self.rows.hashes.push(*sha256);
            self.rows.sizes.push(size.map(|side| side as i64));
            if contents.several_captions {
                let (labels, weights) = &mut self.rows.captions;
                for (label, weight) in entry.weighted_labels() {
                    assert!(label < contents.classes.len(), "caption {label} of {}", contents.classes.len());
                    labels.push(label as i64);
                    weights.push(weight);
                }
                self.rows.caption_ends.push(labels.len() as i64);
            }
            self.entries.push(entry.clone());
        }
        Ok(())
    }

    /// Notes a sample that is left out.
    pub fn skip(&mut self, name: String) {
        self.broken.push(name);
    }

    /// Writes the shard if it is full.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.room() == 0 { self.write_shard() } else { Ok(()) }
    }

    /// Writes the last shard and the manifest.
    ///
    /// # Errors
    /// If there is no example, or the file system refuses.
    pub fn finish(mut self) -> Result<Manifest, Error> {
        if !self.rows.classes.is_empty() {
            self.write_shard()?;
        }
        if self.manifest.shards.is_empty() && !self.may_be_empty {
            let reason = format!("would be empty: none of {} images could be read", self.read());
            return Err(data::Error::Latents { path: self.folder, reason }.into());
        }
        self.count();
        write_atomic(&self.folder.join(MANIFEST), &self.manifest.to_json())?;
        match fs::remove_file(self.folder.join(PARTIAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.folder.join(PARTIAL))(error))
            }
            _ => Ok(self.manifest),
        }
    }

    /// Counts what is written, and what was left out before it.
    fn count(&mut self) {
        self.manifest.broken.append(&mut self.broken);
        self.manifest.read = self.read();
    }

    fn write_shard(&mut self) -> Result<(), Error> {
        let file = shard_name(self.manifest.shards.len());
        let contents = self.manifest.contents.clone();
        let rows = std::mem::replace(&mut self.rows, Rows::new(&contents));
        let (mut bytes, mut sha256) = (0, String::new());
        write_atomic_with(&self.folder.join(&file), |file| {
            let mut hashing = Hashing { file: BufWriter::new(file), digest: Sha256::new(), bytes: 0 };
            rows.write(&contents, &mut hashing)?;
            hashing.flush()?;
            (bytes, sha256) = (hashing.bytes, hex::encode(hashing.digest.finalize()));
            Ok(())
        })?;
        let stamp = stamp(&std::mem::take(&mut self.entries));
        self.manifest.shards.push(ShardEntry { file, examples: rows.classes.len(), bytes, sha256, stamp });
        self.count();
        write_atomic(&self.folder.join(PARTIAL), &self.manifest.to_json())
    }
}

/// What was written into a folder so far, finished or not.
pub(in crate::data) fn begun(folder: &Path) -> Result<Option<Manifest>, data::Error> {
    Ok(match (Manifest::read(&folder.join(MANIFEST))?, Manifest::read(&folder.join(PARTIAL))?) {
        (Some(finished), Some(more)) if !more.extends(&finished) => Some(finished),
        (finished, more) => more.or(finished),
    })
}

/// Counts and hashes what goes to a file.
struct Hashing<'a> {
    file: BufWriter<&'a mut File>,
    digest: Sha256,
    bytes: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes temporary files of a process that was killed.
fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".tmp") && [".shard-", ".partial.", ".manifest."].iter().any(|start| name.starts_with(start))
        {
            fs::remove_file(folder.join(&*name))?;
        }
    }
    Ok(())
}

/// Why a number cannot be stored, and what to do.
fn unfit(what: &str, image: &str, number: f32, precision: StoragePrecision) -> String {
    if number.is_finite() {
        let precision = precision.dtype();
        format!("cannot hold the {what} of `{image}`: {number} is too large for {precision}; store bf16 or f32")
    } else {
        format!(
            "cannot hold the {what} of `{image}`: the encoder makes {number} of it; leave the image out or repair it"
        )
    }
}
