//! Images that several processes make, each a part, in one folder.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use mixflow_backbones::listed;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::npz::Npz;
use crate::{Error, Shard};

/// The array of a part with its [`Label`] as JSON.
pub(crate) const LABEL: &str = "part";

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
    /// All that the images depend on, key by key: hashes of weights, settings, how they are drawn.
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

/// What a part says of itself.
#[derive(Serialize, Deserialize)]
struct Label {
    number: usize,
    of: PartsConfig,
}

/// A folder of images in parts: for each [`Shard`] an archive such as `part-00003-of-00016.npz`, which is whole or not there,
/// and which says what it is a part of. [`ImageSource`](super::images::ImageSource) reads those of bytes as one set of images.
///
/// Processes that share no memory can write to it at the same time, on one machine or on a file system of several.
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
        for name in names(&folder)?.iter().filter(|name| !name.starts_with('.')) {
            let shard =
                shard(name).ok_or_else(|| fault(format!("is no folder of parts: it holds {name}; choose another")))?;
            if shard.of() != config.parts {
                let (found, parts) = (shard.of(), config.parts);
                return Err(fault(format!("holds a part of {found} in all, not of {parts}; choose another folder")));
            }
            if let Ok(Some(label)) = label(&folder.join(name))
                && let Some(difference) = label.of.difference(&config)
            {
                return Err(fault(format!("holds parts made with {difference}; choose another folder")));
            }
        }
        Ok(Self { folder, config })
    }

    /// The parts in a folder, as one of them says of all; none if it has no parts.
    ///
    /// # Errors
    /// If it is no folder, and if a part cannot be read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Option<Self>, Error> {
        let folder = folder.into();
        for name in names(&folder)?.iter().filter(|name| shard(name).is_some()) {
            if let Some(Label { of: config, .. }) = label(&folder.join(name))? {
                return Ok(Some(Self { folder, config }));
            }
        }
        Ok(None)
    }

    /// What the parts are of.
    pub fn config(&self) -> &PartsConfig {
        &self.config
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The numbers of a part's images.
    pub fn images_of(&self, shard: Shard) -> Range<u64> {
        shard.of_batches(self.config.images, self.config.batch.max(1))
    }

    /// The file of a part.
    pub fn file(&self, shard: Shard) -> PathBuf {
        self.folder.join(shard.name()).with_extension("npz")
    }

    /// Whether a part is there. One that is cut off, or of something else, is not.
    pub fn has(&self, shard: Shard) -> bool {
        self.check(shard).is_ok()
    }

    /// What stands in the file of a part beside its images.
    pub(crate) fn label(&self, shard: Shard) -> Vec<u8> {
        let label = Label { number: shard.number(), of: self.config.clone() };
        serde_json::to_vec(&label).expect("plain data is JSON")
    }

    /// The files of all parts that have images, in order.
    ///
    /// # Errors
    /// Names the parts that are not there, and one that is of something else.
    pub fn files(&self) -> Result<Vec<PathBuf>, Error> {
        const SHOWN: usize = 20;
        let all = Shard::all(self.config.parts).map_err(|invalid| self.fault(&self.folder, invalid.to_string()))?;
        let all: Vec<Shard> = all.into_iter().filter(|shard| !self.images_of(*shard).is_empty()).collect();
        let missing = all.iter().filter(|shard| !self.file(**shard).is_file());
        let missing: Vec<String> = missing.map(Shard::to_string).collect();
        if !missing.is_empty() {
            let reason = format!("lacks parts that are to be made yet, with --shard {}", listed(&missing, SHOWN));
            return Err(self.fault(&self.folder, reason));
        }
        all.into_iter().map(|shard| self.check(shard).map(|()| self.file(shard))).collect()
    }

    /// Refuses a part that is not what its name and its folder say.
    fn check(&self, shard: Shard) -> Result<(), Error> {
        let file = self.file(shard);
        let label = label(&file)?.ok_or_else(|| self.fault(&file, "is no part of images: remove it".into()))?;
        let difference = self.config.difference(&label.of);
        match (difference, label.number == shard.number()) {
            (None, true) => Ok(()),
            (None, false) => Err(self.fault(&file, format!("is part {} by what it says itself", label.number))),
            (Some(difference), _) => {
                Err(self.fault(&file, format!("has {difference} as another part has: remove one of them")))
            }
        }
    }

    /// Refuses another number of images than they have together.
    pub(crate) fn check_count(&self, found: usize) -> Result<(), Error> {
        match self.config.images {
            images if images == found as u64 => Ok(()),
            images => Err(self.fault(&self.folder, format!("holds {found} images in its parts, expected {images}"))),
        }
    }

    fn fault(&self, path: &Path, reason: String) -> Error {
        Error::Images { path: path.into(), reason }
    }
}

/// Sorted names in a folder.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::io("list", folder))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// The part that a file is by its name.
fn shard(name: &str) -> Option<Shard> {
    Shard::named(name.strip_suffix(".npz")?)
}

/// What a part says of itself; none if it is an archive of something else.
fn label(file: &Path) -> Result<Option<Label>, Error> {
    /// More than anybody's settings have.
    const MOST: usize = 16 << 20;
    let mut archive = Npz::open(file)?;
    if !archive.has(LABEL) {
        return Ok(None);
    }
    let mut array = archive.array(LABEL)?;
    let [length] = array.shape()[..] else { return Ok(None) };
    let mut bytes = vec![0; length.min(MOST)];
    array.read(&mut bytes)?;
    let damaged = |error: serde_json::Error| Error::array(file, format!("{LABEL}: {error}"));
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
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
