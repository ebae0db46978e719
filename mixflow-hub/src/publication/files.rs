//! The files that a recipe names, and what becomes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mixflow::recipe::{AutoencoderConfig, GuideConfig, NetworkSettings, Recipe};
use serde_json::{Map, Value, json};

use crate::address::SCHEME as HUB;
use crate::pipeline::ENCODER;
use crate::{Address, Error};

/// The key of a guide's weights.
pub(super) const GUIDE: &str = "sampling.guide.weights";

/// How those who download a network get a file that its recipe names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provision {
    /// It is published too: for files that one may pass on.
    Copy,
    /// It is in another repository, as `hf://org/name/file`, or `hf://org/name@revision/file`.
    Refer(String),
}

impl Provision {
    /// A file of another repository, or the folder of text encoders, which may be all of one.
    ///
    /// # Errors
    /// [`Error::Name`] unless it is an [`Address`].
    pub fn refer(address: &str) -> Result<Self, Error> {
        address.parse::<Address>().map(|_| Self::Refer(address.into()))
    }

    /// The address to publish where the run read what is `cached`: of the commit, where the run had it from there and no other
    /// state of the repository was named.
    fn pinned(address: &str, cached: Option<Address>) -> String {
        let known = |cached: &Address| {
            let named: Option<Address> = address.parse().ok();
            named.is_some_and(|named| {
                named.revision.is_none()
                    && (named.repository, named.file) == (cached.repository.clone(), cached.file.clone())
            })
        };
        cached.filter(known).map_or_else(|| address.into(), |cached| cached.to_string())
    }
}

/// A file that making images needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequiredFile {
    /// Its key in the recipe, such as `autoencoder.weights`.
    pub(super) key: &'static str,
    /// The file as the recipe names it.
    pub(super) path: PathBuf,
    /// Its name in the published recipe: that of a file beside it, or an address.
    pub(super) name: String,
}

impl RequiredFile {
    /// Whether it is published with the network.
    pub(super) fn is_copied(&self) -> bool {
        !self.name.starts_with(HUB)
    }
}

/// The files that sampling needs by the keys of the recipe, with what becomes of each.
pub(super) fn needed<N: NetworkSettings>(
    run: &Path,
    recipe: &Recipe<N>,
    provisions: &BTreeMap<String, Provision>,
) -> Result<Vec<RequiredFile>, Error> {
    let mut named: Vec<(&'static str, &Path, bool)> = match &recipe.autoencoder {
        Some(AutoencoderConfig::Kl { weights, .. }) => vec![("autoencoder.weights", weights, false)],
        Some(AutoencoderConfig::Rae { encoder_weights, decoder_weights, statistics, .. }) => vec![
            ("autoencoder.encoder_weights", encoder_weights, false),
            ("autoencoder.decoder_weights", decoder_weights, false),
            // A few numbers about the data; they go along.
            ("autoencoder.statistics", statistics, true),
        ],
        _ => vec![],
    };
    named.extend(recipe.sampling.guide.iter().map(|guide| (GUIDE, guide.weights.as_path(), true)));
    let fault = |reason| Error::Layout { folder: run.into(), reason };
    let encoder = recipe.to_value().pointer("/network/text/folder").and_then(Value::as_str).map(String::from);
    let known: Vec<&str> = named.iter().map(|(key, ..)| *key).chain(encoder.as_ref().map(|_| ENCODER)).collect();
    if let Some(unknown) = provisions.keys().find(|key| !known.contains(&key.as_str())) {
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(fault(format!(
            "the recipe names no file {unknown} that sampling needs; those that it names: {known}"
        )));
    }
    let name = |key: &str, path: &Path, copied: bool| match (provisions.get(key), hub_address(path)) {
        (Some(Provision::Refer(address)), _) if names_no_file(address) => {
            let reason = "must be hf://org/name/file or hf://org/name@revision/file";
            Err(Error::Name { what: "the address", name: address.clone(), reason })
        }
        (Some(Provision::Refer(address)), _) => Ok(Provision::pinned(address, Address::of_cached(path))),
        (None, Some(address)) => Ok(address),
        (None, None) if !copied => Err(fault(format!(
            "the recipe's {key} is {}, which may not be yours to publish: say where it is on the Hub, as \
             {key}={HUB}org/name/file, or that it is to be copied",
            path.display()
        ))),
        (Some(Provision::Copy) | None, _) if !path.exists() => Err(fault(format!(
            "the recipe's {key}, {}, is not there: start where the run was started, or say where it is on the Hub, as \
             {key}={HUB}org/name/file",
            path.display()
        ))),
        _ => Ok(beside(key)),
    };
    let needed = named.into_iter();
    let needed =
        needed.map(|(key, path, copied)| Ok(RequiredFile { key, path: path.into(), name: name(key, path, copied)? }));
    let mut needed = needed.collect::<Result<Vec<_>, Error>>()?;
    if let Some(folder) = encoder {
        // A link may lead into the cache that all programs share.
        let cached = Path::new(&folder).canonicalize().ok().and_then(|folder| Address::of_cached_folder(&folder));
        let name = match provisions.get(ENCODER) {
            Some(Provision::Copy) => {
                let reason = format!("{ENCODER} is not copied: say where it is on the Hub, as {ENCODER}={HUB}org/name");
                return Err(fault(reason));
            }
            Some(Provision::Refer(address)) => Some(Provision::pinned(address, cached)),
            None if folder.starts_with(HUB) => Some(folder.clone()),
            // Where others have it is not known.
            None => cached.map(|cached| cached.to_string()),
        };
        needed.extend(name.map(|name| RequiredFile { key: ENCODER, path: folder.into(), name }));
    }
    Ok(needed)
}

/// Whether an address is that of a whole repository.
fn names_no_file(address: &str) -> bool {
    address.parse::<Address>().is_ok_and(|address| address.file.is_none())
}

/// Name of a file in the folder that is published, by its key in the recipe.
fn beside(key: &str) -> String {
    let stem = key.strip_prefix("sampling.").unwrap_or(key).trim_end_matches("weights").trim_end_matches(['.', '_']);
    format!("{}.safetensors", stem.replace('.', "-"))
}

/// The address of a file that has one, or lies in the cache that all programs share.
fn hub_address(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if text.starts_with(HUB) {
        return Some(text.into());
    }
    Some(Address::of_cached(path)?.to_string())
}

/// The text of a recipe with the names of `needed`, and no folder of this machine in it. All else stays as it is, numbers
/// to the letter: read again, they are the same.
pub(super) fn published(text: &str, needed: &[RequiredFile]) -> Result<String, String> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut value: Value = serde_json::from_str(text)
        .map_err(|error| format!("is no JSON: {}", mixflow::backbones::json::explain(&error)))?;
    for needed in needed {
        names.insert(needed.path.to_string_lossy().into(), needed.name.clone());
    }
    exchange(&mut value, &mut |text| {
        if let Some(name) = names.get(text) {
            return Some(name.clone());
        }
        let last = last_part(text)?;
        names.insert(text.into(), last.clone());
        Some(last)
    });
    let quoted = |text: &str| Value::from(text).to_string();
    let changed = names.iter().fold(text.to_string(), |text, (old, new)| text.replace(&quoted(old), &quoted(new)));
    match serde_json::from_str::<Value>(&changed) {
        Ok(found) if found == value => Ok(changed),
        _ => Err("holds the name of a file in a way in which it cannot be exchanged: escaped, or as another word, too"
            .into()),
    }
}

/// The published recipe with further keys of its network.
pub(super) fn with_network(config: String, more: Map<String, Value>) -> Result<String, String> {
    if more.is_empty() {
        return Ok(config);
    }
    let mut value: Value = serde_json::from_str(&config).map_err(|error| format!("is no JSON: {error}"))?;
    if let Some(network) = value["network"].as_object_mut() {
        network.extend(more);
    }
    Ok(format!("{value:#}"))
}

/// The published recipe, which also says the path, the prediction and the floor of its guide, as the recipe that stays behind does, where
/// they are not those of the network that it guides.
pub(super) fn with_guide<N>(config: String, recipe: &Recipe<N>, guide: Option<&GuideConfig>) -> Result<String, String> {
    let Some(guide) = guide else { return Ok(config) };
    let schedule = guide.schedule.filter(|schedule| *schedule != recipe.objective.schedule);
    let prediction = guide.prediction.filter(|prediction| *prediction != recipe.objective.prediction);
    let floor = guide.floor.filter(|floor| *floor != recipe.objective.floor);
    if schedule.is_none() && prediction.is_none() && floor.is_none() {
        return Ok(config);
    }
    let mut value: Value = serde_json::from_str(&config).map_err(|error| format!("is no JSON: {error}"))?;
    let guide = &mut value["sampling"]["guide"];
    schedule.into_iter().for_each(|schedule| guide["schedule"] = json!(schedule));
    prediction.into_iter().for_each(|prediction| guide["prediction"] = json!(prediction));
    floor.into_iter().for_each(|floor| guide["floor"] = json!(floor));
    Ok(format!("{value:#}"))
}

/// `value` with no folder of this machine in the text in it.
pub(super) fn without_folders(value: &mut Value) {
    exchange(value, &mut last_part);
    // In sentences files are among words.
    let remarks = value.pointer_mut("/evaluation/remarks").and_then(Value::as_array_mut);
    for remark in remarks.into_iter().flatten() {
        let words = remark.as_str().unwrap_or_default().split(' ');
        *remark = words.map(|word| last_part(word).unwrap_or_else(|| word.into())).collect::<Vec<_>>().join(" ").into();
    }
}

/// The name of the file at a path, if it is one with folders.
pub(super) fn last_part(text: &str) -> Option<String> {
    let is_path = text.contains(['/', '\\']) && !text.contains(['"', '\n']) && !text.starts_with(HUB);
    if !is_path {
        return None;
    }
    let last = text.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next()?;
    Some(if last.is_empty() { "/".into() } else { last.into() })
}

/// Keys whose values are words, not paths, though there may be a slash in them.
const WORDS: [&str; 10] =
    ["name", "names", "classes", "caption", "captions", "groups", "labels", "negative", "prompts", "remarks"];

/// Replaces every text by the one that `new` gives for it, if any, but for the values of [`WORDS`].
fn exchange(value: &mut Value, new: &mut impl FnMut(&str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(new) = new(text) {
                *text = new;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| exchange(value, new)),
        Value::Object(values) => {
            // A set of images is called by its folder or file.
            let set = values.contains_key("given_statistics");
            let words = |key: &str| WORDS.contains(&key) && !(set && key == "name");
            values.iter_mut().filter(|(key, _)| !words(key)).for_each(|(_, value)| exchange(value, new));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_of_their_own() {
        for (key, name) in [
            ("autoencoder.weights", "autoencoder.safetensors"),
            ("autoencoder.encoder_weights", "autoencoder-encoder.safetensors"),
            ("autoencoder.decoder_weights", "autoencoder-decoder.safetensors"),
            ("autoencoder.statistics", "autoencoder-statistics.safetensors"),
            ("sampling.guide.weights", "guide.safetensors"),
        ] {
            assert_eq!(beside(key), name);
        }
    }

    #[test]
    fn what_came_from_the_hub_is_referred_to_at_its_commit() {
        const COMMIT: &str = "2439f60ef33a0d46d85da5001d52aeda5b00ce9f";
        let cached = format!("/h/hub/models--a--b/snapshots/{COMMIT}/c.pt");
        let pinned = format!("hf://a/b@{COMMIT}/c.pt");
        for (path, address) in
            [("hf://a/b/c.pt", Some("hf://a/b/c.pt")), (&cached, Some(&pinned)), ("vae.safetensors", None)]
        {
            assert_eq!(hub_address(Path::new(path)).as_deref(), address);
        }
        // What is said of a file counts, unless the run says more.
        for (named, path, expected) in [
            ("hf://a/b/c.pt", cached.as_str(), pinned.as_str()),
            ("hf://a/b@main/c.pt", &cached, "hf://a/b@main/c.pt"),
            ("hf://a/b/d.pt", &cached, "hf://a/b/d.pt"),
            ("hf://a/b/c.pt", "c.pt", "hf://a/b/c.pt"),
        ] {
            assert_eq!(Provision::pinned(named, Address::of_cached(Path::new(path))), expected);
        }
        for wrong in ["a/b/c", "hf://a", "hf://a/b/", "hf://a/../c", "hf://a/b/../c", "https://a/b/c"] {
            assert!(Provision::refer(wrong).is_err(), "{wrong}");
        }
        // A whole repository may hold text encoders, and is no file.
        assert!(names_no_file("hf://a/b@v1") && !names_no_file("hf://a/b@v1/c"));
    }

    #[test]
    fn a_recipe_keeps_its_numbers_and_loses_its_folders() {
        let text = "{\n  \"data\": {\"path\": \"/home/me/photos/\"},\n  \"x\": 0.30000000000000004e0,\n  \
                    \"weights\": \"/vae.pt\", \"other\": [\"a/b.pt\", \"b.pt\"]\n}";
        let path = PathBuf::from("/vae.pt");
        let needed = [RequiredFile { key: "autoencoder.weights", path, name: "hf://a/b/c".into() }];
        let expected = "{\n  \"data\": {\"path\": \"photos\"},\n  \"x\": 0.30000000000000004e0,\n  \
                        \"weights\": \"hf://a/b/c\", \"other\": [\"b.pt\", \"b.pt\"]\n}";
        assert_eq!(published(text, &needed).unwrap(), expected);
        // Words are no paths, whatever is in them.
        let words = "{\"name\": \"a/b\", \"validation\": {\"prompts\": [\"a black/white cat\"], \"labels\": [\"AC/DC\"], \
                     \"negative\": \"and/or\"}, \"data\": {\"path\": \"a/x\", \"prior\": {\"caption\": \"a 1/2 scale dog\"}}}";
        assert_eq!(published(words, &[]).unwrap(), words.replace("a/x", "x"));
        let mut result = json!({ "reference": { "name": "/home/me/x.npz", "given_statistics": true }, "name": "m/s" });
        without_folders(&mut result);
        assert_eq!(result, json!({ "reference": { "name": "x.npz", "given_statistics": true }, "name": "m/s" }));
        let mut result =
            json!({ "evaluation": { "remarks": ["1 image is broken:", "  /home/me/cats/a.png: at 3 / 4 of it"] } });
        without_folders(&mut result);
        assert_eq!(result["evaluation"]["remarks"], json!(["1 image is broken:", "  a.png: at 3 / 4 of it"]));
        // The path is spelled in a way in which it is not found.
        let error = published("{\"weights\": \"a\\/b.pt\"}", &[]).unwrap_err();
        assert!(error.contains("cannot be exchanged"), "{error}");
    }
}
