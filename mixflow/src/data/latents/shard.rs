//! One file of latents.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mixflow_backbones::json::explain;
use mixflow_backbones::mapped_file::MappedFile;
use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};

use super::manifest::{Contents, ShardEntry};
use crate::data::Error;
use crate::data::buckets::Size;
use crate::data::image_captions::check_weights;

/// Largest header of a shard, bytes; ours have less than 10 kB.
const MAX_HEADER: u64 = 1 << 20;

/// Name of the tensor of the images' hashes; shards of format 1 have none.
const HASHES: &str = "image_sha256";

/// Name of the tensor of heights and widths, where latents have several.
const SIZES: &str = "size";

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
    fn row_bytes(&self, contents: &Contents) -> usize {
        self.row.iter().product::<usize>() * contents.precision.bytes()
    }
}

/// Columns of numbers in their order in [`Rows`]: mean, deviation and features of the images, then of their mirror images; last
/// the masks.
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
    let mask = contents.masked.then(|| column("mask".into(), &contents.shape[1..]));
    twins.iter().flat_map(|twin| one(twin)).chain(mask).collect()
}

/// The examples of a shard that is being filled: bytes as they will stand in the file.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) columns: Vec<Vec<u8>>,
    pub(super) classes: Vec<i64>,
    pub(super) names: String,
    /// Where the name of each example ends.
    pub(super) name_ends: Vec<i64>,
    /// SHA-256 of each image's file.
    pub(super) hashes: Vec<[u8; 32]>,
    /// Height and width of each latent.
    pub(super) sizes: Vec<[i64; 2]>,
    /// Labels of captions and their weights, where images have several, and where those of each example end.
    pub(super) captions: (Vec<i64>, Vec<f64>),
    pub(super) caption_ends: Vec<i64>,
}

impl Rows {
    pub(super) fn new(contents: &Contents) -> Self {
        let columns = columns(contents).iter().map(|_| Vec::new()).collect();
        let (classes, names, name_ends, hashes, sizes, captions, caption_ends) = Default::default();
        Self { columns, classes, names, name_ends, hashes, sizes, captions, caption_ends }
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
        let sizes = if contents.buckets.is_some() { self.sizes.as_flattened() } else { &[] };
        if !sizes.is_empty() {
            entry(SIZES, "I64", &[examples, 2], 16 * examples);
        }
        let (labels, weights) = &self.captions;
        if contents.several_captions {
            entry("caption", "I64", &[labels.len()], 8 * labels.len());
            entry("caption_end", "I64", &[examples], 8 * examples);
            entry("caption_weight", "F64", &[weights.len()], 8 * weights.len());
        }
        for (column, bytes) in columns(contents).iter().zip(&self.columns) {
            let shape = match contents.buckets {
                None => [&[examples], &column.row[..]].concat(),
                Some(_) => vec![bytes.len() / contents.precision.bytes()],
            };
            entry(&column.name, column.dtype, &shape, bytes.len());
        }
        entry("name", "U8", &[self.names.len()], self.names.len());
        entry(HASHES, "U8", &[examples, 32], 32 * examples);
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');

        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        // Of other sets these are empty.
        for numbers in [&self.classes, &self.name_ends, sizes, labels, &self.caption_ends] {
            file.write_all(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())?;
        }
        file.write_all(&weights.iter().flat_map(|weight| weight.to_le_bytes()).collect::<Vec<_>>())?;
        self.columns.iter().try_for_each(|bytes| file.write_all(bytes))?;
        file.write_all(self.names.as_bytes())?;
        file.write_all(self.hashes.as_flattened())
    }
}

/// A shard whose header was read and found right.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    file: MappedFile,
    /// Where each column of numbers starts in the file, and the bytes of one example in it.
    columns: Vec<(usize, usize)>,
    /// Where latents have several sizes: these, and how many numbers stand before each latent, and in all.
    sizes: Option<(Vec<Size>, Vec<usize>)>,
    /// Labels and weights of each example's captions, where they have several.
    captions: Vec<Vec<(usize, f64)>>,
    name_end: usize,
    /// Start and size of the names.
    names: (usize, usize),
    /// Start of the hashes of the images, where there are any.
    hashes: Option<usize>,
    pub(super) classes: Vec<u32>,
}

impl Shard {
    /// Reads header and classes. Nothing is allocated that the file's size does not back.
    pub(super) fn open(folder: &Path, entry: &ShardEntry, contents: &Contents) -> Result<Self, Error> {
        let path = folder.join(&entry.file);
        let fault = |reason: String| Error::Latents { path: path.clone(), reason };
        let file = MappedFile::open(&path).map_err(|error| fault(format!("cannot be read: {error}")))?;
        let size = file.len();
        if size as u64 != entry.bytes {
            return Err(fault(format!("are damaged: the file has {size} bytes of {}; encode again", entry.bytes)));
        }
        let damaged = |reason: String| fault(format!("are damaged: {reason}"));
        let length = file.first_chunk().map_or(u64::MAX, |length| u64::from_le_bytes(*length));
        if length > MAX_HEADER.min(size.saturating_sub(8) as u64) {
            return Err(damaged(format!("the header claims {length} bytes of {size}, at most {MAX_HEADER} are read")));
        }
        let data = 8 + length as usize;
        // Refuses gaps, overlaps, sizes that are not those of the shapes, and products that overflow.
        let header: Metadata = serde_json::from_slice(&file[8..data]).map_err(|error| damaged(explain(&error)))?;
        let held = size - data;
        if header.data_len() != held {
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
            Ok((data + info.data_offsets.0, info.data_offsets.1 - info.data_offsets.0))
        };
        let expected = columns(contents);
        let hashed = header.info(HASHES).is_some();
        let count = expected.len() + 3 + usize::from(hashed) + usize::from(contents.buckets.is_some());
        let count = count + 3 * usize::from(contents.several_captions);
        if header.tensors().len() != count {
            return Err(damaged(format!("{} tensors, expected {count}", header.tensors().len())));
        }
        let sizes = contents.buckets.as_ref().map(|_| {
            let (at, bytes) = start(SIZES, "I64", Some(vec![examples, 2]))?;
            sizes(&file[at..at + bytes], contents).map_err(damaged)
        });
        let sizes = sizes.transpose()?;
        let column = |column: &Column| {
            let shape = match &sizes {
                None => [&[examples], &column.row[..]].concat(),
                Some((_, starts)) => vec![contents.part_of(starts[examples], &column.row)],
            };
            Ok((start(&column.name, column.dtype, Some(shape))?.0, column.row_bytes(contents)))
        };
        let columns = expected.iter().map(column).collect::<Result<_, Error>>()?;
        let (class, class_bytes) = start("class", "I64", Some(vec![examples]))?;
        let name_end = start("name_end", "I64", Some(vec![examples]))?.0;
        let names = start("name", "U8", None)?;
        let hashes = hashed.then(|| start(HASHES, "U8", Some(vec![examples, 32]))).transpose()?;

        let known = contents.classes.len();
        let captions = match contents.several_captions {
            true => {
                let of = |name, dtype, shape| {
                    start(name, dtype, shape).map(|(at, bytes)| file[at..at + bytes].as_chunks::<8>().0)
                };
                let (labels, weights) = (of("caption", "I64", None)?, of("caption_weight", "F64", None)?);
                captions((labels, weights), of("caption_end", "I64", Some(vec![examples]))?, known).map_err(damaged)?
            }
            false => vec![],
        };
        let bytes = &file[class..class + class_bytes];
        let class = |bytes: &[u8; 8]| {
            let class = i64::from_le_bytes(*bytes);
            let fits = u32::try_from(class).ok().filter(|&class| (class as usize) < known);
            fits.ok_or_else(|| damaged(format!("class {class} of {known}")))
        };
        let classes = bytes.as_chunks().0.iter().map(class).collect::<Result<_, _>>()?;
        let hashes = hashes.map(|(start, _)| start);
        Ok(Self { path, file, columns, sizes, captions, name_end, names, hashes, classes })
    }

    /// The numbers of an example in a column.
    pub(super) fn numbers(&self, column: usize, row: usize, contents: &Contents) -> Vec<f32> {
        let (start, bytes) = self.columns[column];
        let (start, bytes) = match &self.sizes {
            None => (start + row * bytes, bytes),
            Some((_, starts)) => {
                let [before, after] = [row, row + 1].map(|row| contents.part_of(starts[row], &[bytes]));
                (start + before, after - before)
            }
        };
        let mut numbers = Vec::with_capacity(bytes / contents.precision.bytes());
        contents.precision.widen(&self.file[start..start + bytes], &mut numbers);
        numbers
    }

    /// That of the masks, where there are some.
    pub(super) fn last_column(&self) -> usize {
        self.columns.len() - 1
    }

    /// Height and width of the latent of an example, where latents have several.
    pub(super) fn size(&self, row: usize) -> Option<Size> {
        self.sizes.as_ref().map(|(sizes, _)| sizes[row])
    }

    /// Labels and weights of the captions of an example, where they have several.
    pub(super) fn captions(&self, row: usize) -> &[(usize, f64)] {
        self.captions.get(row).map_or(&[], Vec::as_slice)
    }

    /// SHA-256 of the file of an example's image, where it was stored.
    pub(super) fn hash(&self, row: usize) -> Option<[u8; 32]> {
        self.file[self.hashes? + 32 * row..].first_chunk().copied()
    }

    /// The name of an example's source.
    pub(super) fn name(&self, row: usize) -> Result<String, Error> {
        let ends = self.file[self.name_end..].as_chunks::<8>().0;
        let end = |row: usize| usize::try_from(i64::from_le_bytes(ends[row])).ok();
        let range = row.checked_sub(1).map_or(Some(0), end).zip(end(row));
        let names = &self.file[self.names.0..self.names.0 + self.names.1];
        let name = range.and_then(|(start, end)| std::str::from_utf8(names.get(start..end)?).ok());
        let damaged = || Error::Latents { path: self.path.clone(), reason: format!("are damaged: the name of {row}") };
        name.map(str::to_string).ok_or_else(damaged)
    }
}

/// The labels and weights of each example that these bytes are, of captions of which so many are known.
fn captions(
    (labels, weights): (&[[u8; 8]], &[[u8; 8]]),
    ends: &[[u8; 8]],
    known: usize,
) -> Result<Vec<Vec<(usize, f64)>>, String> {
    let label = |bytes: &[u8; 8]| usize::try_from(i64::from_le_bytes(*bytes)).ok().filter(|label| *label < known);
    let labels: Option<Vec<usize>> = labels.iter().map(label).collect();
    let labels = labels.ok_or_else(|| format!("a caption is none of {known}"))?;
    let weights: Vec<f64> = weights.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let mut start = 0;
    let of = |end: &[u8; 8]| {
        let end =
            usize::try_from(i64::from_le_bytes(*end)).ok().filter(|end| (start + 1..=labels.len()).contains(end))?;
        let own = std::mem::replace(&mut start, end)..end;
        let weights = weights.get(own.clone()).filter(|weights| check_weights(weights))?;
        Some(labels[own].iter().copied().zip(weights.iter().copied()).collect())
    };
    let all: Option<Vec<_>> = ends.iter().map(of).collect();
    let whole = all.filter(|_| start == labels.len() && start == weights.len());
    whole.ok_or_else(|| "captions and their weights do not fit".into())
}

/// The heights and widths that these bytes are, and the numbers before each latent and in all.
fn sizes(bytes: &[u8], contents: &Contents) -> Result<(Vec<Size>, Vec<usize>), String> {
    let [_, height, width] = contents.shape;
    let (mut sizes, mut starts) = (vec![], vec![0]);
    for [high, wide] in
        bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect::<Vec<_>>().as_chunks().0
    {
        let side = |side: i64| usize::try_from(side).ok().filter(|side| (1..=2 * height.max(width)).contains(side));
        // No size has a larger area than the square.
        let size = side(*high).zip(side(*wide)).filter(|(high, wide)| high * wide <= height * width);
        let Some((high, wide)) = size else {
            return Err(format!("a latent of {high} x {wide}, where {height} x {width} is the largest"));
        };
        starts.push(starts[sizes.len()] + contents.numbers([high, wide]));
        sizes.push([high, wide]);
    }
    Ok((sizes, starts))
}
