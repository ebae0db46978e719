//! Configurations of `diffusers`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::json::explain;
use crate::not_data::why_not_data;

/// Largest configuration, bytes: a hundred times those that are published.
const MAX_CONFIG: u64 = 1 << 20;

/// The configuration of a `class` of `diffusers` in the JSON of `file`, such as `vae/config.json`.
///
/// # Errors
/// If the file cannot be read, is no such JSON, or says that it belongs to another class (`_class_name`).
pub fn read_config<T: DeserializeOwned>(file: &Path, class: &str) -> Result<T, Error> {
    let fault = |error| Error::format(file, format!("is no configuration of diffusers' {class}: {error}"));
    let value = read(file)?.map_err(|error| fault(explain(&error)))?;
    match value.get("_class_name").and_then(Value::as_str) {
        Some(found) if found == class => serde_json::from_value(value).map_err(|error| fault(explain(&error))),
        Some(found) => Err(Error::format(file, format!("describes a {found}; expected {class}"))),
        None => Err(fault("it has no `_class_name`".into())),
    }
}

/// Whether `file` is the configuration of a `class`; what cannot be read is none.
pub fn is_config(file: &Path, class: &str) -> bool {
    read(file).is_ok_and(|value| value.is_ok_and(|value| value["_class_name"] == class))
}

fn read(file: &Path) -> Result<serde_json::Result<Value>, Error> {
    let mut text = String::new();
    File::open(file).and_then(|file| file.take(MAX_CONFIG).read_to_string(&mut text)).map_err(Error::reading(file))?;
    match why_not_data(text.as_bytes()) {
        Some(problem) => Err(Error::format(file, problem)),
        None => Ok(serde_json::from_str(&text)),
    }
}
