//! The safetensors format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{BoolStore, DType};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use super::LazyTensor;
use super::float8::widened;
use crate::Error;
use crate::json::explain;

/// The header's key that is not a tensor.
pub(super) const METADATA: &str = "__metadata__";

/// The format's own limit for a header, bytes.
const FORMAT_HEADER: u64 = 100_000_000;

/// The largest that is read, bytes: parsed it takes up to 16 times as much. Published networks have a thousandth of it.
const MAX_HEADER: u64 = 16 << 20;

/// Largest number of tensors, and of their dimensions; published networks have about a thousand and five.
const MAX_TENSORS: usize = 100_000;
const MAX_RANK: usize = 8;

/// Whether a file that starts with these bytes means to be safetensors: a length below the limit, then JSON.
pub(super) fn starts_like_one(start: &[u8]) -> bool {
    header_length(start).is_some_and(|length| length <= FORMAT_HEADER) && start.get(8) == Some(&b'{')
}

fn header_length(start: &[u8]) -> Option<u64> {
    start.first_chunk().copied().map(u64::from_le_bytes)
}

/// The bytes of a file. They are read and not mapped: what a network was loaded from is in memory once.
pub(super) enum Source {
    Memory(Vec<u8>),
    File(Mutex<File>),
}

impl Source {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.lock().unwrap_or_else(PoisonError::into_inner).metadata()?.len()),
        }
    }

    /// The bytes of a range within the length.
    fn read(&self, range: Range<usize>) -> io::Result<Vec<u8>> {
        let file = match self {
            Self::Memory(bytes) => return Ok(bytes[range].to_vec()),
            Self::File(file) => file,
        };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start as u64))?;
        let mut bytes = Vec::with_capacity(range.len());
        (&mut *file).take(range.len() as u64).read_to_end(&mut bytes)?;
        if bytes.len() == range.len() { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Every tensor of the file that these bytes are. Nothing is allocated that their number does not back, and no value is
/// read.
pub(super) fn read(path: &Path, source: Source) -> Result<BTreeMap<String, LazyTensor>, Error> {
    let fault = |problem: String| Error::format(path, format!("is a damaged safetensors file: {problem}"));
    let io = Error::reading(path);
    let size = source.len().map_err(&io)?;
    let start = source.read(0..size.min(8) as usize).map_err(&io)?;
    let length = header_length(&start).unwrap_or(u64::MAX);
    if length > size.saturating_sub(8) {
        return Err(fault(format!("its header claims {length} bytes, the file has {size}")));
    }
    if length > MAX_HEADER {
        return Err(fault(format!("its header has {length} bytes; at most {MAX_HEADER} are read")));
    }
    let start = 8 + length as usize;
    let header = source.read(8..start).map_err(&io)?;

    let keys = keys(&header).map_err(|error| fault(explain(&error)))?;
    if let Some(twin) = keys.twin {
        return Err(fault(format!("`{twin}` occurs twice")));
    }
    if keys.count > MAX_TENSORS {
        return Err(fault(format!("it has {} tensors; at most {MAX_TENSORS} are read", keys.count)));
    }
    // Refuses gaps, overlaps, sizes that are not those of the shapes, and products that overflow.
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| fault(explain(&error)))?;
    let (claimed, held) = (header.data_len(), size as usize - start);
    if claimed != held {
        return Err(fault(format!("its tensors claim {claimed} bytes, the file has {held} for them")));
    }

    let (origin, source): (Arc<Path>, _) = (path.into(), Arc::new(source));
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        // A zero makes the product of the others small.
        let mut others = info.shape.iter().filter(|&&side| side > 0);
        let product = others.try_fold(1usize, |product, &side| product.checked_mul(side));
        if info.shape.len() > MAX_RANK || product.is_none_or(|product| product > isize::MAX as usize) {
            let rank = info.shape.len();
            return Err(fault(format!("the shape of `{name}` has {rank} dimensions or is too large")));
        }
        let (file, source, stored, called) = (origin.clone(), source.clone(), info.dtype, name.clone());
        let known = from_file(stored);
        let range = start + info.data_offsets.0..start + info.data_offsets.1;
        // One that is not known may be of another network than the one that is wanted.
        let read = move || match known {
            Some(_) => Ok(widened(source.read(range.clone()).map_err(Error::reading(&file))?, stored)),
            None => Err(Error::format(&file, format!("holds `{called}` as {stored:?}, which is not supported"))),
        };
        let dtype = known.unwrap_or(DType::F32);
        tensors.insert(name, LazyTensor::new(&origin, info.shape.clone(), dtype, read));
    }
    Ok(tensors)
}

/// Gives the bytes of a file to `write`, piece by piece. Tensors of wide elements come first, as the format asks for
/// alignment; then by name.
pub(super) fn write(
    tensors: &BTreeMap<String, LazyTensor>,
    metadata: &[(&str, &str)],
    mut write: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size()));

    // serde_json sorts a map by its keys unless a feature tells it to keep the order of insertion, which is as fixed.
    let mut header = Map::new();
    if !metadata.is_empty() {
        let metadata: BTreeMap<_, _> = metadata.iter().copied().collect();
        header.insert(METADATA.into(), json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in &order {
        let end = offset + tensor.byte_len();
        let entry: Value =
            json!({ "dtype": to_file(tensor.dtype()), "shape": tensor.shape(), "data_offsets": [offset, end] });
        header.insert((*name).clone(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    write(&(header.len() as u64).to_le_bytes())?;
    write(&header)?;
    order.into_iter().try_for_each(|(_, tensor)| write(tensor.data()?.bytes()))
}

/// The type that numbers of a file are read in.
fn from_file(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 | Dtype::F8_E4M3 | Dtype::F8_E5M2 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U16 => DType::U16,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool(BoolStore::U8),
        _ => return None,
    })
}

fn to_file(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F32 | DType::Flex32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I16 => "I16",
        DType::I8 => "I8",
        DType::U64 => "U64",
        DType::U32 | DType::Bool(BoolStore::U32) => "U32",
        DType::U16 => "U16",
        DType::U8 => "U8",
        DType::Bool(_) => "BOOL",
        DType::QFloat(_) => unreachable!("weights hold no quantised tensors"),
    }
}

/// The keys of the outermost JSON object.
#[derive(Default)]
struct Keys {
    count: usize,
    /// One that occurs twice.
    twin: Option<String>,
}

fn keys(json: &[u8]) -> serde_json::Result<Keys> {
    struct Count;
    impl<'de> Visitor<'de> for Count {
        type Value = Keys;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
            let (mut seen, mut keys) = (BTreeSet::new(), Keys::default());
            while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                keys.count += 1;
                if !seen.insert(key.clone()) {
                    keys.twin = Some(key);
                }
            }
            Ok(keys)
        }
    }
    serde_json::Deserializer::from_slice(json).deserialize_map(Count)
}
