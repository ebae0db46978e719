//! Weights in several safetensors files, and the index that tells which tensor is where.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{Part, Weights};
use crate::Error;
use crate::json::explain;

/// Largest index, bytes: four times that of the largest published networks.
const MAX_INDEX: u64 = 16 << 20;

/// Most files of one network.
const MAX_SHARDS: usize = 1000;

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// The shard of every tensor.
struct WeightMap {
    shards: BTreeMap<String, String>,
    /// A tensor that is there twice.
    twin: Option<String>,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the file of every tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut found = WeightMap { shards: BTreeMap::new(), twin: None };
                while let Some((name, shard)) = map.next_entry::<String, String>()? {
                    if found.shards.insert(name.clone(), shard).is_some() {
                        found.twin = Some(name);
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Whether a file is called as an index is, of a variant such as `fp16` among them: `model.safetensors.index.fp16.json`.
pub(super) fn is_index(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".json")
        .is_some_and(|name| name.ends_with(".safetensors.index") || name.contains(".safetensors.index."))
}

/// The shards that the index at `path` names, beside it.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let shards: BTreeSet<String> = read_index(path)?.into_values().collect();
    Ok(shards.into_iter().map(|shard| path.with_file_name(shard)).collect())
}

/// The shard of every tensor, each a file beside the index.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let fault = |problem: String| Error::format(path, format!("is no index of shards: {problem}"));
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_INDEX).read_to_string(&mut text)).map_err(Error::reading(path))?;
    let Index { weight_map } = serde_json::from_str(&text).map_err(|error| fault(explain(&error)))?;
    let WeightMap { shards, twin } = weight_map;
    if let Some(twin) = twin {
        return Err(fault(format!("it names `{twin}` twice")));
    }
    let names: BTreeSet<&String> = shards.values().collect();
    if names.len() > MAX_SHARDS {
        return Err(fault(format!("it names {} files; at most {MAX_SHARDS} are read", names.len())));
    }
    if let Some(shard) = names.iter().find(|shard| shard.contains(['/', '\\', ':']) || shard.starts_with('.')) {
        return Err(fault(format!("it names a file {shard:?}, which is not beside it")));
    }
    if let Some(shard) = names.iter().find(|shard| is_index(Path::new(shard.as_str()))) {
        return Err(fault(format!("it names another index, {shard:?}")));
    }
    Ok(shards)
}

/// Every tensor that the index at `path` names, from the shard where it must be. Each shard is read once.
pub(super) fn read(path: &Path, part: Option<Part>) -> Result<Weights, Error> {
    let weight_map = read_index(path)?;
    let shards: BTreeSet<&String> = weight_map.values().collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut tensors = BTreeMap::new();
    for shard in shards {
        let file = folder.join(shard);
        for (name, tensor) in super::read_file(&file, part)?.tensors {
            if weight_map.get(&name) != Some(shard) {
                return Err(Error::format(&file, format!("holds `{name}`, which the index does not expect there")));
            }
            tensors.insert(name, tensor);
        }
    }
    if let Some(missing) = weight_map.keys().find(|name| !tensors.contains_key(*name)) {
        return Err(Error::format(
            &folder.join(&weight_map[missing]),
            format!("lacks `{missing}`, which the index names"),
        ));
    }
    Ok(Weights { tensors, source: path.display().to_string(), ..Weights::default() })
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use serde_json::json;

    use super::*;

    fn weights(names: &[&str]) -> Weights {
        let tensor = |name: &&str| (name.to_string(), TensorData::new(vec![name.len() as f32; 2], [2]).into());
        Weights { tensors: names.iter().map(tensor).collect(), source: "a test".into(), ..Weights::default() }
    }

    fn written(map: &serde_json::Value) -> (tempfile::TempDir, Result<Weights, Error>) {
        let folder = tempfile::tempdir().unwrap();
        weights(&["a", "bb"]).write(folder.path().join("model-1.safetensors"), &[]).unwrap();
        weights(&["ccc"]).write(folder.path().join("model-2.safetensors"), &[]).unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        std::fs::write(&index, json!({ "metadata": { "total_size": 24 }, "weight_map": map }).to_string()).unwrap();
        let read = Weights::read(index);
        (folder, read)
    }

    #[test]
    fn shards_are_one_set_of_weights() {
        let (_folder, read) =
            written(&json!({ "a": "model-1.safetensors", "bb": "model-1.safetensors", "ccc": "model-2.safetensors" }));
        assert_eq!(
            read.unwrap().to_safetensors(&[]).unwrap(),
            weights(&["a", "bb", "ccc"]).to_safetensors(&[]).unwrap()
        );
    }

    #[test]
    fn prefixes_are_dropped_once_all_shards_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["model-1.safetensors", "model-2.safetensors"].map(|name| folder.path().join(name));
        // All names of one shard have the prefix, but not all of the network.
        weights(&["module.a"]).write(&first, &[]).unwrap();
        weights(&["bb"]).write(&second, &[]).unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        let map = json!({ "module.a": "model-1.safetensors", "bb": "model-2.safetensors" });
        std::fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
        let names = |weights: Weights| weights.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(Weights::read(&index).unwrap()), ["bb", "module.a"]);
        weights(&["module.bb"]).write(&second, &[]).unwrap();
        let map = json!({ "module.a": "model-1.safetensors", "module.bb": "model-2.safetensors" });
        std::fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
        assert_eq!(names(Weights::read(&index).unwrap()), ["a", "bb"]);
    }

    #[test]
    fn a_tensor_that_the_index_names_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        let text = r#"{"weight_map": {"a": "model-1.safetensors", "a": "model-2.safetensors"}}"#;
        std::fs::write(&index, text).unwrap();
        let error = Weights::read(index).unwrap_err().to_string();
        assert!(error.contains("it names `a` twice"), "{error}");
    }

    #[test]
    fn an_index_is_told_by_its_name() {
        let is = |name: &str| is_index(Path::new(name));
        assert!(is("a/model.safetensors.index.json") && is("model.safetensors.index.fp16.json"));
        assert!(!is("model.safetensors") && !is("index.json") && !is("model.safetensors.json"));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for (map, complaint) in [
            (
                json!({ "a": "model-1.safetensors", "bb": "model-1.safetensors", "d": "model-2.safetensors" }),
                "holds `ccc`",
            ),
            (json!({ "a": "model-1.safetensors", "ccc": "model-2.safetensors" }), "holds `bb`"),
            (
                json!({ "a": "model-1.safetensors", "bb": "model-1.safetensors", "x": "model-1.safetensors" }),
                "lacks `x`",
            ),
            (json!({ "a": "../model-1.safetensors" }), "not beside it"),
            (json!({ "a": "/etc/passwd" }), "not beside it"),
            (json!({ "a": "model.safetensors.index.json" }), "another index"),
            (json!({ "a": "model-9.safetensors" }), "cannot read"),
            (json!(["a"]), "is no index of shards"),
        ] {
            let error = written(&map).1.unwrap_err().to_string();
            assert!(error.contains(complaint), "{map}: {error}");
        }
    }
}
