//! Names and values of a network's parameters, to and from files.
//!
//! ```
//! use burn::tensor::Device;
//! use mixflow_backbones::sit::{SitConfig, official_key};
//! use mixflow_backbones::weights::Weights;
//!
//! # fn main() -> Result<(), mixflow_backbones::Error> {
//! # let folder = tempfile::tempdir().expect("a temporary folder");
//! # let path = folder.path().join("sit.safetensors");
//! let config = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
//! let sit = config.init(0, &Device::default());
//! Weights::of(&sit, official_key).write(&path, &[])?;
//!
//! let other = config.init(1, &Device::default());
//! let same = Weights::read(&path)?.into_module(other, official_key)?;
//! # let _ = same;
//! # Ok(())
//! # }
//! ```

mod mismatch;
mod module;
mod pickle;
mod pytorch;
mod safetensors;
mod shards;

pub use mismatch::{Misfit, Mismatch};

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;

use burn::tensor::TensorData;

use crate::Error;

/// Tensors by their official names, in the order of the names.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, TensorData>,
    source: String,
}

/// Which of the networks in a training checkpoint to read.
///
/// A PyTorch checkpoint is a dictionary; these are the keys under which the published training scripts put state dicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The averaged network: `ema` or `model_ema`.
    Ema,
    /// The network as trained: `model` or `state_dict`.
    Model,
    /// The file itself is a state dict, as every `.safetensors` is.
    Bare,
}

impl Weights {
    /// Reads the weights that a file is used with: the averaged ones where there are any, else the trained ones, else
    /// the file's own. [`source`](Self::source) tells which.
    ///
    /// The format is told by content: safetensors, or what `torch.save` writes since PyTorch 0.1.10. A prefix of
    /// `torch.nn.parallel` or `torch.compile` (`module.`, `_orig_mod.`) that all names of a PyTorch file share is
    /// dropped. A `.safetensors.index.json` stands for the shards beside it that it names.
    ///
    /// # Errors
    /// If the file cannot be read, is neither, or is damaged, or if a pickle names a class that weights do not need:
    /// nothing is ever executed. Memory is bounded by the size of the file, and 256 MiB for a pickle that copies itself.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        read(path.as_ref(), None)
    }

    /// Reads one part of a checkpoint.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if the file lacks that part.
    pub fn read_part(path: impl AsRef<Path>, part: Part) -> Result<Self, Error> {
        read(path.as_ref(), Some(part))
    }

    /// Reads the bytes of a `.safetensors` file.
    ///
    /// # Errors
    /// If they are damaged.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let path = Path::new("memory");
        Ok(Self { tensors: safetensors::read(path, bytes, bytes.len() as u64)?, source: "memory".into() })
    }

    /// Writes a `.safetensors` file with `metadata`, pairs of key and value. Readers see the old file or the new one,
    /// whole, whenever the program stops.
    ///
    /// # Errors
    /// If the folder does not exist or cannot be written, or the disk is full: then the old file is as it was.
    pub fn write(&self, path: impl AsRef<Path>, metadata: &[(&str, &str)]) -> Result<(), Error> {
        let path = path.as_ref();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.partial", std::process::id()));
        let partial = folder.join(name);
        let written = File::create(&partial).and_then(|mut file| {
            file.write_all(&self.to_safetensors(metadata))?;
            file.sync_all()?;
            fs::rename(&partial, path)?;
            // The new name lasts once the folder is on disk; not every system can be asked for that.
            File::open(folder).and_then(|folder| folder.sync_all()).or(Ok(()))
        });
        written.map_err(|error| {
            // What stopped the write is the error to report.
            let _ = fs::remove_file(&partial);
            Error::writing(path)(error)
        })
    }

    /// The bytes of a `.safetensors` file: equal weights and metadata give equal bytes.
    pub fn to_safetensors(&self, metadata: &[(&str, &str)]) -> Vec<u8> {
        safetensors::encode(&self.tensors, metadata)
    }

    /// Where the weights come from, for people to read: a file and the part of it, or "a network".
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&TensorData> {
        self.tensors.get(name)
    }

    /// Names and tensors, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &TensorData)> {
        self.tensors.iter().map(|(name, data)| (name.as_str(), data))
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// Removes the tensor of this name; whether there was one.
    #[cfg(test)]
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.tensors.remove(name).is_some()
    }

    /// The same weights under other names, a tensor as none, one or several.
    pub(crate) fn flat_map<I>(self, mut f: impl FnMut(String, TensorData) -> I) -> Self
    where
        I: IntoIterator<Item = (String, TensorData)>,
    {
        let tensors = self.tensors.into_iter().flat_map(|(name, data)| f(name, data)).collect();
        Self { tensors, source: self.source }
    }

    /// Other names for some tensors, and none for those that are to be left out.
    pub(crate) fn rename(self, name: impl Fn(&str) -> Option<String>) -> Self {
        self.flat_map(|old, data| Some((name(&old)?, data)))
    }

    /// The tensors of both; those of `other` count where both have one of a name.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.tensors.extend(other.tensors);
        Self { tensors: self.tensors, source: format!("{} and {}", self.source, other.source) }
    }

    pub(crate) fn insert_missing(&mut self, name: &str, data: impl FnOnce() -> TensorData) {
        self.tensors.entry(name.into()).or_insert_with(data);
    }
}

fn read(path: &Path, part: Option<Part>) -> Result<Weights, Error> {
    let mut file = File::open(path).map_err(Error::reading(path))?;
    let mut start = Vec::new();
    (&file).take(16).read_to_end(&mut start).map_err(Error::reading(path))?;
    if start.is_empty() {
        return Err(Error::format(path, "is empty"));
    }
    if start == *b"version https://" {
        return Err(Error::format(
            path,
            "is a Git LFS pointer: fetch the file that it stands for, with `git lfs pull`",
        ));
    }
    if shards::is_index(path) {
        return shards::read(path, part);
    }
    if !safetensors::starts_like_one(&start) {
        return pytorch::read(path, part);
    }
    if let Some(part @ (Part::Ema | Part::Model)) = part {
        return Err(Error::format(path, format!("is a safetensors file, which has no part {part:?}: read it whole")));
    }
    let size = file.rewind().and_then(|()| file.metadata()).map_err(Error::reading(path))?.len();
    Ok(Weights { tensors: safetensors::read(path, file, size)?, source: path.display().to_string() })
}

#[cfg(test)]
mod tests;
