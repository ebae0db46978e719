//! The safetensors format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::Path;

use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::Error;

/// The header's key that is not a tensor.
pub(super) const METADATA: &str = "__metadata__";

/// The format's own limit, bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Largest number of tensors, and of their dimensions; published networks have about a thousand and five.
const MAX_TENSORS: usize = 100_000;
const MAX_RANK: usize = 8;

/// Whether a file that starts with these bytes means to be safetensors: a length below the limit, then JSON.
pub(super) fn starts_like_one(start: &[u8]) -> bool {
    header_length(start).is_some_and(|length| length <= MAX_HEADER) && start.get(8) == Some(&b'{')
}

fn header_length(start: &[u8]) -> Option<u64> {
    start.first_chunk().copied().map(u64::from_le_bytes)
}

/// Every tensor of a file of `size` bytes; nothing is allocated that the size does not back.
pub(super) fn read(path: &Path, mut file: impl Read, size: u64) -> Result<BTreeMap<String, TensorData>, Error> {
    let fault = |problem: String| Error::format(path, format!("is a damaged safetensors file: {problem}"));
    let io = Error::reading(path);

    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(&io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER.min(size.saturating_sub(8)) {
        return Err(fault(format!("its header claims {length} bytes, the file has {size}")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(&io)?;

    if let Some(twin) = twin_key(&header).map_err(|error| fault(error.to_string()))? {
        return Err(fault(format!("`{twin}` occurs twice")));
    }
    // Refuses gaps, overlaps, sizes that are not those of the shapes, and products that overflow.
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| fault(error.to_string()))?;
    let (claimed, held) = (header.data_len() as u64, size - 8 - length);
    if claimed != held {
        return Err(fault(format!("its tensors claim {claimed} bytes, the file has {held} for them")));
    }

    let names = header.offset_keys();
    if names.len() > MAX_TENSORS {
        return Err(fault(format!("it has {} tensors; at most {MAX_TENSORS} are read", names.len())));
    }
    let mut tensors = BTreeMap::new();
    for name in names {
        let info = header.info(&name).expect("the header names its own tensors");
        // A zero makes the product of the others small.
        let mut others = info.shape.iter().filter(|&&side| side > 0);
        let product = others.try_fold(1usize, |product, &side| product.checked_mul(side));
        if info.shape.len() > MAX_RANK || product.is_none_or(|product| product > isize::MAX as usize) {
            let rank = info.shape.len();
            return Err(fault(format!("the shape of `{name}` has {rank} dimensions or is too large")));
        }
        let dtype = from_file(info.dtype).ok_or_else(|| {
            Error::format(path, format!("holds `{name}` as {:?}, which is not supported", info.dtype))
        })?;
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        file.read_exact(&mut bytes).map_err(&io)?;
        let data = TensorData::try_from_bytes_vec(bytes, info.shape.clone(), dtype)
            .map_err(|error| fault(format!("`{name}`: {error}")))?;
        tensors.insert(name, data);
    }
    Ok(tensors)
}

/// Tensors of wide elements first, as the format asks for alignment; then by name.
pub(super) fn encode(tensors: &BTreeMap<String, TensorData>, metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, data)| std::cmp::Reverse(data.dtype().size()));

    // serde_json sorts a map by its keys unless a feature tells it to keep the order of insertion, which is as fixed.
    let mut header = Map::new();
    if !metadata.is_empty() {
        let metadata: BTreeMap<_, _> = metadata.iter().copied().collect();
        header.insert(METADATA.into(), json!(metadata));
    }
    let mut offset = 0;
    for (name, data) in &order {
        let end = offset + data.bytes().len();
        let entry: Value =
            json!({ "dtype": to_file(data.dtype()), "shape": data.shape().to_vec(), "data_offsets": [offset, end] });
        header.insert((*name).clone(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut bytes = Vec::with_capacity(8 + header.len() + offset);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    for (_, data) in order {
        bytes.extend_from_slice(data.bytes());
    }
    bytes
}

fn from_file(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
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

/// A key that the outermost JSON object has twice.
fn twin_key(json: &[u8]) -> serde_json::Result<Option<String>> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut seen, mut twin) = (BTreeSet::new(), None);
            while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if !seen.insert(key.clone()) {
                    twin = Some(key);
                }
            }
            Ok(twin)
        }
    }
    serde_json::Deserializer::from_slice(json).deserialize_map(Keys)
}
