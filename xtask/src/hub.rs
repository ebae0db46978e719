//! What commands take from the Hugging Face Hub.

use std::path::{Path, PathBuf};

use mixflow::StoredPipeline;
use mixflow::launch::StartWeights;
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::{Start, StoredNetwork};
use mixflow_hub::{Address, Client, Error, TransferProgress};
use mixflow_t2i::TextNetworkConfig;
use serde_json::{Value, json};

use crate::progress::Progress;
use crate::terminal::{Result, note};

/// The weights at a path or an address of the Hub, to start a training from, which is said; whoever loads them says what
/// is taken of them.
pub(crate) fn given(from: &Path) -> Result<StartWeights> {
    let (path, address) = match is_address(from) {
        true => {
            let address = parsed(from)?;
            let (path, address) = shown(|client, tell| client.weights(&address, tell))?;
            (path, Some(address))
        }
        false => (from.into(), Address::of_cached(from)),
    };
    let stored = StoredNetwork::find(&path)?;
    let mut start = Start::of(&stored)?;
    let mut said = stored.file().display().to_string();
    if let Some((address, repository, commit, file)) = address.as_ref().and_then(origin) {
        said = address;
        (start.repository, start.commit) = (Some(repository), Some(commit));
        if let Some(first) = start.files.first_mut() {
            first.file = file.into();
        }
    }
    note(format_args!("starting from {said}"));
    Ok(StartWeights { path, start })
}

/// A recipe with the commits of the files that it names on the Hub, which is what to keep; and with these files on this
/// machine, which is what to load. What goes on with what is `noted` keeps the commits there.
pub(crate) fn named_files<N: NetworkSettings>(recipe: &Recipe<N>, noted: Option<&Value>) -> Result<[Recipe<N>; 2]> {
    let [pinned, local] = named_values(&recipe.to_value(), noted)?;
    Ok([Recipe::parse_value(pinned)?, Recipe::parse_value(local)?])
}

/// A recipe with the files on this machine that drawing takes: an encoder that a training was aligned with stays where it is.
pub(crate) fn drawing_files<N: NetworkSettings>(recipe: &Recipe<N>) -> Result<Recipe<N>> {
    const ENCODER: &str = "target_encoder";
    let mut recipe = recipe.to_value();
    let encoder = recipe.get_mut(ENCODER).map(Value::take);
    let [_, mut local] = named_values(&recipe, None)?;
    if let Some(encoder) = encoder {
        local[ENCODER] = encoder;
    }
    Ok(Recipe::parse_value(local)?)
}

/// As [`named_files`], for a recipe of any kind.
pub(crate) fn named_values(recipe: &Value, noted: Option<&Value>) -> Result<[Value; 2]> {
    let mut recipe = recipe.clone();
    if let Some(noted) = noted {
        keep_commits(&mut recipe, noted);
    }
    match names_address(&recipe) {
        true => shown(|client, tell| client.named_files(&recipe, tell)),
        false => Ok([recipe.clone(), recipe]),
    }
}

/// The weights at an address, with all that makes images with them.
pub(crate) fn published(path: &Path) -> Result<PathBuf> {
    let address = parsed(path)?;
    Ok(shown(|client, tell| client.published(&address, tell))?.0)
}

/// The adapter at an address.
pub(crate) fn adapter(path: &Path) -> Result<PathBuf> {
    let address = parsed(path)?;
    shown(|client, tell| client.adapter(&address, tell))
}

/// A text to image at an address, fetched and yet to be read.
pub(crate) fn text(path: &Path) -> Result<StoredPipeline<TextNetworkConfig>> {
    let address = parsed(path)?;
    shown(|client, tell| client.text_pipeline(&address, tell))
}

/// A path, or that of the file at an address.
pub(crate) fn file(path: &Path) -> Result<PathBuf> {
    if !is_address(path) {
        return Ok(path.into());
    }
    let [_, local] = named_values(&json!(path), None)?;
    Ok(serde_json::from_value(local)?)
}

/// A folder, or that of the text encoders, or of the CLIP, at an address; behind what tells it from others, with its commit.
pub(crate) fn encoders(folder: &Path) -> Result<[PathBuf; 2]> {
    if !is_address(folder) {
        return Ok([folder.into(), folder.into()]);
    }
    let address = parsed(folder)?;
    let (address, local) = shown(|client, tell| client.text_encoders(&address, tell))?;
    Ok([address.to_string().into(), local])
}

/// A path, or an address at the commit that is `noted` for it, or else that it stands for now.
pub(crate) fn pinned(path: &Path, noted: Option<&Value>) -> Result<PathBuf> {
    if !is_address(path) {
        return Ok(path.into());
    }
    let address = parsed(path)?;
    if let Some(address) = noted.and_then(|noted| at_commit(&address, noted)) {
        return Ok(address.to_string().into());
    }
    let (commit, _) = shown(|client, tell| client.names(&address.repository, &address.revision(), tell))?;
    Ok(address.at(commit).to_string().into())
}

/// Whether what a user gave as a path is one of the Hub.
pub(crate) fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(Address::is_one)
}

/// Whether a recipe has an address of the Hub in it.
fn names_address(recipe: &Value) -> bool {
    match recipe {
        Value::String(text) => Address::is_one(text),
        Value::Array(values) => values.iter().any(names_address),
        Value::Object(values) => values.values().any(names_address),
        _ => false,
    }
}

/// Puts the commits that are noted into addresses that name no revision.
fn keep_commits(recipe: &mut Value, noted: &Value) {
    match recipe {
        Value::String(text) => {
            if let Some(address) = text.parse().ok().and_then(|address| at_commit(&address, noted)) {
                *text = address.to_string();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| keep_commits(value, noted)),
        Value::Object(values) => values.values_mut().for_each(|value| keep_commits(value, noted)),
        _ => {}
    }
}

/// An address that names no revision, at the commit that is noted somewhere in `noted`.
fn at_commit(address: &Address, noted: &Value) -> Option<Address> {
    match noted {
        Value::String(text) => text.parse().ok().filter(|found: &Address| {
            let is_commit = found.revision.as_ref().is_some_and(|revision| revision.commit().is_some());
            let same = (&found.repository, &found.file) == (&address.repository, &address.file);
            address.revision.is_none() && is_commit && same
        }),
        Value::Array(values) => values.iter().find_map(|noted| at_commit(address, noted)),
        Value::Object(values) => values.values().find_map(|noted| at_commit(address, noted)),
        _ => None,
    }
}

/// Where a file came from: the whole address, the repository, its commit and the file there.
type Origin = (String, String, String, String);

fn origin(address: &Address) -> Option<Origin> {
    let commit = address.revision.as_ref()?.commit()?;
    Some((address.to_string(), address.repository.to_string(), commit.to_string(), address.file.clone()?))
}

fn parsed(path: &Path) -> Result<Address> {
    Ok(path.to_string_lossy().parse()?)
}

/// What a client does with an address, shown.
fn shown<T>(
    work: impl FnOnce(&Client, &mut (dyn FnMut(TransferProgress<'_>) + Send)) -> std::result::Result<T, Error>,
) -> Result<T> {
    let mut progress = Progress::new();
    let done = work(&Client::from_env()?, &mut |event| progress.transfer(&event))?;
    progress.end();
    Ok(done)
}
