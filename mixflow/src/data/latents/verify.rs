//! Whether shards hold what was written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Latents;
use crate::data::Error;
use crate::files::{digest, write_atomic};

/// Shards whose hashes were compared, by name: a note, so that a run that goes on does not read unchanged files again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Verified(BTreeMap<String, VerifiedShard>);

/// A shard as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VerifiedShard {
    sha256: String,
    /// Size and times of the file.
    stamp: String,
}

impl Verified {
    /// The note in a file; an empty one if there is none that can be read.
    #[must_use]
    pub fn read(file: &Path) -> Self {
        fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), crate::Error> {
        write_atomic(file, &serde_json::to_vec_pretty(self).expect("text is JSON"))
    }
}

impl Latents {
    /// Compares all shards with the manifest's SHA-256. Those that `before` knows with their present size and times are
    /// believed. `progress` hears how many bytes of how many are done.
    ///
    /// # Errors
    /// For the first shard that is not what was written.
    pub fn verify(&self, before: &Verified, mut progress: impl FnMut(u64, u64)) -> Result<Verified, Error> {
        let mut verified = BTreeMap::new();
        let (mut done, all) = (0, self.manifest.bytes());
        for entry in &self.manifest.shards {
            let path = self.folder.join(&entry.file);
            // Before the content: a file that changes meanwhile is read again next time.
            let stamp = digest::stamp(&path);
            let known = before.0.get(&entry.file).filter(|found| found.sha256 == entry.sha256);
            if known.is_none_or(|found| Some(&found.stamp) != stamp.as_ref()) {
                let reason = match digest::file(&path) {
                    Ok(found) if found == entry.sha256 => None,
                    Ok(found) => Some(format!(
                        "are damaged: the file has SHA-256 {found}, but {} was written; restore it from a copy, or encode \
                         into another folder",
                        entry.sha256
                    )),
                    Err(error) => Some(format!("cannot be read: {error}")),
                };
                if let Some(reason) = reason {
                    return Err(Error::Latents { path, reason });
                }
            }
            if let Some(stamp) = stamp {
                verified.insert(entry.file.clone(), VerifiedShard { sha256: entry.sha256.clone(), stamp });
            }
            done += entry.bytes;
            progress(done, all);
        }
        Ok(Verified(verified))
    }
}
