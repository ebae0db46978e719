//! What commands take from the Hugging Face Hub.

use std::path::{Path, PathBuf};

use mixflow::launch::Given;
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::{Start, StoredNetwork};
use serde_json::Value;

use crate::run::{Result, note};

/// The weights at a path or an address of the Hub, to start a training from, which is said; whoever loads them says what
/// is taken of them.
pub(crate) fn given(from: &Path) -> Result<Given> {
    let (path, origin) = if is_address(from) { weights(from)? } else { (from.into(), cached(from)) };
    let stored = StoredNetwork::find(&path)?;
    let mut start = Start::of(&stored)?;
    let mut said = stored.file().display().to_string();
    if let Some((address, repository, commit, file)) = origin {
        said = address;
        (start.repository, start.commit) = (Some(repository), Some(commit));
        if let Some(first) = start.files.first_mut() {
            first.file = file.into();
        }
    }
    note(format_args!("starting from {said}"));
    Ok(Given { path, start })
}

/// A recipe with the commits of the files that it names on the Hub, which is what to keep; and with these files on this
/// machine, which is what to load.
pub(crate) fn named_files<N: NetworkSettings>(recipe: &Recipe<N>) -> Result<[Recipe<N>; 2]> {
    let [pinned, local] = named_values(&recipe.to_value())?;
    Ok([Recipe::parse_value(pinned)?, Recipe::parse_value(local)?])
}

/// The same for a recipe of any kind.
pub(crate) fn named_values(recipe: &Value) -> Result<[Value; 2]> {
    match address_in(recipe) {
        Some(address) => fetched(recipe, address),
        None => Ok([recipe.clone(), recipe.clone()]),
    }
}

/// Whether what a user gave as a path is one of the Hub.
pub(crate) fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with("hf://"))
}

/// The first address in a recipe.
fn address_in(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text.as_str()).filter(|text| text.starts_with("hf://")),
        Value::Array(values) => values.iter().find_map(address_in),
        Value::Object(values) => values.values().find_map(address_in),
        _ => None,
    }
}

/// How to call the same command with the network.
#[cfg(not(feature = "hub"))]
pub(crate) fn with_network() -> String {
    format!("run `cargo xtask-hub {} ...`", std::env::args().nth(1).unwrap_or_default())
}

/// Where a file came from: the whole address, the repository, its commit and the file there.
type Origin = (String, String, String, String);

#[cfg(not(feature = "hub"))]
mod ways {
    use super::{Origin, Path, PathBuf, Result, Value, with_network};

    fn refused<T>(address: impl std::fmt::Display) -> Result<T> {
        Err(format!(
            "{address} is on the Hugging Face Hub, and this program was built without network; {}",
            with_network()
        )
        .into())
    }

    pub(super) fn weights(from: &Path) -> Result<(PathBuf, Option<Origin>)> {
        refused(from.display())
    }

    pub(crate) fn published(path: &Path) -> Result<PathBuf> {
        refused(path.display())
    }

    pub(super) fn fetched(_: &Value, address: &str) -> Result<[Value; 2]> {
        refused(address)
    }

    #[cfg(feature = "t2i")]
    pub(crate) fn text(path: &Path, _: &mixflow::Device) -> Result<mixflow_t2i::TextPipeline> {
        refused(path.display())
    }

    pub(super) fn cached(_: &Path) -> Option<Origin> {
        None
    }
}

#[cfg(feature = "hub")]
mod ways {
    #[cfg(feature = "t2i")]
    use mixflow_hub::FromHub;
    use mixflow_hub::{Address, Client};
    #[cfg(feature = "t2i")]
    use mixflow_t2i::TextPipeline;

    use super::{Origin, Path, PathBuf, Result, Value};
    use crate::progress::Progress;

    /// The weights at an address, for a training.
    pub(super) fn weights(from: &Path) -> Result<(PathBuf, Option<Origin>)> {
        let mut shown = Progress::new();
        let (path, address) = Client::from_env()?.weights(&parsed(from)?, |event| shown.download(&event))?;
        shown.end();
        Ok((path, origin(&address)))
    }

    /// The weights at an address, with all that makes images with them.
    pub(crate) fn published(path: &Path) -> Result<PathBuf> {
        let mut shown = Progress::new();
        let (path, _) = Client::from_env()?.published(&parsed(path)?, |event| shown.download(&event))?;
        shown.end();
        Ok(path)
    }

    /// A text to image at an address, on a device.
    #[cfg(feature = "t2i")]
    pub(crate) fn text(path: &Path, device: &mixflow::Device) -> Result<TextPipeline> {
        let mut shown = Progress::new();
        let pipeline =
            TextPipeline::open(&Client::from_env()?, &parsed(path)?, device, |event| shown.download(&event))?;
        shown.end();
        Ok(pipeline)
    }

    pub(super) fn fetched(recipe: &Value, _: &str) -> Result<[Value; 2]> {
        let mut shown = Progress::new();
        let recipes = Client::from_env()?.named_files(recipe, |event| shown.download(&event))?;
        shown.end();
        Ok(recipes)
    }

    /// Where a file of the cache came from.
    pub(super) fn cached(path: &Path) -> Option<Origin> {
        origin(&Address::of_cached(path)?)
    }

    fn parsed(path: &Path) -> Result<Address> {
        Ok(path.to_string_lossy().parse::<Address>()?)
    }

    fn origin(address: &Address) -> Option<Origin> {
        let commit = address.revision.as_ref()?.commit()?;
        Some((address.to_string(), address.repository.to_string(), commit.to_string(), address.file.clone()?))
    }
}

pub(crate) use ways::published;
#[cfg(feature = "t2i")]
pub(crate) use ways::text;
use ways::{cached, fetched, weights};
