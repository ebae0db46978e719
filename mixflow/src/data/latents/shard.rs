//! One file of latents.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};

use super::manifest::{Contents, ShardEntry};
use super::number::widen;
use crate::data::Error;

/// Largest header of a shard, bytes; ours have less than 10 kB.
const MAX_HEADER: u64 = 1 << 20;

/// Shards whose files stay open; systems allow a process about 1,000 files.
const OPEN: usize = 512;

/// A tensor of a shard: `examples × numbers` numbers, or as many as there are bytes of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    dtype: &'static str,
    /// Shape of one example's part.
    row: Vec<usize>,
}

impl Column {
    /// Bytes of one example's part.
    fn row_bytes(&self, contents: &Contents) -> u64 {
        (self.row.iter().product::<usize>() * contents.precision.bytes()) as u64
    }
}

/// Columns of numbers in their order in [`Rows`]: mean, deviation and features of the images, then of their mirror images.
pub(super) fn columns(contents: &Contents) -> Vec<Column> {
    let twins: &[&str] = if contents.flipped { &["", "_flipped"] } else { &[""] };
    let dtype = contents.precision.dtype();
    let column = |name: String, row: &[usize]| Column { name, dtype, row: row.to_vec() };
    let one = |twin: &str| {
        let mut columns = vec![column(format!("mean{twin}"), &contents.shape)];
        if contents.deviation {
            columns.push(column(format!("deviation{twin}"), &contents.shape));
        }
        let features = contents.features.iter().enumerate();
        columns.extend(features.map(|(k, of)| column(format!("features_{k}{twin}"), &[of.tokens, of.width])));
        columns
    };
    twins.iter().flat_map(|twin| one(twin)).collect()
}

/// The examples of a shard that is being filled: bytes as they will stand in the file.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) columns: Vec<Vec<u8>>,
    pub(super) classes: Vec<i64>,
    pub(super) names: String,
    /// Where the name of each example ends.
    pub(super) name_ends: Vec<i64>,
}

impl Rows {
    pub(super) fn new(contents: &Contents) -> Self {
        let columns = columns(contents).iter().map(|_| Vec::new()).collect();
        Self { columns, classes: Vec::new(), names: String::new(), name_ends: Vec::new() }
    }

    /// Writes the file. Wide numbers come first, as the format asks for alignment.
    pub(super) fn write(&self, contents: &Contents, file: &mut impl Write) -> io::Result<()> {
        let examples = self.classes.len();
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({ "format": "mixflow latents" }));
        let mut offset = 0;
        let mut entry = |name: &str, dtype: &str, shape: &[usize], bytes: usize| {
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, offset + bytes] });
            header.insert(name.into(), entry);
            offset += bytes;
        };
        entry("class", "I64", &[examples], 8 * examples);
        entry("name_end", "I64", &[examples], 8 * examples);
        for (column, bytes) in columns(contents).iter().zip(&self.columns) {
            entry(&column.name, column.dtype, &[&[examples], &column.row[..]].concat(), bytes.len());
        }
        entry("name", "U8", &[self.names.len()], self.names.len());
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');

        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for numbers in [&self.classes, &self.name_ends] {
            file.write_all(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())?;
        }
        self.columns.iter().try_for_each(|bytes| file.write_all(bytes))?;
        file.write_all(self.names.as_bytes())
    }
}

/// A shard whose header was read and found right.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    file: Option<File>,
    /// Where each column of numbers starts in the file, and the bytes of one example in it.
    columns: Vec<(u64, u64)>,
    name_end: u64,
    /// Start and size of the names.
    names: (u64, u64),
    pub(super) classes: Vec<u32>,
}

impl Shard {
    /// Reads header and classes. Nothing is allocated that the file's size does not back.
    pub(super) fn open(folder: &Path, number: usize, entry: &ShardEntry, contents: &Contents) -> Result<Self, Error> {
        let path = folder.join(&entry.file);
        let fault = |reason: String| Error::Latents { path: path.clone(), reason };
        let broken = |error: io::Error| fault(format!("cannot be read: {error}"));
        let file = File::open(&path).map_err(broken)?;
        let size = file.metadata().map_err(broken)?.len();
        if size != entry.bytes {
            return Err(fault(format!("are damaged: the file has {size} bytes of {}; encode again", entry.bytes)));
        }
        let damaged = |reason: String| fault(format!("are damaged: {reason}"));
        let mut length = [0; 8];
        read_at(&file, &mut length, 0).map_err(broken)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER.min(size - 8) {
            return Err(damaged(format!("the header claims {length} bytes of {size}, at most {MAX_HEADER} are read")));
        }
        let mut header = vec![0; length as usize];
        read_at(&file, &mut header, 8).map_err(broken)?;
        // Refuses gaps, overlaps, sizes that are not those of the shapes, and products that overflow.
        let header: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let (data, held) = (8 + length, size - 8 - length);
        if header.data_len() as u64 != held {
            return Err(damaged(format!("the tensors claim {} bytes of {held}", header.data_len())));
        }

        let examples = entry.examples;
        let start = |name: &str, dtype: &str, shape: Option<Vec<usize>>| {
            let info = header.info(name).ok_or_else(|| damaged(format!("`{name}` is missing")))?;
            if info.dtype.to_string() != dtype || shape.as_ref().is_some_and(|shape| *shape != info.shape) {
                let expected = shape.map_or_else(String::new, |shape| format!(" {shape:?}"));
                let (found, shape) = (info.dtype, &info.shape);
                return Err(damaged(format!("`{name}` is {found} {shape:?}, the manifest says {dtype}{expected}")));
            }
            Ok((data + info.data_offsets.0 as u64, (info.data_offsets.1 - info.data_offsets.0) as u64))
        };
        let expected = columns(contents);
        if header.tensors().len() != expected.len() + 3 {
            return Err(damaged(format!("{} tensors, expected {}", header.tensors().len(), expected.len() + 3)));
        }
        let column = |column: &Column| {
            let shape = [&[examples], &column.row[..]].concat();
            Ok((start(&column.name, column.dtype, Some(shape))?.0, column.row_bytes(contents)))
        };
        let columns = expected.iter().map(column).collect::<Result<_, Error>>()?;
        let (class, class_bytes) = start("class", "I64", Some(vec![examples]))?;
        let name_end = start("name_end", "I64", Some(vec![examples]))?.0;
        let names = start("name", "U8", None)?;

        let mut bytes = vec![0; class_bytes as usize];
        read_at(&file, &mut bytes, class).map_err(broken)?;
        let known = contents.classes.len();
        let class = |bytes: &[u8; 8]| {
            let class = i64::from_le_bytes(*bytes);
            let fits = u32::try_from(class).ok().filter(|&class| (class as usize) < known);
            fits.ok_or_else(|| damaged(format!("class {class} of {known}")))
        };
        let classes = bytes.as_chunks().0.iter().map(class).collect::<Result<_, _>>()?;
        let file = (number < OPEN).then_some(file);
        Ok(Self { path, file, columns, name_end, names, classes })
    }

    /// The numbers of an example in a column.
    pub(super) fn numbers(&self, column: usize, row: usize, contents: &Contents) -> Result<Vec<f32>, Error> {
        let (start, bytes) = self.columns[column];
        let mut raw = vec![0; bytes as usize];
        self.read(&mut raw, start + row as u64 * bytes)?;
        Ok(widen(&raw, contents.precision))
    }

    /// The name of an example's source.
    pub(super) fn name(&self, row: usize) -> Result<String, Error> {
        let end = |row: usize| {
            let mut end = [0; 8];
            self.read(&mut end, self.name_end + 8 * row as u64)?;
            Ok(i64::from_le_bytes(end))
        };
        let (start, end) = (row.checked_sub(1).map_or(Ok(0), end)?, end(row)?);
        let damaged = || Error::Latents { path: self.path.clone(), reason: format!("are damaged: the name of {row}") };
        let (start, end) = (u64::try_from(start).map_err(|_| damaged())?, u64::try_from(end).map_err(|_| damaged())?);
        if start > end || end > self.names.1 {
            return Err(damaged());
        }
        let mut name = vec![0; (end - start) as usize];
        self.read(&mut name, self.names.0 + start)?;
        String::from_utf8(name).map_err(|_| damaged())
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        let read = match &self.file {
            Some(file) => read_at(file, bytes, offset),
            None => File::open(&self.path).and_then(|file| read_at(&file, bytes, offset)),
        };
        let reason = |error| format!("cannot be read: {error}");
        read.map_err(|error| Error::Latents { path: self.path.clone(), reason: reason(error) })
    }
}

/// Fills `bytes` from a place in a file, without moving a cursor: readers on several threads do not meet.
///
/// A memory map reads 16 kB from the page cache in half the time, 12 µs against 24 on one machine, where training asks
/// for one in 50; but here a file that shrinks is an error instead of a signal, and nothing is unsafe.
#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[count..];
        offset += count as u64;
    }
    Ok(())
}
