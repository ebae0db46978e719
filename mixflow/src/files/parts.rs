//! Images that several processes make, each a part, in one folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::write_atomic;
use crate::{Error, Shard};

/// What tells a folder of parts from others.
const MANIFEST: &str = "parts.json";

/// What the parts of a folder are parts of: for all of them the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartsConfig {
    /// Images in all.
    pub images: u64,
    /// Parts in all.
    pub parts: usize,
    /// Images of a batch, which are in one part.
    pub batch: u64,
    /// How they are stored.
    pub values: PartValues,
    /// All that the images depend on, key by key: hashes of weights, how they are drawn.
    pub made: Map<String, Value>,
}

/// How images are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartValues {
    /// As bytes, in the array `arr_0` of shape `[images, height, width, channels]`: what evaluators read.
    Bytes,
    /// As they are, in the array `images` of shape `[images, channels, height, width]`.
    F32,
}

/// A folder of images in parts: `parts.json`, a [`PartsConfig`], and for each [`Shard`] an archive such as
/// `part-00003-of-00016.npz`, which is whole or not there. [`ImageSource`](super::images::ImageSource) reads those of bytes
/// as one set of images.
///
/// Processes that share no memory can write to it at the same time, on one machine or on a file system of several: each
/// writes its own file, and all the same `parts.json`.
#[derive(Clone, Debug)]
pub struct Parts {
    folder: PathBuf,
    config: PartsConfig,
}

impl Parts {
    /// The folder of such parts, which is made if it is not there.
    ///
    /// # Errors
    /// If it holds parts of anything else, something that is no part, or cannot be written.
    pub fn begin(folder: impl Into<PathBuf>, config: PartsConfig) -> Result<Self, Error> {
        let folder = folder.into();
        let fault = |reason: String| Error::Export { path: folder.clone(), reason };
        if folder.is_file() {
            return Err(fault("expected a folder for the parts, found a file".into()));
        }
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let entries = fs::read_dir(&folder).map_err(Error::io("list", &folder))?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let foreign = |name: &String| !(name == MANIFEST || name.starts_with('.') || name.starts_with("part-"));
        if let Some(name) = names.into_iter().find(foreign) {
            return Err(fault(format!("is no folder of parts: it holds {name}; choose another")));
        }
        match Self::open(&folder)? {
            Some(parts) => {
                if let Some(difference) = parts.config.difference(&config) {
                    return Err(fault(format!("holds parts made with {difference}; choose another folder")));
                }
                Ok(parts)
            }
            None => {
                let json = serde_json::to_vec_pretty(&config).expect("plain data is JSON");
                write_atomic(&folder.join(MANIFEST), &json)?;
                Ok(Self { folder, config })
            }
        }
    }

    /// The parts in a folder; none if it is another folder.
    ///
    /// # Errors
    /// If what it says of itself cannot be read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Option<Self>, Error> {
        let folder = folder.into();
        let file = folder.join(MANIFEST);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &file)(error)),
        };
        let damaged = |reason: String| Error::Images { path: file.clone(), reason: format!("is damaged: {reason}") };
        let config: PartsConfig = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        Shard::all(config.parts).map_err(|invalid| damaged(invalid.to_string()))?;
        Ok(Some(Self { folder, config }))
    }

    /// What the parts are of.
    pub fn config(&self) -> &PartsConfig {
        &self.config
    }

    /// The numbers of a part's images.
    pub fn images_of(&self, shard: Shard) -> std::ops::Range<u64> {
        shard.of_batches(self.config.images, self.config.batch.max(1))
    }

    /// The file of a part.
    pub fn file(&self, shard: Shard) -> PathBuf {
        self.folder.join(shard.name()).with_extension("npz")
    }

    /// The files of all parts that have images, in order.
    ///
    /// # Errors
    /// Names the parts that are not there.
    pub fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let all = Shard::all(self.config.parts).expect("the number of parts was checked");
        let all: Vec<Shard> = all.into_iter().filter(|shard| !self.images_of(*shard).is_empty()).collect();
        let missing: Vec<String> =
            all.iter().filter(|shard| !self.file(**shard).is_file()).map(Shard::to_string).collect();
        match missing.len() {
            0 => Ok(all.into_iter().map(|shard| self.file(shard)).collect()),
            count => {
                const SHOWN: usize = 20;
                let more = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
                let names = missing[..count.min(SHOWN)].join(", ");
                let reason = format!("lacks parts that are to be made yet, with --shard {names}{more}");
                Err(Error::Images { path: self.folder.clone(), reason })
            }
        }
    }

    /// Refuses another number of images than they have together.
    pub(crate) fn check_count(&self, found: usize) -> Result<(), Error> {
        match self.config.images {
            images if images == found as u64 => Ok(()),
            images => {
                let reason = format!("holds {found} images in its parts, expected {images}");
                Err(Error::Images { path: self.folder.clone(), reason })
            }
        }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl PartsConfig {
    /// The first thing that parts of `other` would have another of, with both values.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let flat = |config: &Self| {
            let mut all = BTreeMap::new();
            leaves(serde_json::to_value(config).expect("plain data is JSON"), "", &mut all);
            all
        };
        let (one, two) = (flat(self), flat(other));
        let key = one.keys().chain(two.keys()).find(|key| one.get(*key) != two.get(*key))?;
        let [old, new] = [&one, &two].map(|all| all.get(key).map_or("none".into(), Value::to_string));
        Some(format!("another `{}`, {old}, not {new}", key.trim_start_matches("made.")))
    }
}

/// The values of an object by dotted keys.
fn leaves(value: Value, key: &str, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => map.into_iter().for_each(|(part, value)| {
            leaves(value, &if key.is_empty() { part } else { format!("{key}.{part}") }, all);
        }),
        value => drop(all.insert(key.into(), value)),
    }
}
