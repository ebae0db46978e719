//! Reading `config.json`.

use std::fs;
use std::path::Path;

use mixflow::backbones::json::explain;
use mixflow::backbones::not_data::why_not_data;
use serde::de::DeserializeOwned;

use crate::Error;

/// The value of a JSON file; keys that it does not have are passed over.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(Error::reading(path))?;
    if let Some(problem) = why_not_data(text.as_bytes()) {
        return Err(Error::config(path, format!("it {problem}")));
    }
    let value = &mut serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string() {
        key if key == "." || key == "?" => Error::config(path, explain(error.inner())),
        key => Error::config(path, format!("{key}: {}", explain(error.inner()))),
    })
}

/// Most blocks of a network, and most rows or columns of its tables.
pub(crate) const MOST_BLOCKS: usize = 1 << 10;
pub(crate) const WIDEST: usize = 1 << 20;

/// Refuses zero and what is more than `most`, by the key that says so.
pub(crate) fn sizes(path: &Path, most: usize, sizes: &[(&str, usize)]) -> Result<(), Error> {
    match sizes.iter().find(|(_, number)| !(1..=most).contains(number)) {
        Some((key, number)) => Err(Error::config(path, format!("{key}: expected 1 to {most}, found {number}"))),
        None => Ok(()),
    }
}
