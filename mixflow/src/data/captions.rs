//! Images of a directory with their captions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use mixflow_backbones::json::explain;
use serde::Deserialize;

use super::Error;
use crate::files::listing::{Listing, kinds};
use crate::numbers::counted;

/// A line of `metadata.jsonl`, as in an `imagefolder` of Hugging Face `datasets`; other columns are ignored.
#[derive(Deserialize)]
struct Line {
    file_name: String,
    text: Option<String>,
    caption: Option<String>,
}

/// Images with their captions.
pub(super) struct Captioned {
    /// White space in captions as single spaces.
    pub(super) images: Vec<(PathBuf, String)>,
    /// What the user should know about them.
    pub(super) notices: Vec<String>,
}

/// The images at any depth below `path`.
///
/// Captions stand in `metadata.jsonl`, or in a file of each image's name with the ending .txt beside it.
pub(super) fn captioned(path: &Path) -> Result<Captioned, Error> {
    let listing = Listing::below(path)?;
    let table = path.join("metadata.jsonl");
    let Captioned { images, mut notices } =
        if table.is_file() { of_table(path, &table, listing)? } else { of_neighbours(path, listing)? };
    let images: Vec<_> = images.into_iter().map(|(file, text)| (file, one_line(&text))).collect();
    let empty: Vec<_> = images.iter().filter(|(_, caption)| caption.is_empty()).map(|(file, _)| file).collect();
    notices.extend(first(&empty, ["", "with an empty caption"]));
    Ok(Captioned { images, notices })
}

/// A caption as it is told: white space in it as single spaces.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn of_table(path: &Path, table: &Path, mut listing: Listing) -> Result<Captioned, Error> {
    let fault = |reason: String| Error::Captions { path: table.to_owned(), reason };
    let text = read_text(table)?;
    let (mut images, mut lines, mut both) = (vec![], HashMap::new(), 0);
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let Line { file_name, text, caption } = serde_json::from_str(line).map_err(|error| {
            let expected = r#"{"file_name": "cat.png", "text": "a cat"}"#;
            fault(format!("are wrong in line {number}: {}; expected lines such as {expected}", explain(&error)))
        })?;
        both += usize::from(text.is_some() && caption.is_some());
        if [&text, &caption].into_iter().flatten().any(|text| text.contains('\0')) {
            return Err(fault(format!("hold zeros in line {number}, which are no text")));
        }
        let Some(caption) = text.or(caption) else {
            return Err(fault(format!("have no `text` in line {number}; expected the caption of {file_name} there")));
        };
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
        images.push((path.join(name), caption));
    }
    if images.is_empty() {
        return Err(fault("name no images".into()));
    }
    listing.others.retain(|file| file != table && !lines.contains_key(file));
    let mut notices = listing.passed_over();
    let without: Vec<_> = listing.images.iter().filter(|image| !lines.contains_key(*image)).collect();
    notices.extend(first(&without, ["passed over ", "without a line in metadata.jsonl"]));
    if both > 0 {
        let lines = counted(both as u64, "line");
        notices.push(format!("{lines} of metadata.jsonl with a `text` and a `caption`: `text` is taken"));
    }
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

fn of_neighbours(path: &Path, mut listing: Listing) -> Result<Captioned, Error> {
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
            Some(text) => images.push((file.clone(), read_text(text)?)),
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

/// How many there are of something, and the first of them.
fn first(files: &[&PathBuf], [before, what]: [&str; 2]) -> Option<String> {
    let images = counted(files.len() as u64, "image");
    files.first().map(|first| format!("{before}{images} {what}, the first {}", first.display()))
}

/// A text in UTF-8, without a byte order mark.
fn read_text(path: &Path) -> Result<String, Error> {
    let fault = |reason: String| Error::Captions { path: path.to_owned(), reason };
    let text = fs::read(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(text).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        fault(format!("are not UTF-8 in line {line}; save them as UTF-8"))
    })?;
    if text.contains('\0') {
        return Err(fault("hold zeros, as text in UTF-16 does; save them as UTF-8".into()));
    }
    Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text))
}
