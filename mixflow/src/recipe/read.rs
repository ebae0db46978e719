//! Recipes from names, files and `key=value` overrides.

use std::path::Path;

use mixflow_backbones::json::{described, explain, nearest};
use mixflow_backbones::not_data::why_not_data;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::error::recipe::Fault;
use crate::files::unique::Unique;
use crate::printable::shortened;

/// Characters of a change that a message shows.
const SHOWN: usize = 60;

/// Recipes that come with the crate, by name.
pub(super) const EMBEDDED: [(&str, &str); 6] = [
    ("emoji", include_str!("../../recipes/emoji.json")),
    ("digits", include_str!("../../recipes/digits.json")),
    ("shapes", include_str!("../../recipes/shapes.json")),
    ("repa", include_str!("../../recipes/repa.json")),
    ("rae", include_str!("../../recipes/rae.json")),
    ("rivals", include_str!("../../recipes/rivals.json")),
];

/// Names and texts of recipes of the paper, by the names of their files.
macro_rules! paper {
    ($($name:literal),+ $(,)?) => {
        [$((concat!("paper/", $name), include_str!(concat!("../../recipes/paper/", $name, ".json")))),+]
    };
}

/// Recipes of the published networks, with and without MixFlow.
pub(super) const PUBLISHED: [(&str, &str); 23] = paper![
    "dit-dh-xl-256",
    "dit-dh-xl-256-guided",
    "dit-dh-xl-256-guided-mixflow",
    "dit-dh-xl-256-mixflow",
    "dit-dh-xl-512",
    "dit-dh-xl-512-guided",
    "dit-dh-xl-512-guided-mixflow",
    "dit-dh-xl-512-mixflow",
    "dit-xl-2-256",
    "lightning-dit-xl-256",
    "lightning-dit-xl-256-mixflow",
    "repa-b-2-256",
    "repa-b-2-256-mixflow",
    "repa-l-2-256",
    "repa-l-2-256-mixflow",
    "repa-xl-2-256",
    "repa-xl-2-256-mixflow",
    "sit-b-2-256",
    "sit-b-2-256-mixflow",
    "sit-xl-2-256",
    "sit-xl-2-256-mixflow",
    "sit-xl-2-512",
    "sit-xl-2-512-mixflow",
];

/// Those of decoders.
pub(super) const DECODERS: [(&str, &str); 1] = paper!["rae-decoder-xl"];

/// The text of a recipe that comes along, by its name.
pub(super) fn embedded(name: &str) -> Option<&'static str> {
    let mut all = EMBEDDED.iter().chain(&PUBLISHED).chain(&DECODERS);
    all.find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Reads a recipe of any kind by name, or from a JSON file, and changes it by `key=value` overrides.
pub(super) fn read<T>(
    name_or_path: &str,
    overrides: &[String],
    from_value: impl Fn(Value) -> Result<T, Fault>,
) -> Result<T, Error> {
    let path = Path::new(name_or_path);
    match embedded(name_or_path) {
        Some(text) => changed(name_or_path, text, overrides, from_value),
        None if path.is_file() => {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            changed(name_or_path, text.trim_start_matches('\u{feff}'), overrides, from_value)
        }
        None => Err(no_such_recipe(name_or_path, super::names())),
    }
}

/// What to say of a recipe that is no file and none of some names.
pub fn no_such_recipe<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.into_iter().collect();
    let file = Path::new(name).join("recipe.json");
    let last = |name: &'a str| name.rsplit('/').next().unwrap_or(name);
    let meant = known.iter().copied().find(|known| last(known) == name.trim_end_matches(".json"));
    let hint = match meant.or_else(|| nearest(name, known.iter().copied())) {
        _ if file.is_file() => format!(", but a run, whose recipe is {}", file.display()),
        Some(near) => format!(", perhaps {near}"),
        None => String::new(),
    };
    let (in_folders, own): (Vec<&str>, Vec<&str>) = known.iter().partition(|name| name.contains('/'));
    let more =
        if in_folders.is_empty() { String::new() } else { format!(" and {} of published networks", in_folders.len()) };
    let reason = format!("no such file, and no recipe of that name{hint}; recipes are {}{more}", own.join(", "));
    Error::NoRecipe { origin: name.into(), reason }
}

/// The recipe in a text, changed by `key=value` overrides.
pub(super) fn changed<T>(
    origin: &str,
    text: &str,
    overrides: &[String],
    from_value: impl Fn(Value) -> Result<T, Fault>,
) -> Result<T, Error> {
    let fault = |reason: String| Error::recipe(origin, Fault::unreadable(reason));
    if let Some(problem) = why_not_data(text.as_bytes()) {
        return Err(fault(problem));
    }
    let Unique(mut value) = serde_json::from_str(text).map_err(|error| {
        let what = if error.is_data() { "" } else { "not JSON: " };
        fault(format!("{what}{}", explain(&error)))
    })?;
    let original = value.clone();
    for change in overrides {
        apply(&mut value, change)?;
    }
    from_value(value).map_err(|fault| match culprit(original, overrides, &fault, from_value) {
        Some(change) => Error::recipe(format_args!("--set {}", shortened(change, SHOWN)), fault),
        None => Error::recipe(origin, fault),
    })
}

/// What a JSON value holds; or where it is wrong and how.
pub(super) fn deserialize<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(&value).map_err(|error| {
        let (path, reason) = (error.path().to_string(), explain(error.inner()));
        let path = if path == "." { "" } else { &path };
        Fault::Unreadable { key: within(&value, path, &reason), reason }
    })
}

/// The path of the value that a reason is about: values of different kinds are read as a whole, and the path ends there.
fn within(value: &Value, path: &str, reason: &str) -> String {
    let parts = path.split('.').filter(|part| !part.is_empty());
    let Some(Value::Object(object)) = parts.clone().try_fold(value, |value, part| value.get(part)) else {
        return path.into();
    };
    let word = |start| reason.strip_prefix(start).and_then(|rest| rest.split('`').next());
    let [unknown_key, unknown_value] = ["unknown key `", "unknown value `"].map(word);
    let found = reason.rsplit_once(", found ").map(|(_, found)| found);
    let mut suspects = object.iter().filter(|(key, value)| {
        unknown_key == Some(key)
            || value.is_string() && unknown_value == value.as_str()
            || found.is_some_and(|found| described(value) == found)
    });
    match (suspects.next(), suspects.next()) {
        (Some((key, _)), None) => parts.chain([key.as_str()]).collect::<Vec<_>>().join("."),
        _ => path.into(),
    }
}

/// The change after which a recipe has this `fault`, if it is one change's.
fn culprit<'a, T>(
    mut recipe: Value,
    changes: &'a [String],
    fault: &Fault,
    from_value: impl Fn(Value) -> Result<T, Fault>,
) -> Option<&'a String> {
    let faulty = |recipe: &Value| from_value(recipe.clone()).is_err_and(|found| found == *fault);
    if faulty(&recipe) {
        return None;
    }
    changes.iter().find(|change| apply(&mut recipe, change).is_ok() && faulty(&recipe))
}

/// Sets the value at a path; the path must lead to an object.
fn apply(recipe: &mut Value, change: &str) -> Result<(), Error> {
    let fault =
        |reason: String| Error::recipe(format_args!("--set {}", shortened(change, SHOWN)), Fault::unreadable(reason));
    let (path, text) =
        change.split_once('=').ok_or_else(|| fault("expected key=value, such as training.steps=100".into()))?;
    let value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) if text.trim_start().starts_with(['{', '[', '"']) => {
            return Err(fault(format!("the value is not JSON: {}", explain(&error))));
        }
        Err(_) => Value::String(text.into()),
    };
    let mut place = recipe;
    let mut above = String::new();
    for key in path.split('.') {
        if key.is_empty() {
            return Err(fault(format!("the key `{path}` has an empty part")));
        }
        if place.is_null() {
            *place = Value::Object(serde_json::Map::new());
        }
        let found = described(place);
        let object = place.as_object_mut().ok_or_else(|| fault(format!("`{above}` is {found}: set it as a whole")))?;
        place = object.entry(key).or_insert(Value::Null);
        above = if above.is_empty() { key.into() } else { format!("{above}.{key}") };
    }
    *place = value;
    Ok(())
}
