//! Writing shards so that nothing half-written is ever read.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{Contents, MANIFEST, Manifest, ShardEntry, shard_name};
use super::number::narrow;
use super::shard::Rows;
use crate::digest::hexadecimal;
use crate::report::{write_atomic, write_atomic_with};
use crate::{Error, data};

/// The manifest of a folder that is not finished.
const PARTIAL: &str = "partial.json";

/// What an encoder makes of a batch of `n` images; rows one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// `[n, channels, height, width]`, mean of the posterior.
    pub mean: Vec<f32>,
    /// As `mean`, its standard deviation; given if and only if [`Contents::deviation`] says so.
    pub deviation: Option<Vec<f32>>,
    /// `[n, tokens, width]` for each of [`Contents::features`].
    pub features: Vec<Vec<f32>>,
}

/// Writes a folder of latents, shard by shard.
///
/// A shard appears whole under its name or not at all, then `partial.json` tells that it is there; [`finish`] writes
/// `manifest.json` last. A writer of a folder that was not finished continues after its last whole shard.
///
/// [`finish`]: Self::finish
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    manifest: Manifest,
    rows: Rows,
    /// Broken samples since the last whole shard.
    broken: Vec<String>,
}

impl Writer {
    /// Starts or continues the folder at `path`.
    ///
    /// # Errors
    /// If the folder was begun with other contents, a shard of it is gone, or the file system refuses.
    pub fn open(path: &Path, contents: Contents) -> Result<Self, Error> {
        let fault = |reason: String| data::Error::Latents { path: path.into(), reason };
        contents.check().map_err(fault)?;
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        remove_leftovers(path).map_err(Error::io("clean", path))?;
        let begun = match Manifest::read(&path.join(MANIFEST))? {
            Some(finished) => Some(finished),
            None => Manifest::read(&path.join(PARTIAL))?,
        };
        let manifest = begun.unwrap_or_else(|| Manifest::new(contents.clone()));
        if let Some(key) = manifest.contents.difference(&contents) {
            let reason = format!("were begun with another `{key}`; choose another folder or the same settings");
            return Err(fault(reason).into());
        }
        for ShardEntry { file, bytes, .. } in &manifest.shards {
            let found = fs::metadata(path.join(file)).map_err(Error::io("continue with", &path.join(file)))?.len();
            if found != *bytes {
                let reason = format!("are damaged: `{file}` has {found} bytes of {bytes}; start in another folder");
                return Err(fault(reason).into());
            }
        }
        Ok(Self { folder: path.into(), rows: Rows::new(&contents), manifest, broken: Vec::new() })
    }

    /// What the folder holds.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.manifest.contents
    }

    /// Samples of the source whose latents are written: the number of the one to continue with.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.manifest.read
    }

    /// Examples that fit into the shard that is being filled.
    #[must_use]
    pub fn room(&self) -> usize {
        self.contents().shard_examples - self.rows.classes.len()
    }

    /// Takes a batch, and what became of its mirrored images if [`Contents::flipped`], with names and classes.
    ///
    /// # Errors
    /// If a number is not finite in the precision that is stored.
    ///
    /// # Panics
    /// If something has not the size that the contents say, or the batch exceeds the [`room`](Self::room).
    pub fn push(
        &mut self,
        samples: &[(String, usize)],
        encoded: &Encoded,
        mirrored: Option<&Encoded>,
    ) -> Result<(), Error> {
        let contents = &self.manifest.contents;
        assert!(samples.len() <= self.room(), "{} examples for {} places", samples.len(), self.room());
        assert_eq!(mirrored.is_some(), contents.flipped, "mirrored images are given if and only if they are stored");
        let mut columns = self.rows.columns.iter_mut();
        for encoded in [Some(encoded), mirrored].into_iter().flatten() {
            let Encoded { mean, deviation, features } = encoded;
            assert_eq!(deviation.is_some(), contents.deviation, "deviations are given if and only if they are stored");
            assert_eq!(features.len(), contents.features.len(), "encoders of features");
            let latent = contents.numbers();
            let mut parts = vec![("latent", mean, latent)];
            parts.extend(deviation.as_ref().map(|deviation| ("deviation", deviation, latent)));
            let sizes = contents.features.iter().map(|of| of.tokens * of.width);
            parts.extend(features.iter().zip(sizes).map(|(features, size)| ("feature", features, size)));
            for ((what, numbers, size), bytes) in parts.into_iter().zip(&mut columns) {
                assert_eq!(numbers.len(), samples.len() * size, "numbers of {what}s of {} images", samples.len());
                for (row, (name, _)) in numbers.chunks(size).zip(samples) {
                    if !narrow(row, contents.precision, bytes) {
                        let precision = contents.precision.dtype();
                        let reason = format!("cannot hold the {what} of `{name}`: not finite in {precision}");
                        return Err(data::Error::Latents { path: self.folder.clone(), reason }.into());
                    }
                }
            }
        }
        for (name, class) in samples {
            assert!(*class < contents.classes.len(), "class {class} of {}", contents.classes.len());
            self.rows.names.push_str(name);
            self.rows.name_ends.push(self.rows.names.len() as i64);
            self.rows.classes.push(*class as i64);
        }
        Ok(())
    }

    /// Notes a sample that is left out.
    pub fn skip(&mut self, name: String) {
        self.broken.push(name);
    }

    /// Tells that the first `read` samples of the source were pushed or skipped. Writes the shard if it is full.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn commit(&mut self, read: u64) -> Result<(), Error> {
        if self.room() == 0 { self.write_shard(read) } else { Ok(()) }
    }

    /// Writes the last shard and the manifest.
    ///
    /// # Errors
    /// If there is no example, or the file system refuses.
    pub fn finish(mut self, read: u64) -> Result<Manifest, Error> {
        if !self.rows.classes.is_empty() {
            self.write_shard(read)?;
        }
        if self.manifest.shards.is_empty() {
            let reason = format!("would be empty: none of {read} images could be read");
            return Err(data::Error::Latents { path: self.folder, reason }.into());
        }
        self.manifest.broken.append(&mut self.broken);
        self.manifest.read = read;
        write_atomic(&self.folder.join(MANIFEST), &json(&self.manifest))?;
        match fs::remove_file(self.folder.join(PARTIAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.folder.join(PARTIAL))(error))
            }
            _ => Ok(self.manifest),
        }
    }

    fn write_shard(&mut self, read: u64) -> Result<(), Error> {
        let file = shard_name(self.manifest.shards.len());
        let contents = self.manifest.contents.clone();
        let rows = std::mem::replace(&mut self.rows, Rows::new(&contents));
        let (mut bytes, mut sha256) = (0, String::new());
        write_atomic_with(&self.folder.join(&file), |file| {
            let mut hashing = Hashing { file: BufWriter::new(file), digest: Sha256::new(), bytes: 0 };
            rows.write(&contents, &mut hashing)?;
            hashing.flush()?;
            (bytes, sha256) = (hashing.bytes, hexadecimal(&hashing.digest.finalize()));
            Ok(())
        })?;
        self.manifest.shards.push(ShardEntry { file, examples: rows.classes.len(), bytes, sha256 });
        self.manifest.broken.append(&mut self.broken);
        self.manifest.read = read;
        write_atomic(&self.folder.join(PARTIAL), &json(&self.manifest))
    }
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

fn json(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec_pretty(manifest).expect("plain numbers and text are JSON")
}
