//! Recipes from names, files and `key=value` overrides.

use std::path::Path;

use mixflow_backbones::mistaken::instead_of_data;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Recipe;
use crate::Error;

/// Recipes that come with the crate, by name.
pub(super) const EMBEDDED: [(&str, &str); 4] = [
    ("digits", include_str!("../../recipes/digits.json")),
    ("shapes", include_str!("../../recipes/shapes.json")),
    ("repa", include_str!("../../recipes/repa.json")),
    ("rae", include_str!("../../recipes/rae.json")),
];

/// Recipes of the published networks, by name.
const PUBLISHED: [(&str, &str); 7] = [
    ("paper/sit-b-2-256", include_str!("../../recipes/paper/sit-b-2-256.json")),
    ("paper/sit-xl-2-256", include_str!("../../recipes/paper/sit-xl-2-256.json")),
    ("paper/sit-xl-2-512", include_str!("../../recipes/paper/sit-xl-2-512.json")),
    ("paper/repa-xl-2-256", include_str!("../../recipes/paper/repa-xl-2-256.json")),
    ("paper/dit-dh-xl-256", include_str!("../../recipes/paper/dit-dh-xl-256.json")),
    ("paper/dit-dh-xl-512", include_str!("../../recipes/paper/dit-dh-xl-512.json")),
    ("paper/lightning-dit-xl-256", include_str!("../../recipes/paper/lightning-dit-xl-256.json")),
];

/// Reads a recipe of any kind by name, or from a JSON file, and changes it by `key=value` overrides.
pub(super) fn read<T>(
    name_or_path: &str,
    overrides: &[String],
    from_value: impl Fn(Value) -> Result<T, String>,
) -> Result<T, Error> {
    let fault = |reason: String| Error::Recipe { origin: name_or_path.into(), reason };
    let text = match EMBEDDED.iter().chain(&PUBLISHED).find(|(name, _)| *name == name_or_path) {
        Some((_, text)) => (*text).to_string(),
        None if Path::new(name_or_path).is_file() => {
            std::fs::read_to_string(name_or_path).map_err(Error::io("read", Path::new(name_or_path)))?
        }
        None => {
            let names: Vec<_> = Recipe::names().collect();
            return Err(fault(format!("no such file, and no recipe of that name; recipes are {}", names.join(", "))));
        }
    };
    changed(name_or_path, &text, overrides, from_value)
}

/// The recipe in a text, changed by `key=value` overrides.
pub(super) fn changed<T>(
    origin: &str,
    text: &str,
    overrides: &[String],
    from_value: impl Fn(Value) -> Result<T, String>,
) -> Result<T, Error> {
    let fault = |reason: String| Error::Recipe { origin: origin.into(), reason };
    if let Some(problem) = instead_of_data(text.as_bytes()) {
        return Err(fault(problem));
    }
    let mut value: Value = serde_json::from_str(text).map_err(|error| fault(format!("not JSON: {error}")))?;
    let original = value.clone();
    for change in overrides {
        apply(&mut value, change)?;
    }
    from_value(value).map_err(|reason| match culprit(original, overrides, &reason, from_value) {
        Some(change) => Error::Recipe { origin: format!("--set {}", shortened(change)), reason },
        None => fault(reason),
    })
}

/// What a JSON value holds; or where it is wrong and how.
pub(super) fn deserialize<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string() {
        path if path == "." => error.into_inner().to_string(),
        path => format!("{path}: {}", error.into_inner()),
    })
}

/// A change as a message shows it.
fn shortened(change: &str) -> String {
    const SHOWN: usize = 60;
    match change.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &change[..end]),
        None => change.into(),
    }
}

/// The change after which a recipe is faulty for `reason`, if it is one change's fault.
fn culprit<'a, T>(
    mut recipe: Value,
    changes: &'a [String],
    reason: &str,
    from_value: impl Fn(Value) -> Result<T, String>,
) -> Option<&'a String> {
    let faulty = |recipe: &Value| from_value(recipe.clone()).is_err_and(|found| found == reason);
    if faulty(&recipe) {
        return None;
    }
    changes.iter().find(|change| apply(&mut recipe, change).is_ok() && faulty(&recipe))
}

/// Sets the value at a path; the path must lead to an object.
fn apply(recipe: &mut Value, change: &str) -> Result<(), Error> {
    let fault = |reason: &str| Error::Recipe { origin: format!("--set {change}"), reason: reason.into() };
    let (path, text) = change.split_once('=').ok_or_else(|| fault("expected key=value, such as training.steps=100"))?;
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
    let mut place = recipe;
    for key in path.split('.') {
        let object = place.as_object_mut().ok_or_else(|| fault("a part of the key is not an object of the recipe"))?;
        place = object.entry(key).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    *place = value;
    Ok(())
}
