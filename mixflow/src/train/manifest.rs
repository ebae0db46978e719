//! What the files of a checkpoint are, in its `manifest.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mixflow_backbones::json::explain;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::files::digest;

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) files: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize, PartialEq)]
pub(super) struct Entry {
    bytes: u64,
    sha256: String,
}

impl Entry {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
    }
}

impl Manifest {
    pub(super) fn read(checkpoint: &Path) -> Result<Self, Error> {
        let damaged = |reason: String| damaged(checkpoint, reason);
        let text = fs::read(checkpoint.join(MANIFEST)).map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| damaged(format!("{MANIFEST} is not a manifest: {}", explain(&error))))?;
        if manifest.format != 1 {
            return Err(damaged(format!("{MANIFEST} has format {}, this version reads format 1", manifest.format)));
        }
        Ok(manifest)
    }

    fn entry(&self, checkpoint: &Path, name: &str) -> Result<&Entry, Error> {
        self.files.get(name).ok_or_else(|| damaged(checkpoint, format!("{MANIFEST} does not list {name}")))
    }

    /// The content of a file; an error unless it has the size and the hash that were written.
    pub(super) fn whole(&self, checkpoint: &Path, name: &str) -> Result<Vec<u8>, Error> {
        let expected = self.entry(checkpoint, name)?;
        let bytes = fs::read(checkpoint.join(name)).map_err(|error| damaged(checkpoint, format!("{name}: {error}")))?;
        let found = Entry::of(&bytes);
        if found == *expected { Ok(bytes) } else { Err(other(checkpoint, name, found.bytes, expected)) }
    }

    /// A file, which has the content that was written, while the others have their sizes. It is read piece by piece.
    pub(super) fn file(&self, checkpoint: &Path, name: &str) -> Result<PathBuf, Error> {
        let expected = self.entry(checkpoint, name)?;
        let path = checkpoint.join(name);
        let fault = |error| damaged(checkpoint, format!("{name}: {error}"));
        let (bytes, sha256) = (path.metadata().map_err(fault)?.len(), digest::file(&path).map_err(fault)?);
        if bytes != expected.bytes || sha256 != expected.sha256 {
            return Err(other(checkpoint, name, bytes, expected));
        }
        self.check_sizes(checkpoint)?;
        Ok(path)
    }

    /// Whether the files have the sizes that they should have.
    pub(super) fn check_sizes(&self, checkpoint: &Path) -> Result<(), Error> {
        let is_short = |(file, entry): &(&String, &Entry)| {
            fs::metadata(checkpoint.join(file)).map_or(true, |found| found.len() != entry.bytes)
        };
        match self.files.iter().find(is_short) {
            Some((file, Entry { bytes, .. })) => {
                Err(damaged(checkpoint, format!("{file} has not the {bytes} bytes it should have")))
            }
            None => Ok(()),
        }
    }
}

fn other(checkpoint: &Path, name: &str, found: u64, expected: &Entry) -> Error {
    let reason = format!("{name} is not what was written ({found} bytes of {}, or other content)", expected.bytes);
    damaged(checkpoint, reason)
}

pub(super) fn damaged(checkpoint: &Path, reason: String) -> Error {
    Error::Damaged { path: checkpoint.into(), reason }
}
