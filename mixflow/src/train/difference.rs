//! What two recipes differ in.

use std::fmt;
use std::path::Path;

use mixflow_backbones::json::described;
use serde_json::Value;

use crate::Error;
use crate::data::Fingerprint;

/// A key of a recipe with two values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) key: String,
    pub(crate) old: Value,
    pub(crate) new: Value,
}

/// Keys of a recipe that do not say what a step does: an interruption may change them, but for the number of images that
/// `post_training` holds out.
const FREE: [&str; 3] = ["sampling", "validation", "post_training"];

/// Keys of any `training` in a recipe that do not say what a step does: that of the network, or of what is trained for it.
///
/// `accumulation` and `recompute` are among them although gradients can then be summed in another order, which changes their
/// rounding: the same run on a smaller machine.
const FREE_IN_TRAINING: [&str; 7] =
    ["steps", "accumulation", "recompute", "shard", "offload", "checkpoint_every", "workers"];

fn is_free(key: &str) -> bool {
    match key.rsplit_once('.') {
        None => FREE.contains(&key),
        Some((place, last)) => {
            let of_training = place.rsplit('.').next() == Some("training") && !place.starts_with("network.");
            of_training && FREE_IN_TRAINING.contains(&last)
        }
    }
}

impl Difference {
    /// The first key whose values differ, but for the free ones and `but`, with what is below them; a missing value is
    /// null.
    pub(crate) fn first(old: &Value, new: &Value, but: &[String]) -> Option<Self> {
        let mut all = Vec::new();
        collect(old, new, "", &mut all);
        let below =
            |key: &str, name: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        all.into_iter().find(|difference| !but.iter().any(|name| below(&difference.key, name)))
    }

    /// How to go on with the new value all the same, where that can be asked for.
    pub(crate) fn hint(&self) -> String {
        let key = &self.key;
        match key.split('.').any(|part| part == "optimizer") {
            true => format!(", ask for it with --change {key}=VALUE"),
            false => String::new(),
        }
    }
}

impl fmt::Display for Difference {
    /// The values of the old recipe and of the new one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new } = self;
        write!(f, "another `{key}`: {}, not {}", shown(old), shown(new))
    }
}

/// The recipe `old` with what may change of its data in `new`, where a fingerprint tells that they are the same: where they
/// lie, and what to do about images that cannot be decoded.
pub(crate) fn relocated(old: &Value, new: &Value) -> Value {
    let mut old = old.clone();
    if let (Some(old), Some(new)) = (old["data"].as_object_mut(), new["data"].as_object()) {
        for key in ["path", "on_broken"] {
            if let (Some(old), Some(new)) = (old.get_mut(key), new.get(key)) {
                *old = new.clone();
            }
        }
        // Masks in another folder, and no others.
        if let (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) = (old.get_mut("mask"), new.get("mask")) {
            *old = new.clone();
        }
        let paths = (
            old.get_mut("prior").and_then(|prior| prior.get_mut("path")),
            new.get("prior").map(|prior| &prior["path"]),
        );
        if let (Some(old), Some(new @ Value::String(_))) = paths {
            *old = new.clone();
        }
    }
    old
}

/// Files that a recipe names, by the record of a run that tells whether they hold the same still.
const RECORDED: [(&str, &[&str]); 3] = [
    (
        "frozen.json",
        &[
            "/autoencoder/weights",
            "/autoencoder/encoder_weights",
            "/autoencoder/decoder_weights",
            "/autoencoder/statistics",
            "/target_encoder/weights",
            "/encoder_weights",
            "/training/perceptual/weights",
            "/training/adversarial/weights",
        ],
    ),
    ("latents.json", &["/autoencoder/weights", "/autoencoder/encoder_weights", "/autoencoder/statistics"]),
    ("prompts/prompts.json", &["/network/text/folder"]),
];

/// The recipe `old` of the training in a folder, its run's or one of its run's, with what may change of it in `new`, since records of
/// the run tell that it is the same: where data and files of frozen networks lie.
///
/// # Errors
/// If the record of the data cannot be read.
pub(super) fn moved(folder: &Path, old: &Value, new: &Value) -> Result<Value, Error> {
    let recorded =
        |record: &str| [Some(folder), folder.parent()].iter().flatten().any(|run| run.join(record).is_file());
    let mut old = if Fingerprint::read(folder)?.is_some() { relocated(old, new) } else { old.clone() };
    let stored = new["data"]["kind"] == "latents";
    for (record, files) in RECORDED.iter().filter(|(record, _)| recorded(record)) {
        // Beside stored latents the record of frozen networks is without the autoencoder, and the latents say what made them.
        let files =
            files.iter().filter(|file| !file.starts_with("/autoencoder") || stored == (*record == "latents.json"));
        for file in files {
            match (old.pointer_mut(file), new.pointer(file)) {
                (Some(old @ Value::String(_)), Some(new @ Value::String(_)))
                | (Some(old @ Value::Array(_)), Some(new @ Value::Array(_))) => *old = new.clone(),
                _ => {}
            }
        }
    }
    Ok(old)
}

/// The value at a dotted key; null where there is none.
pub(super) fn value_at<'a>(recipe: &'a Value, key: &str) -> &'a Value {
    key.split('.').fold(recipe, |value, part| value.get(part).unwrap_or(&Value::Null))
}

fn collect(old: &Value, new: &Value, key: &str, all: &mut Vec<Difference>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            for part in keys {
                let [old, new] = [old, new].map(|map| map.get(part).unwrap_or(&Value::Null));
                let inner = if key.is_empty() { part.clone() } else { format!("{key}.{part}") };
                match inner.as_str() {
                    // Images that are held out are not trained on.
                    "post_training" if old.is_object() && new.is_object() => {
                        collect(&old["images"], &new["images"], "post_training.images", all);
                    }
                    key if is_free(key) => {}
                    key => collect(old, new, key, all),
                }
            }
        }
        _ if old != new => all.push(Difference { key: key.into(), old: old.clone(), new: new.clone() }),
        _ => {}
    }
}

/// A value in a message: as JSON where that is short.
fn shown(value: &Value) -> String {
    const SHORT: usize = 60;
    let text = value.to_string();
    match value {
        Value::Null => "none".into(),
        _ if text.chars().count() <= SHORT => text,
        _ => described(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_may_lie_elsewhere_where_a_record_tells_what_they_hold() {
        let root = tempfile::tempdir().unwrap();
        let recipe = |kind: &str, place: &str| {
            json!({
                "data": { "kind": kind },
                "autoencoder": { "weights": format!("{place}/vae"), "decoder_weights": format!("{place}/decoder") },
                "training": { "perceptual": { "weights": [place, "lin"] } },
                "network": { "text": { "folder": place } },
            })
        };
        let key = |kind: &str| {
            let (old, new) = (recipe(kind, "old"), recipe(kind, "new"));
            // Of a training in the run, too.
            let [run, part] =
                [root.path().into(), root.path().join("pretraining")].map(|folder: std::path::PathBuf| {
                    Difference::first(&moved(&folder, &old, &new).unwrap(), &new, &[]).map(|difference| difference.key)
                });
            assert_eq!(run, part);
            run
        };
        let keys = ["autoencoder.decoder_weights", "autoencoder.weights"].map(|key| Some(key.to_string()));
        assert!(keys.contains(&key("digits")));
        std::fs::write(root.path().join("frozen.json"), "[]").unwrap();
        assert_eq!(key("digits").as_deref(), Some("network.text.folder"));
        std::fs::create_dir(root.path().join("prompts")).unwrap();
        std::fs::write(root.path().join("prompts/prompts.json"), "{}").unwrap();
        assert_eq!(key("digits"), None);
        // Latents say what made them, and not what decodes them.
        assert!(keys.contains(&key("latents")));
        std::fs::write(root.path().join("latents.json"), "{}").unwrap();
        assert_eq!(key("latents"), keys[0]);
        // A file in the place of none is another recipe.
        let (old, new) = (json!({ "encoder_weights": null }), json!({ "encoder_weights": "a" }));
        assert!(Difference::first(&moved(root.path(), &old, &new).unwrap(), &new, &[]).is_some());
    }

    #[test]
    fn only_a_recipe_s_own_keys_are_free() {
        let key = |old: &Value, new: &Value| Difference::first(old, new, &[]).map(|difference| difference.key);
        let training =
            |steps: u64| json!({ "training": { "steps": steps }, "autoencoder": { "training": { "workers": steps } } });
        assert_eq!(key(&training(4), &training(8)), None);
        assert_eq!(key(&json!({ "sampling": 1, "validation": 1 }), &json!({ "sampling": 2 })), None);
        let held_out = |images: u64| json!({ "post_training": { "steps": images, "images": images } });
        assert_eq!(key(&held_out(4), &held_out(8)).as_deref(), Some("post_training.images"));
        // Of somebody's own network, where they may say anything.
        for name in ["steps", "shard", "workers", "sampling", "validation", "post_training"] {
            let network = |value: u64| json!({ "network": { name: value } });
            assert_eq!(key(&network(4), &network(8)), Some(format!("network.{name}")));
            let training = |value: u64| json!({ "network": { "training": { name: value } } });
            assert_eq!(key(&training(4), &training(8)), Some(format!("network.training.{name}")));
        }
    }
}
