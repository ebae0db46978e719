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

mod choice;
mod finite;
mod float8;
mod lazy;
mod module;
mod pickle;
mod pytorch;
mod safetensors;
mod shards;
mod torch_save;
mod widen;

pub use lazy::LazyTensor;

pub use crate::mismatch::{Misfit, Mismatch};

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;

use self::safetensors::Source;
use crate::Error;
use crate::not_data::{LOOKED_AT, why_not_binary, why_not_data};
use crate::unfinished::Unfinished;

/// Tensors by their official names, in the order of the names.
///
/// Those of a file stay in it until they are asked for: a network takes them one by one, once all names and shapes are
/// found to be its own.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, LazyTensor>,
    source: String,
    part: Option<&'static str>,
    choices: Vec<String>,
    /// Names that more than one tensor got.
    twins: Vec<String>,
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

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Ema => "ema",
            Self::Model => "model",
            Self::Bare => "bare",
        }
    }
}

impl Weights {
    /// Opens the weights that a file is used with: the averaged ones where there are any, else the trained ones, else
    /// the file's own. [`source`](Self::source) tells which.
    ///
    /// The format is told by content: safetensors, or what `torch.save` writes since PyTorch 0.1.10. Prefixes of
    /// `torch.nn.parallel` and `torch.compile` (`module.`, `_orig_mod.`) that all names share are dropped; networks drop
    /// others when they are loaded, see [`network`](Self::network). A `.safetensors.index.json` stands for the shards beside
    /// it that it names. Numbers of 8 bits in safetensors are read as the same in `f16`; a tensor of a type that is not known
    /// is an error once it is read.
    ///
    /// # Errors
    /// If the file cannot be read, is neither, or what it says of its tensors is damaged, or if a pickle names a class that
    /// weights do not need: nothing is ever executed. Memory is bounded by the size of the file, and 256 MiB for a pickle
    /// that copies itself. The file must stay as it is while the weights live; to replace it, another file is renamed to its
    /// name, as everything here writes.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        read(path.as_ref(), None)
    }

    /// Opens one part of a checkpoint.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if the file lacks that part.
    pub fn read_part(path: impl AsRef<Path>, part: Part) -> Result<Self, Error> {
        read(path.as_ref(), Some(part))
    }

    /// The files that [`read`](Self::read) reads at a path: the file itself, and the shards beside it if it is their index.
    ///
    /// # Errors
    /// If an index cannot be read.
    pub fn files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
        let path = path.as_ref();
        let shards = if shards::is_index(path) { shards::files(path)? } else { vec![] };
        Ok([vec![path.into()], shards].concat())
    }

    /// Reads the bytes of a `.safetensors` file.
    ///
    /// # Errors
    /// If they are damaged.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let path = Path::new("memory");
        let tensors = safetensors::read(path, Source::Memory(bytes.to_vec()))?;
        Ok(Self { tensors, source: "memory".into(), ..Self::default() }.unwrapped())
    }

    /// Writes a `.safetensors` file with `metadata`, pairs of key and value. Readers see the old file or the new one,
    /// whole, whenever the program stops.
    ///
    /// # Errors
    /// If the folder does not exist or cannot be written, or the disk is full, or a tensor cannot be read, or two got one name:
    /// then the old file is as it was.
    pub fn write(&self, path: impl AsRef<Path>, metadata: &[(&str, &str)]) -> Result<(), Error> {
        let path = path.as_ref();
        self.check_names()?;
        replace(path, |mut file| {
            safetensors::write(&self.tensors, metadata, |bytes| file.write_all(bytes).map_err(Error::writing(path)))
        })
    }

    /// Writes a file as `torch.save` does of a dictionary of tensors; `torch.load(..., weights_only=True)` reads it. The old
    /// file or the new one is there, as with [`write`](Self::write).
    ///
    /// # Errors
    /// As [`write`](Self::write), and for types that PyTorch does not store so: unsigned ones of more than 8 bits.
    pub fn write_pytorch(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        self.check_names()?;
        replace(path, |file| torch_save::write(path, file, &self.tensors))
    }

    /// The bytes of a `.safetensors` file: equal weights and metadata give equal bytes.
    ///
    /// # Errors
    /// If a tensor cannot be read, or two got one name.
    pub fn to_safetensors(&self, metadata: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
        self.check_names()?;
        let mut file = Vec::new();
        safetensors::write(&self.tensors, metadata, |bytes| {
            file.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(file)
    }

    /// Where the weights come from, for people to read: a file and what was [chosen](Self::choices) of it, or "a network".
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The key of a training checkpoint that the network was found under, such as `ema`; none if the file is one network.
    pub fn part(&self) -> Option<&'static str> {
        self.part
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&LazyTensor> {
        self.tensors.get(name)
    }

    /// Names and tensors, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &LazyTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// Removes the tensor of this name; whether there was one.
    #[cfg(test)]
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.tensors.remove(name).is_some()
    }

    /// The same weights under other names: `f` takes every name with its tensor, and gives none, one or several. Where two
    /// get one name, no network and no file takes them.
    ///
    /// ```
    /// use mixflow_backbones::weights::Weights;
    ///
    /// # let weights = Weights::default();
    /// // Without what an optimiser left in the file.
    /// let weights = weights.flat_map(|name, tensor| (!name.starts_with("exp_avg.")).then_some((name, tensor)));
    /// ```
    #[must_use]
    pub fn flat_map<I>(mut self, mut f: impl FnMut(String, LazyTensor) -> I) -> Self
    where
        I: IntoIterator<Item = (String, LazyTensor)>,
    {
        let tensors = std::mem::take(&mut self.tensors).into_iter().flat_map(|(name, tensor)| f(name, tensor));
        tensors.collect::<Vec<_>>().into_iter().for_each(|(name, tensor)| self.add(name, tensor));
        self
    }

    /// The same weights under the names that `name` gives, without those that it gives none.
    #[must_use]
    pub fn rename(self, name: impl Fn(&str) -> Option<String>) -> Self {
        self.flat_map(|old, tensor| Some((name(&old)?, tensor)))
    }

    /// The tensors of both, of which none may have a name of the other's.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        other.tensors.into_iter().for_each(|(name, tensor)| self.add(name, tensor));
        self.twins.extend(other.twins);
        self.choices.extend(other.choices);
        Self { source: format!("{} and {}", self.source, other.source), part: None, ..self }
    }

    fn add(&mut self, name: String, tensor: LazyTensor) {
        if self.tensors.insert(name.clone(), tensor).is_some() {
            self.twins.push(name);
        }
    }

    fn check_names(&self) -> Result<(), Error> {
        match self.twins.first() {
            Some(name) => Err(Error::format(self.source.as_ref(), format!("has two tensors that are called {name}"))),
            None => Ok(()),
        }
    }

    /// These weights with another tensor under a name that they have.
    ///
    /// # Panics
    /// If they have none of this name.
    #[must_use]
    pub fn with(mut self, name: &str, data: TensorData) -> Self {
        assert!(self.tensors.insert(name.into(), data.into()).is_some(), "there is no tensor {name} to replace");
        self
    }

    pub(crate) fn insert_missing(&mut self, name: &str, data: impl FnOnce() -> TensorData) {
        self.tensors.entry(name.into()).or_insert_with(|| data().into());
    }
}

/// Tensors in memory, named as those of a file.
///
/// ```
/// use burn::tensor::{Device, TensorData};
/// use mixflow_backbones::sit::{SitConfig, official_key};
/// use mixflow_backbones::weights::Weights;
///
/// # fn main() -> Result<(), mixflow_backbones::Error> {
/// let config = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
/// let named = Weights::of(&config.init(0, &Device::default()), official_key);
/// let ones = named.iter().map(|(name, tensor)| {
///     let numbers = vec![1.0f32; tensor.shape().iter().product()];
///     (name.to_string(), TensorData::new(numbers, tensor.shape().to_vec()).into())
/// });
/// let sit = config.init(0, &Device::default()).load(ones.collect())?;
/// assert_eq!(sit.final_layer.linear.weight.val().mean().into_scalar::<f32>(), 1.0);
/// # Ok(())
/// # }
/// ```
impl FromIterator<(String, LazyTensor)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, LazyTensor)>>(tensors: I) -> Self {
        let mut weights = Self { source: "memory".into(), ..Self::default() };
        tensors.into_iter().for_each(|(name, tensor)| weights.add(name, tensor));
        weights
    }
}

/// Lets `write` fill a new file that then takes the place of the one at `path`; if that fails, the old one stays.
fn replace(path: &Path, write: impl FnOnce(&File) -> Result<(), Error>) -> Result<(), Error> {
    let io = Error::writing(path);
    let unfinished = Unfinished::of(path).map_err(&io)?;
    let file = File::create_new(unfinished.path()).map_err(&io)?;
    write(&file)?;
    file.sync_all().map_err(&io)?;
    unfinished.finish().map_err(&io)
}

fn read(path: &Path, part: Option<Part>) -> Result<Weights, Error> {
    read_file(path, part).map(Weights::unwrapped)
}

/// With the names of the file.
fn read_file(path: &Path, part: Option<Part>) -> Result<Weights, Error> {
    let file = File::open(path).map_err(Error::reading(path))?;
    let mut start = Vec::new();
    (&file).take(LOOKED_AT as u64).read_to_end(&mut start).map_err(Error::reading(path))?;
    if let Some(problem) = why_not_data(&start) {
        return Err(Error::format(path, problem));
    }
    if shards::is_index(path) {
        return shards::read(path, part);
    }
    if !safetensors::starts_like_one(&start) {
        if let Some(problem) = why_not_binary(&start) {
            return Err(Error::format(path, problem));
        }
        return pytorch::read(path, part);
    }
    if let Some(part @ (Part::Ema | Part::Model)) = part {
        let problem = format!("is a safetensors file, which has no part {}: read it whole", part.name());
        return Err(Error::format(path, problem));
    }
    let (tensors, source) = (safetensors::read(path, Source::File(file.into()))?, path.display().to_string());
    Ok(Weights { tensors, source, ..Weights::default() })
}

#[cfg(test)]
mod tests;
