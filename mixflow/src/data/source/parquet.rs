//! Parquet shards of Hugging Face data sets.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::Result;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde::Deserialize;
use serde_json::Value;

use super::{Options, Source, SourceEntry, SourceImage, SourceImages, disguise, file_names, unusable, without_images};
use crate::data::captions::{both_captions, empty_captions};
use crate::data::image_captions::{CaptionNumbers, ImageCaptions, several};
use crate::data::{CaptionFormat, Error};
use crate::files::digest;
use crate::printable;

/// Classes that labels without names may have.
const MAX_CLASSES: i64 = 1 << 20;

/// Rows that are decoded ahead.
const AHEAD: usize = 64;

/// Images in `.parquet` files, one file after the other, as Hugging Face's `datasets` writes them.
///
/// The column of the images holds encoded bytes, or structs of `bytes` and `path`; the column of the labels integers or
/// text. They are the columns that [`Options`] name, `image` and `label`, or the only ones that the file's metadata call
/// `Image` and `ClassLabel`. Classes are called as [`Options::classes`] or the metadata say, by the different texts in
/// their order, or by their numbers.
///
/// With [`Options::captions`] the column of the labels holds captions: it is called `text` or `caption` unless
/// [`Options::label_column`] names it. Where a row has a list of them, a column `weights` of lists of numbers says how often each
/// is told.
///
/// Opening reads footers and labels; images are read when asked for.
#[derive(Debug)]
pub struct Parquet {
    files: Vec<PathBuf>,
    /// Of the files, without folders.
    names: Vec<String>,
    /// The column of the images of each file.
    columns: Vec<String>,
    /// Rows before each file, and in all.
    starts: Vec<usize>,
    /// Of all rows.
    labels: Vec<u32>,
    /// Of all rows, where some have several.
    captions: Vec<Vec<(usize, f64)>>,
    classes: Vec<String>,
    notices: Vec<String>,
}

impl Parquet {
    /// Opens the shards.
    ///
    /// # Errors
    /// If a file cannot be read, lacks a column, calls its classes otherwise than another, or a label is not among them.
    pub fn open(files: &[PathBuf], options: &Options) -> std::result::Result<Self, Error> {
        let names = file_names(files)?;
        let mut named = options.classes.clone();
        let (mut columns, mut starts, mut labels) = (vec![], vec![0], Labels::default());
        let (mut captions, mut count, mut both) = (CaptionNumbers::default(), 0, 0);
        for path in files {
            let fault = fault(path);
            let schema = Schema::read(path).map_err(&fault)?;
            let label = match options.captions {
                true => schema.captions(options.label_column.as_deref()),
                false => schema.column("label", "ClassLabel", options.label_column.as_deref()),
            };
            let label = label.map_err(&fault)?;
            // As in a folder's metadata.jsonl.
            both += usize::from(options.captions && options.label_column.is_none() && schema.has_both());
            columns.push(schema.column("image", "Image", options.image_column.as_deref()).map_err(&fault)?);
            if options.classes.is_none() && !options.captions {
                let found = schema.class_names(&label);
                if starts.len() > 1 && found != named {
                    let first = files[0].display();
                    return Err(fault(format!(
                        "its metadata name other classes than those of {first}; name them with --classes"
                    )));
                }
                named = found;
            }
            let weighted = options.captions && schema.columns.iter().any(|column| column == WEIGHTS);
            let weights = weighted.then(|| rows(path, WEIGHTS, 0)).transpose();
            let mut weights = weights.map_err(|error| fault(error.to_string()))?;
            for (row, number) in rows(path, &label, 0).map_err(|error| fault(error.to_string()))?.zip(0_u64..) {
                let row = row.map_err(|error| fault(error.to_string()))?;
                let weights = weights.as_mut().and_then(Iterator::next).transpose();
                let weights = weights.map_err(|error| fault(error.to_string()))?;
                let field = |row: &Row| row.get_column_iter().next().map(|(_, field)| field.clone());
                let (field, weights) = (field(&row), weights.as_ref().and_then(field));
                let added = match options.captions {
                    true => captions_of(field, weights, options.caption_format).and_then(|told| {
                        if told.has_zeros() {
                            return Err("text with zeros".into());
                        }
                        captions.add(told);
                        Ok(())
                    }),
                    false => labels.add(field.as_ref(), named.as_deref()),
                };
                count += 1;
                added.map_err(|problem| fault(format!("row {number} has {problem}")))?;
            }
            starts.push(count);
        }
        if count == 0 {
            let path = files.first().cloned().unwrap_or_default();
            return Err(Error::Archive { path, reason: "no rows".into() });
        }
        let (texts, captions) = captions.classes();
        let (labels, classes) = match options.captions {
            true => (captions.iter().map(|captions| captions[0].0 as u32).collect(), texts),
            false => labels.classes(named),
        };
        let told = captions.iter().flatten().map(|(caption, _)| *caption);
        let notices = without_images(&classes, labels.iter().map(|label| *label as usize).chain(told));
        let notices = notices.into_iter().collect();
        let empty = captions.iter().enumerate().filter(|(_, told)| told.iter().any(|(of, _)| classes[*of].is_empty()));
        let empty: Vec<usize> = empty.map(|(row, _)| row).collect();
        let captions = several(captions);
        let mut all = Self { files: files.to_vec(), names, columns, starts, labels, captions, classes, notices };
        let empty = empty_captions(empty.into_iter().map(|row| printable(&all.name(row)).into_owned()));
        all.notices.extend(both_captions(both, ".parquet file", "").into_iter().chain(empty));
        Ok(all)
    }

    /// The file's name and the number of the row in it.
    fn name(&self, row: usize) -> String {
        let file = self.starts.partition_point(|&start| start <= row) - 1;
        format!("{}/{}", self.names[file], row - self.starts[file])
    }
}

/// The labels of rows.
#[derive(Default)]
struct Labels {
    /// Labels of texts count them in the order of their first rows.
    numbers: Vec<u32>,
    texts: HashMap<String, u32>,
}

impl Labels {
    /// Adds that of a row, or says what it is instead.
    fn add(&mut self, field: Option<&Field>, named: Option<&[String]>) -> std::result::Result<(), String> {
        let number = match field {
            Some(Field::Str(text)) if text.is_empty() => return Err("an empty label".into()),
            Some(Field::Str(text)) => return self.add_text(text, named),
            Some(Field::Bytes(bytes)) => {
                let text = bytes.as_utf8().map_err(|_| "a label of bytes; expected an integer or text")?;
                return self.add_text(text, named);
            }
            Some(Field::Bool(label)) => i64::from(*label),
            Some(Field::Byte(label)) => (*label).into(),
            Some(Field::Short(label)) => (*label).into(),
            Some(Field::Int(label)) => (*label).into(),
            Some(Field::Long(label)) => *label,
            Some(Field::UByte(label)) => (*label).into(),
            Some(Field::UShort(label)) => (*label).into(),
            Some(Field::UInt(label)) => (*label).into(),
            Some(Field::ULong(label)) => i64::try_from(*label).unwrap_or(i64::MAX),
            None | Some(Field::Null) => return Err("no label".into()),
            Some(other) => return Err(format!("the label {other}; expected an integer or text")),
        };
        if !self.texts.is_empty() {
            return Err(format!("the label {number}, where rows before have text"));
        }
        let known = named.map_or(MAX_CLASSES, |named| named.len() as i64);
        if !(0..known).contains(&number) {
            // So `datasets` marks the rows of a test set whose labels are secret.
            let advice = if number == -1 { ", and -1 where there is none: leave this file out" } else { "" };
            return Err(format!("label {number}; expected from 0 to {}{advice}", known - 1));
        }
        self.numbers.push(number as u32);
        Ok(())
    }

    fn add_text(&mut self, text: &str, named: Option<&[String]>) -> std::result::Result<(), String> {
        if let Some(number) = self.texts.get(text) {
            self.numbers.push(*number);
            return Ok(());
        }
        if self.texts.is_empty() && !self.numbers.is_empty() {
            return Err(format!("the label `{text}`, where rows before have integers"));
        }
        if named.is_some_and(|named| !named.iter().any(|class| class == text)) {
            return Err(format!("the label `{text}`, which is none of the classes"));
        }
        let number = self.texts.len() as u32;
        self.texts.insert(text.into(), number);
        self.numbers.push(number);
        Ok(())
    }

    /// The labels as numbers of classes, and the names of these.
    fn classes(self, named: Option<Vec<String>>) -> (Vec<u32>, Vec<String>) {
        let Self { mut numbers, texts } = self;
        if texts.is_empty() {
            let last = numbers.iter().max().copied().unwrap_or_default();
            return (numbers, named.unwrap_or_else(|| (0..=last).map(|class| class.to_string()).collect()));
        }
        let sorted: BTreeMap<_, _> = texts.into_iter().collect();
        let classes = named.unwrap_or_else(|| sorted.keys().cloned().collect());
        let places: HashMap<_, _> = classes.iter().zip(0_u32..).map(|(class, place)| (class.clone(), place)).collect();
        let mut by_number = vec![0; sorted.len()];
        sorted.iter().for_each(|(text, number)| by_number[*number as usize] = places[text]);
        numbers.iter_mut().for_each(|number| *number = by_number[*number as usize]);
        (numbers, classes)
    }
}

/// The column of how often each of several captions is told.
const WEIGHTS: &str = "weights";

/// The captions of a row, or what it has instead.
fn captions_of(
    field: Option<Field>,
    weights: Option<Field>,
    format: CaptionFormat,
) -> std::result::Result<ImageCaptions, String> {
    let weight = |field: &Field| match field {
        Field::Byte(number) => f64::from(*number),
        Field::Short(number) => f64::from(*number),
        Field::Int(number) => f64::from(*number),
        Field::Long(number) => *number as f64,
        Field::UByte(number) => f64::from(*number),
        Field::UShort(number) => f64::from(*number),
        Field::UInt(number) => f64::from(*number),
        Field::ULong(number) => *number as f64,
        Field::Float16(number) => f64::from(*number),
        Field::Float(number) => f64::from(*number),
        Field::Double(number) => *number,
        _ => f64::NAN,
    };
    let weights = match weights {
        Some(Field::ListInternal(weights)) => Some(weights.elements().iter().map(weight).collect()),
        None | Some(Field::Null) => None,
        Some(_) => Some(vec![]),
    };
    let text = |text: &str| match format.of_text(text) {
        told if told.0.len() == 1 => Ok(told),
        told => told.weighted(weights.clone()),
    };
    let list = match field {
        Some(Field::Str(found)) => return text(&found),
        Some(Field::Bytes(bytes)) => return text(bytes.as_utf8().map_err(|_| "a caption of bytes; expected text")?),
        Some(Field::ListInternal(list)) => list,
        None | Some(Field::Null) => return Err("no caption".into()),
        Some(other) => return Err(format!("the caption {other}; expected text, or a list of texts")),
    };
    let text = |field: &Field| match field {
        Field::Str(text) => Ok(text.clone()),
        other => Err(format!("the caption {other} in a list; expected text")),
    };
    let texts = list.elements().iter().map(text).collect::<std::result::Result<Vec<String>, _>>()?;
    ImageCaptions::of_list(&texts, weights)
}

impl Source for Parquet {
    fn len(&self) -> u64 {
        self.labels.len() as u64
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self) -> String {
        let files: Vec<_> = self.files.iter().map(|path| path.display().to_string()).collect();
        format!("parquet {}", files.join(", "))
    }

    fn entries(&self) -> std::result::Result<Vec<SourceEntry>, Error> {
        let mut entries = Vec::with_capacity(self.labels.len());
        for (file, path) in self.files.iter().enumerate() {
            let stamp = digest::stamp(path);
            let labels = &self.labels[self.starts[file]..self.starts[file + 1]];
            entries.extend(labels.iter().enumerate().map(|(number, class)| SourceEntry {
                name: format!("{}/{number}", self.names[file]),
                class: *class as usize,
                captions: self.captions.get(self.starts[file] + number).cloned().unwrap_or_default(),
                stamp: stamp.clone(),
            }));
        }
        Ok(entries)
    }

    fn several_captions(&self) -> bool {
        !self.captions.is_empty()
    }

    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    fn samples(&self, start: u64) -> std::result::Result<SourceImages<'_>, Error> {
        let start = start as usize;
        let files = (0..self.files.len()).filter(move |file| self.starts[file + 1] > start);
        Ok(Box::new(files.flat_map(move |file| {
            let (path, before) = (&self.files[file], self.starts[file]);
            let skip = start.saturating_sub(before);
            let samples: SourceImages<'_> = match rows(path, &self.columns[file], skip as u64) {
                Err(error) => Box::new(std::iter::once(Err(fault(path)(error.to_string())))),
                Ok(rows) => Box::new(rows.zip(skip..).map(move |(row, number)| {
                    let row = row.map_err(|problem| fault(path)(format!("row {number}: {problem}")))?;
                    let name = format!("{}/{number}", self.names[file]);
                    let bytes = image(&row).map_err(|problem| unusable(&name, problem))?;
                    Ok(SourceImage { name, class: self.labels[before + number] as usize, bytes, mask: None })
                })),
            };
            samples
        })))
    }
}

fn fault(path: &Path) -> impl Fn(String) -> Error {
    |reason| Error::Archive { path: path.into(), reason: printable(&reason).into_owned() }
}

/// What a file says of its columns.
struct Schema {
    columns: Vec<String>,
    /// By Hugging Face's `datasets`.
    features: BTreeMap<String, Value>,
}

impl Schema {
    fn read(path: &Path) -> std::result::Result<Self, String> {
        let mut file = File::open(path).map_err(|error| error.to_string())?;
        if let Some(found) = disguise(&mut file).map_err(|error| error.to_string())? {
            return Err(format!("it {found}"));
        }
        let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
        let metadata = reader.metadata().file_metadata();
        let columns = metadata.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
        let pairs = metadata.key_value_metadata().into_iter().flatten();
        let about = pairs.filter(|pair| pair.key == "huggingface").find_map(|pair| pair.value.as_deref());
        #[derive(Deserialize)]
        struct About {
            info: Info,
        }
        #[derive(Deserialize)]
        struct Info {
            features: BTreeMap<String, Value>,
        }
        let about = about.and_then(|about| serde_json::from_str::<About>(about).ok());
        Ok(Self { columns, features: about.map(|about| about.info.features).unwrap_or_default() })
    }

    /// The column with this name, else with the usual one, else the only one of a kind of `datasets`.
    fn column(&self, usual: &str, kind: &str, name: Option<&str>) -> std::result::Result<String, String> {
        let wanted = name.unwrap_or(usual);
        match self.columns.iter().filter(|column| *column == wanted).count() {
            0 => {}
            1 => return Ok(wanted.into()),
            count => return Err(format!("it has {count} columns {wanted}: rename all but one")),
        }
        let found: Vec<_> = self
            .columns
            .iter()
            .filter(|column| self.features.get(*column).is_some_and(|of| of["_type"] == kind))
            .collect();
        match (name, &found[..]) {
            (None, [only]) => Ok((*only).clone()),
            _ => {
                let columns = self.columns.join(", ");
                Err(format!("it lacks the column {wanted}, and has {columns}; choose one with --{usual}-column"))
            }
        }
    }

    /// The column of captions, by this name or one of the usual ones.
    fn captions(&self, name: Option<&str>) -> std::result::Result<String, String> {
        let wanted = name.map_or(vec!["text", "caption"], |name| vec![name]);
        match wanted.iter().find(|name| self.has(name)) {
            Some(column) => Ok((*column).into()),
            None => {
                let (wanted, columns) = (wanted.join(" or "), self.columns.join(", "));
                Err(format!(
                    "it lacks the column {wanted}, and has {columns}; choose that of the captions with --label-column"
                ))
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column == name)
    }

    fn has_both(&self) -> bool {
        self.has("text") && self.has("caption")
    }

    /// The classes of a column, where `datasets` tells them.
    fn class_names(&self, column: &str) -> Option<Vec<String>> {
        let names = self.features.get(column)?.get("names")?.as_array()?;
        names.iter().map(|name| name.as_str().map(String::from)).collect()
    }
}

/// A column of the rows of a file from number `skip` on; groups of rows before it stay unread.
fn rows(path: &Path, column: &str, skip: u64) -> Result<impl Iterator<Item = Result<Row>> + use<>> {
    let whole = SerializedFileReader::new(File::open(path)?)?;
    let metadata = whole.metadata();
    let schema = metadata.file_metadata().schema();
    let fields = schema.get_fields().iter().filter(|field| field.name() == column).map(Arc::clone);
    let wanted = Type::group_type_builder(schema.name()).with_fields(fields.collect()).build()?;

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

/// The encoded bytes of the only column of a row.
fn image(row: &Row) -> std::result::Result<Vec<u8>, String> {
    let bytes = match row.get_column_iter().next() {
        Some((_, Field::Group(image))) => {
            image.get_column_iter().find_map(|(name, field)| (name == "bytes").then_some(field))
        }
        other => other.map(|(_, field)| field),
    };
    match bytes {
        Some(Field::Bytes(bytes)) => Ok(bytes.data().to_vec()),
        Some(Field::Null) => Err("there are no bytes of an image, and images beside the file are not read".into()),
        Some(Field::Str(_)) => {
            Err("it is text; expected bytes of an image, as images beside the file are not read".into())
        }
        Some(Field::ListInternal(_)) => Err("it is a list; expected one image in a row".into()),
        _ => Err("it is none; expected the bytes of an image, or a struct with `bytes`".into()),
    }
}
