//! Images of a directory with their captions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::fs;
use std::path::{Component, Path, PathBuf};

use mixflow_backbones::json::explain;
use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::image_captions::{CaptionFormat, ImageCaptions};
use crate::files::listing::{Listing, kinds};
use crate::numbers::counted;

/// A line of `metadata.jsonl`, as in an `imagefolder` of Hugging Face `datasets`; other columns are ignored.
#[derive(Deserialize)]
struct Line {
    file_name: String,
    #[serde(default)]
    text: Value,
    #[serde(default)]
    caption: Value,
    #[serde(default)]
    weights: Value,
}

/// Images with their captions.
pub(super) struct Captioned {
    pub(super) images: Vec<(PathBuf, ImageCaptions)>,
    /// What the user should know about them.
    pub(super) notices: Vec<String>,
}

/// The images at any depth below `path`.
///
/// Captions stand in `metadata.jsonl`, or in a file of each image's name with the ending .txt beside it.
///
/// Masks that lie beside them are told by what their names end in, where they are.
pub(super) fn captioned(path: &Path, format: CaptionFormat, masks: Option<&str>) -> Result<Captioned, Error> {
    let listing = Listing::without_masks(masks).and_below(path)?;
    let table = path.join("metadata.jsonl");
    let Captioned { images, mut notices } =
        if table.is_file() { of_table(path, &table, listing, format)? } else { of_neighbours(path, listing, format)? };
    let empty =
        images.iter().filter(|(_, ImageCaptions(captions))| captions.iter().any(|(caption, _)| caption.is_empty()));
    notices.extend(empty_captions(empty.map(|(file, _)| file.display())));
    Ok(Captioned { images, notices })
}

/// A text in UTF-8 without a byte order mark, or what it is instead.
pub(super) fn text(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        format!("text that is not UTF-8 in line {line}; save it as UTF-8")
    })?;
    if text.contains('\0') {
        return Err("text with zeros, as text in UTF-16 has; save it as UTF-8".into());
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// How many images have an empty caption, by the names of these: it is what stands for no prompt.
pub(super) fn empty_captions(images: impl IntoIterator<Item = impl Display>) -> Option<String> {
    first(images, ["", "with an empty caption"])
}

/// Which of two captions is taken where there are both, in so many of one thing.
pub(super) fn both_captions(count: usize, one: &str, of: &str) -> Option<String> {
    let several = counted(count as u64, one);
    (count > 0).then(|| format!("{several}{of} with a `text` and a `caption`: `text` is taken"))
}

fn of_table(path: &Path, table: &Path, mut listing: Listing, format: CaptionFormat) -> Result<Captioned, Error> {
    let fault = |reason: String| Error::Captions { path: table.to_owned(), reason };
    let text = read_text(table)?;
    let (mut images, mut lines, mut both) = (vec![], HashMap::new(), 0);
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let Line { file_name, text, caption, weights } = serde_json::from_str(line).map_err(|error| {
            let expected = r#"{"file_name": "cat.png", "text": "a cat"}"#;
            fault(format!("are wrong in line {number}: {}; expected lines such as {expected}", explain(&error)))
        })?;
        both += usize::from(!text.is_null() && !caption.is_null());
        let told = if text.is_null() { caption } else { text };
        if told.is_null() {
            return Err(fault(format!("have no `text` in line {number}; expected the caption of {file_name} there")));
        }
        let told = format.of_json(&told, &weights);
        let told = told.map_err(|found| fault(format!("are wrong in line {number}: {found}")))?;
        if told.has_zeros() {
            return Err(fault(format!("hold zeros in line {number}, which are no text")));
        }
        // Tables that were made on Windows have its separators.
        let names = [file_name.clone(), file_name.replace('\\', "/")];
        let names = names.map(|name| inside(Path::new(&name)));
        let [Some(name), Some(other)] = names else {
            return Err(fault(format!("name {file_name} in line {number}, which is outside of their folder")));
        };
        let name = if path.join(&name).is_file() { name } else { other };
        if !path.join(&name).is_file() {
            return Err(fault(format!("name {file_name} in line {number}, which is not there")));
        }
        if let Some(earlier) = lines.insert(path.join(&name), number) {
            let reason = format!("name {file_name} in line {earlier} and in line {number}; keep one of them");
            return Err(fault(reason));
        }
        images.push((path.join(name), told));
    }
    if images.is_empty() {
        return Err(fault("name no images".into()));
    }
    listing.others.retain(|file| file != table && !lines.contains_key(file));
    let mut notices = listing.passed_over();
    let without = listing.images.iter().filter(|image| !lines.contains_key(*image)).map(|image| image.display());
    notices.extend(first(without, ["passed over ", "without a line in metadata.jsonl"]));
    notices.extend(both_captions(both, "line", " of metadata.jsonl"));
    Ok(Captioned { images, notices })
}

/// A path inside a folder without detours; none if it leads out of it.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if parts.pop() => {}
            Component::Normal(name) => parts.push(name),
            _ => return None,
        }
    }
    Some(parts)
}

fn of_neighbours(path: &Path, mut listing: Listing, format: CaptionFormat) -> Result<Captioned, Error> {
    let is_text = |file: &PathBuf| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("txt"));
    let (texts, others): (Vec<_>, Vec<_>) = listing.others.into_iter().partition(is_text);
    let files = std::mem::take(&mut listing.images);
    if files.is_empty() {
        return Err(Error::NoImages { path: path.to_owned(), found: kinds(&others) });
    }
    let mut captions = BTreeMap::new();
    for text in texts {
        if let Some(twin) = captions.insert(text.with_extension(""), text.clone()) {
            let reason = format!("stand beside {}, where only one of them can be meant", text.display());
            return Err(Error::Captions { path: twin, reason });
        }
    }
    let (mut images, mut without, mut used) = (vec![], vec![], HashSet::new());
    for file in &files {
        let stem = file.with_extension("");
        match captions.get(&stem) {
            Some(text) => images.push((file.clone(), format.of_text(&read_text(text)?))),
            None => without.push(file),
        }
        used.insert(stem);
    }
    if let Some(image) = without.first() {
        let reason = format!(
            "are not there; expected those of {}, or of all images in metadata.jsonl ({} of {} images have none){}",
            image.display(),
            without.len(),
            files.len(),
            if others.iter().any(|file| file.ends_with("metadata.csv")) { "; metadata.csv is not read" } else { "" }
        );
        return Err(Error::Captions { path: image.with_extension("txt"), reason });
    }
    let unused = captions.into_iter().filter(|(stem, _)| !used.contains(stem)).map(|(_, text)| text);
    listing.others = others.into_iter().chain(unused).collect();
    Ok(Captioned { images, notices: listing.passed_over() })
}

/// How many images there are of a kind, and the first of them.
fn first(images: impl IntoIterator<Item = impl Display>, [before, what]: [&str; 2]) -> Option<String> {
    let mut images = images.into_iter();
    let first = images.next()?;
    let images = counted(1 + images.count() as u64, "image");
    Some(format!("{before}{images} {what}, the first {first}"))
}

/// The text of a file.
fn read_text(path: &Path) -> Result<String, Error> {
    let fault = |reason: String| Error::Captions { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
    text(&bytes).map(String::from).map_err(|found| fault(format!("are {found}")))
}
