//! Images of a directory with their captions.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;
use super::folder::list;

/// A line of `metadata.jsonl`, as in an `imagefolder` of Hugging Face `datasets`; other columns are ignored.
#[derive(Deserialize)]
struct Line {
    file_name: String,
    #[serde(alias = "caption")]
    text: String,
}

/// The images at any depth below `path`, each with its caption, white space in it as single spaces.
///
/// Captions stand in `metadata.jsonl`, or in a file of each image's name with the ending .txt beside it.
pub(super) fn captioned(path: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let table = path.join("metadata.jsonl");
    let images = if table.is_file() { of_table(path, &table)? } else { of_neighbours(path)? };
    if images.is_empty() {
        return Err(Error::NoImages { path: path.to_owned() });
    }
    Ok(images.into_iter().map(|(file, text)| (file, text.split_whitespace().collect::<Vec<_>>().join(" "))).collect())
}

fn of_table(path: &Path, table: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let fault = |reason: String| Error::Captions { path: table.to_owned(), reason };
    let text = fs::read_to_string(table).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let line: Line = serde_json::from_str(line).map_err(|error| {
                let expected = r#"{"file_name": "cat.png", "text": "a cat"}"#;
                fault(format!("is wrong in line {}, {error}; expected lines such as {expected}", number + 1))
            })?;
            let file = path.join(&line.file_name);
            match file.is_file() {
                true => Ok((file, line.text)),
                false => Err(fault(format!("names {} in line {}, which is not there", line.file_name, number + 1))),
            }
        })
        .collect()
}

fn of_neighbours(path: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut files = vec![];
    list(path, &mut vec![], &mut files)?;
    let caption = |file: PathBuf| {
        let text = file.with_extension("txt");
        match fs::read_to_string(&text) {
            Ok(caption) => Ok((file, caption)),
            Err(error) => Err(Error::Captions {
                path: text,
                reason: format!(
                    "cannot be read: {error}; expected the caption of {} there, or of all images in metadata.jsonl",
                    file.display()
                ),
            }),
        }
    };
    files.into_iter().map(caption).collect()
}
