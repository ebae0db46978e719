//! Files of `torch.save`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{BoolStore, DType};
use pytorch_reader::{DType as FileType, PickleValue, PytorchError, PytorchReader, Tensor};
use zip::ZipArchive;

use super::{LazyTensor, Part, Weights, pickle, safetensors::METADATA};
use crate::{Error, listed};

/// Where published training scripts put state dicts, the one to prefer first.
const PARTS: [(&str, Part); 4] =
    [("ema", Part::Ema), ("model_ema", Part::Ema), ("model", Part::Model), ("state_dict", Part::Model)];

/// The number that starts a file of PyTorch before 1.6, as every protocol of pickle but the oldest writes it.
const LEGACY: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Pickles at the start of such a file: that number, version, system, tensors, names of storages.
const LEGACY_PICKLES: usize = 5;

/// Largest pickle of a file, bytes.
const MAX_PICKLE: u64 = 100 << 20;

pub(super) fn read(path: &Path, part: Option<Part>) -> Result<Weights, Error> {
    let fault = |error| unreadable(path, error);
    let size = fs::metadata(path).map_err(Error::reading(path))?.len();
    check(path, size)?;
    let PickleValue::Dict(root) = PytorchReader::read_pickle_data(path, None).map_err(fault)? else {
        return Err(Error::format(path, "is a PyTorch file, but holds no dictionary of tensors"));
    };
    let mut parts = PARTS.into_iter().filter(|(key, _)| matches!(root.get(*key), Some(PickleValue::Dict(_))));
    let key = match part {
        None => parts.next(),
        Some(Part::Bare) => None,
        Some(part) => Some(parts.find(|(_, found)| *found == part).ok_or_else(|| {
            Error::format(path, format!("has no part {} among its entries {}", part.name(), entries(&root)))
        })?),
    };
    let reader = match key {
        Some((key, _)) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let found = reader.map_err(fault)?.into_tensors();
    if found.is_empty() {
        let place = key.map_or(String::new(), |(key, _)| format!(" under `{key}`; its entries are {}", entries(&root)));
        return Err(Error::format(path, format!("is a PyTorch file, but holds no tensors{place}")));
    }
    // A view can claim more elements than its storage holds, and several tensors the same storage.
    let claimed = found.values().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.byte_len() as u64));
    if claimed > size.saturating_mul(4) {
        return Err(Error::format(path, format!("has {size} bytes, but its tensors claim {claimed}")));
    }

    let origin: Arc<Path> = path.into();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in found {
        if name == METADATA {
            return Err(Error::format(path, format!("names a tensor `{METADATA}`, which is reserved")));
        }
        tensors.insert(name, lazy(&origin, tensor));
    }
    let part = key.map(|(key, _)| key);
    let mut weights = Weights { tensors, source: path.display().to_string(), part, ..Weights::default() };
    if let Some(key) = part {
        weights.choose(format!("part `{key}`"));
    }
    Ok(weights)
}

/// The first entries of a dictionary, for a message.
fn entries(root: &HashMap<String, PickleValue>) -> String {
    let mut keys: Vec<_> = root.keys().map(|key| format!("`{key}`")).collect();
    keys.sort();
    listed(&keys, 6)
}

/// Refuses what would build more than the file's size backs, or other things than weights.
fn check(path: &Path, size: u64) -> Result<(), Error> {
    let io = Error::reading(path);
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(64).read_to_end(&mut start)).map_err(&io)?;
    if start.starts_with(b"PK") {
        return check_pickle(path, &zipped_pickle(path, size)?).map(drop);
    }
    if !start.windows(LEGACY.len()).any(|bytes| bytes == LEGACY) {
        return Err(Error::format(path, "is neither a safetensors file nor a PyTorch checkpoint"));
    }
    // Storages follow, which no instruction reads.
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_PICKLE).read_to_end(&mut bytes)).map_err(&io)?;
    let mut rest = &bytes[..];
    for _ in 0..LEGACY_PICKLES {
        rest = &rest[check_pickle(path, rest)?..];
    }
    Ok(())
}

fn check_pickle(path: &Path, bytes: &[u8]) -> Result<usize, Error> {
    pickle::check(bytes).map_err(|problem| Error::format(path, problem))
}

/// The pickle of a zip archive, of which every entry was found no larger than the file.
fn zipped_pickle(path: &Path, size: u64) -> Result<Vec<u8>, Error> {
    let fault = |problem: String| Error::format(path, format!("cannot be read as a PyTorch checkpoint: {problem}"));
    let file = File::open(path).map_err(Error::reading(path))?;
    let mut archive = ZipArchive::new(file).map_err(|error| fault(error.to_string()))?;
    let (mut unpacked, mut pickle) = (0u64, None);
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| fault(error.to_string()))?;
        unpacked = unpacked.saturating_add(entry.size());
        let name = entry.name().map_err(|error| fault(error.to_string()))?.len();
        let is_pickle = entry.name().is_ok_and(|name| name == "data.pkl" || name.ends_with("/data.pkl"));
        if is_pickle && pickle.is_none_or(|(shortest, _)| name < shortest) {
            pickle = Some((name, index));
        }
    }
    // `torch.save` packs nothing.
    if unpacked > size.saturating_mul(4) {
        return Err(fault(format!("its entries unpack to {unpacked} bytes, the file has {size}")));
    }
    let (_, index) = pickle.ok_or_else(|| fault("it has no data.pkl".into()))?;
    let mut bytes = Vec::new();
    let entry = archive.by_index(index).map_err(|error| fault(error.to_string()))?;
    entry.take(MAX_PICKLE).read_to_end(&mut bytes).map_err(|error| fault(error.to_string()))?;
    Ok(bytes)
}

fn lazy(path: &Arc<Path>, tensor: Tensor) -> LazyTensor {
    let dtype = match tensor.dtype() {
        FileType::F64 => DType::F64,
        FileType::F32 => DType::F32,
        FileType::F16 => DType::F16,
        FileType::BF16 => DType::BF16,
        FileType::I64 => DType::I64,
        FileType::I32 => DType::I32,
        FileType::I16 => DType::I16,
        FileType::I8 => DType::I8,
        FileType::U64 => DType::U64,
        FileType::U32 => DType::U32,
        FileType::U16 => DType::U16,
        FileType::U8 => DType::U8,
        FileType::Bool => DType::Bool(BoolStore::U8),
    };
    let shape = tensor.shape().to_vec();
    let file = path.clone();
    LazyTensor::new(path, shape, dtype, move || tensor.read().map_err(|error| unreadable(&file, error.into())))
}

fn unreadable(path: &Path, error: PytorchError) -> Error {
    match error {
        PytorchError::InvalidFormat(problem) if problem.starts_with("not a PyTorch checkpoint") => {
            Error::format(path, "is neither a safetensors file nor a PyTorch checkpoint")
        }
        PytorchError::Io(error) => Error::reading(path)(error),
        error => Error::format(path, format!("cannot be read as a PyTorch checkpoint: {error}")),
    }
}
