//! Files as `torch.save` writes them.
//!
//! A zip archive with a pickle of the dictionary and, uncompressed, the bytes of each tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use burn::tensor::DType;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::LazyTensor;
use crate::Error;

/// Where PyTorch lets the bytes of each tensor start, so that they can be mapped.
const ALIGNMENT: u16 = 64;

/// The folder of the archive that holds everything, as PyTorch calls it where it does not know the file's name.
const ROOT: &str = "archive";

/// Writes a dictionary of tensors to an open file, which `path` names in errors.
pub(super) fn write(path: &Path, file: &File, tensors: &BTreeMap<String, LazyTensor>) -> Result<(), Error> {
    let pickle = pickle(tensors).map_err(|problem| Error::format(path, problem))?;
    let io = |error: io::Error| Error::writing(path)(error);
    let mut archive = ZipWriter::new(BufWriter::new(file));
    let mut entry = |name: &str, bytes: &[u8]| {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(bytes.len() > u32::MAX as usize);
        archive.start_file(format!("{ROOT}/{name}"), options).map_err(|error| io(error.into()))?;
        archive.write_all(bytes).map_err(io)
    };
    entry("data.pkl", &pickle)?;
    entry("byteorder", b"little")?;
    for (number, tensor) in tensors.values().enumerate() {
        entry(&format!("data/{number}"), tensor.data()?.bytes())?;
    }
    entry("version", b"3\n")?;
    archive.finish().map_err(|error| io(error.into()))?.flush().map_err(io)
}

/// The dictionary, in protocol 2; or what it cannot hold.
///
/// # Source
/// PyTorch 2.9, `torch/_tensor.py` (`__reduce_ex__`), `torch/serialization.py` (`persistent_id`); Python, `pickletools.py`.
fn pickle(tensors: &BTreeMap<String, LazyTensor>) -> Result<Vec<u8>, String> {
    let mut pickle = Pickle(b"\x80\x02}(".to_vec());
    for (number, (name, tensor)) in tensors.iter().enumerate() {
        let storage = storage(tensor.dtype())
            .ok_or_else(|| format!("cannot hold `{name}`: PyTorch has no storage of {:?}", tensor.dtype()))?;
        pickle.text(name);
        pickle.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(");
        // The storage, by its name in the archive.
        pickle.0.push(b'(');
        pickle.text("storage");
        pickle.0.extend(format!("ctorch\n{storage}\n").bytes());
        pickle.text(&number.to_string());
        pickle.text("cpu");
        pickle.int(tensor.shape().iter().product());
        pickle.0.extend(b"tQ");
        // Offset, shape, strides, no gradient, no hooks.
        pickle.int(0);
        pickle.tuple(tensor.shape());
        pickle.tuple(&strides(tensor.shape()));
        pickle.0.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.0.extend(b"u.");
    Ok(pickle.0)
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.bytes());
    }

    fn int(&mut self, number: usize) {
        match i32::try_from(number) {
            Ok(number) => {
                self.0.push(b'J');
                self.0.extend(number.to_le_bytes());
            }
            Err(_) => {
                self.0.extend(b"\x8a\x08");
                self.0.extend((number as i64).to_le_bytes());
            }
        }
    }

    fn tuple(&mut self, numbers: &[usize]) {
        self.0.push(b'(');
        numbers.iter().for_each(|&number| self.int(number));
        self.0.push(b't');
    }
}

/// Elements from one to the next, along each side.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for side in (1..shape.len()).rev() {
        strides[side - 1] = strides[side] * shape[side].max(1);
    }
    strides
}

fn storage(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F64 => "DoubleStorage",
        DType::F32 | DType::Flex32 => "FloatStorage",
        DType::F16 => "HalfStorage",
        DType::BF16 => "BFloat16Storage",
        DType::I64 => "LongStorage",
        DType::I32 => "IntStorage",
        DType::I16 => "ShortStorage",
        DType::I8 => "CharStorage",
        DType::U8 => "ByteStorage",
        DType::Bool(_) => "BoolStorage",
        _ => return None,
    })
}
