//! Parquet shards of Hugging Face data sets.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::{Entry, Sample, Samples, Source};
use crate::data::Error;
use crate::digest;

/// Classes that labels without names may have.
const MAX_CLASSES: i64 = 1 << 20;

/// Rows that are decoded ahead.
const AHEAD: usize = 64;

/// Images in `.parquet` files with the columns `image` (a struct of `bytes` and `path`) and `label` (an integer), one
/// file after the other, as `ImageNet` is published on Hugging Face.
///
/// Opening reads footers and labels; images are read when asked for.
#[derive(Debug)]
pub struct Parquet {
    files: Vec<PathBuf>,
    /// Rows before each file, and in all.
    starts: Vec<u64>,
    classes: Vec<String>,
}

impl Parquet {
    /// Opens the shards. Without names, classes are called by their numbers.
    ///
    /// # Errors
    /// If a file cannot be read, lacks a column, or a label is not among the classes.
    pub fn open(files: &[PathBuf], classes: Option<Vec<String>>) -> std::result::Result<Self, Error> {
        let known = classes.as_ref().map_or(MAX_CLASSES, |classes| classes.len() as i64);
        let (mut starts, mut last) = (vec![0], 0);
        for path in files {
            let mut labels = || -> Result<u64> {
                let mut count = 0;
                for row in rows(path, &["label"], 0)? {
                    let label = label(&row?)?;
                    if !(0..known).contains(&label) {
                        let problem = format!("row {count} has label {label}; expected from 0 to {}", known - 1);
                        return Err(ParquetError::General(problem));
                    }
                    last = last.max(label);
                    count += 1;
                }
                Ok(count)
            };
            let count = labels().map_err(fault(path))?;
            starts.push(starts.last().copied().unwrap_or_default() + count);
        }
        if starts.last() == Some(&0) {
            let path = files.first().cloned().unwrap_or_default();
            return Err(Error::Archive { path, reason: "no rows".into() });
        }
        let classes = classes.unwrap_or_else(|| (0..=last).map(|class| class.to_string()).collect());
        Ok(Self { files: files.to_vec(), starts, classes })
    }
}

impl Source for Parquet {
    fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self) -> String {
        let files: Vec<_> = self.files.iter().map(|path| path.display().to_string()).collect();
        format!("parquet {}", files.join(", "))
    }

    fn entries(&self) -> std::result::Result<Vec<Entry>, Error> {
        let mut entries = Vec::with_capacity(self.len() as usize);
        for path in &self.files {
            let (file, stamp) = (file_name(path), digest::stamp(path));
            for (number, row) in rows(path, &["label"], 0).map_err(fault(path))?.enumerate() {
                let class = row.and_then(|row| label(&row)).map_err(fault(path))? as usize;
                entries.push(Entry { name: format!("{file}/{number}"), class, stamp: stamp.clone() });
            }
        }
        Ok(entries)
    }

    fn samples(&self, start: u64) -> std::result::Result<Samples<'_>, Error> {
        let files = self.files.iter().zip(self.starts.windows(2)).filter(move |(_, range)| range[1] > start);
        Ok(Box::new(files.flat_map(move |(path, range)| {
            let skip = start.saturating_sub(range[0]);
            let name = file_name(path);
            let samples: Samples<'_> = match rows(path, &["image", "label"], skip) {
                Err(error) => Box::new(std::iter::once(Err(fault(path)(error)))),
                Ok(rows) => Box::new(rows.zip(skip..).map(move |(row, number)| {
                    row.and_then(|row| sample(&row, format!("{name}/{number}"))).map_err(fault(path))
                })),
            };
            samples
        })))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn fault(path: &Path) -> impl Fn(ParquetError) -> Error {
    |error| Error::Archive { path: path.into(), reason: error.to_string() }
}

/// Some columns of the rows of a file from number `skip` on; groups of rows before it stay unread.
fn rows(path: &Path, columns: &[&str], skip: u64) -> Result<impl Iterator<Item = Result<Row>> + use<>> {
    let whole = SerializedFileReader::new(File::open(path)?)?;
    let metadata = whole.metadata();
    let schema = metadata.file_metadata().schema();
    let fields = schema.get_fields().iter().filter(|field| columns.contains(&field.name())).map(Arc::clone);
    let fields: Vec<_> = fields.collect();
    if fields.len() != columns.len() {
        let problem = format!("it lacks one of the columns {}", columns.join(", "));
        return Err(ParquetError::General(problem));
    }
    let wanted = Type::group_type_builder(schema.name()).with_fields(fields).build()?;

    let (mut first, mut before) = (0, 0);
    for group in metadata.row_groups() {
        let after = before + u64::try_from(group.num_rows()).unwrap_or_default();
        if after > skip {
            break;
        }
        (first, before) = (first + 1, after);
    }
    let options = ReadOptionsBuilder::new().with_predicate(Box::new(move |_, group| group >= first)).build();
    let reader = SerializedFileReader::new_with_options(File::open(path)?, options)?;
    let rows = RowIter::from_file_into(Box::new(reader)).project(Some(wanted))?.with_batch_size(AHEAD);
    Ok(rows.skip((skip - before) as usize))
}

fn sample(row: &Row, name: String) -> Result<Sample> {
    let class = label(row)? as usize;
    let image = field(row, "image").and_then(|image| match image {
        Field::Group(image) => field(image, "bytes"),
        _ => None,
    });
    match image {
        Some(Field::Bytes(bytes)) => Ok(Sample { name, class, bytes: bytes.data().to_vec() }),
        _ => Err(ParquetError::General(format!("{name}: `image` has no `bytes`; images beside the file are not read"))),
    }
}

fn label(row: &Row) -> Result<i64> {
    match field(row, "label") {
        Some(Field::Long(label)) => Ok(*label),
        Some(Field::Int(label)) => Ok((*label).into()),
        other => Err(ParquetError::General(format!("`label` is {other:?}; expected an integer"))),
    }
}

fn field<'a>(row: &'a Row, name: &str) -> Option<&'a Field> {
    row.get_column_iter().find_map(|(found, field)| (found == name).then_some(field))
}
