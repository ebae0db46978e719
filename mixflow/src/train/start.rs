//! The weights that a training started from.

use std::fs;
use std::path::{Path, PathBuf};

use mixflow_backbones::json::explain;
use mixflow_backbones::weights::Weights;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ClassRows, StoredNetwork};
use crate::Error;
use crate::files::{WeightsFile, write_atomic};

/// The weights that a training started from, as `start.json` in the folder of its run says.
///
/// The recipe does not name them, but they determine the run as it does: one that is continued must be given the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The repository of the Hugging Face Hub that they came from: `org/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The commit of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The file, and the shards that it names; without folders, unless it is one of a repository.
    pub files: Vec<WeightsFile>,
    /// Which network of a training checkpoint: `ema`, `model`, …; `average` of one of ours. None where the file holds one
    /// network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The rows of their label table that the classes started from, where those of the weights were others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_rows: Option<ClassRows>,
}

impl Start {
    /// What training starts from that takes this network.
    ///
    /// # Errors
    /// If the file cannot be read, or is none of weights.
    pub fn of(stored: &StoredNetwork) -> Result<Self, Error> {
        let file = stored.file();
        let weights = Weights::read(&file)?;
        let part = match stored {
            StoredNetwork::File(_) => weights.part().map(String::from),
            StoredNetwork::Checkpoint(_) => Some("average".into()),
        };
        let files = Weights::files(&file)?.into_iter().map(|file| {
            let name = file.file_name().map(PathBuf::from).unwrap_or_default();
            Ok(WeightsFile { file: name, ..WeightsFile::read(file)? })
        });
        Ok(Self { repository: None, commit: None, files: files.collect::<Result<_, Error>>()?, part, class_rows: None })
    }

    /// What a training starts from that goes on with weights in memory: their hash is that of the file that they would be,
    /// `file` is what they are called.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn of_weights(file: &str, weights: &Weights, metadata: &[(&str, &str)]) -> Result<Self, Error> {
        let sha256 = hex::encode(Sha256::digest(weights.to_safetensors(metadata)?));
        Ok(Self {
            repository: None,
            commit: None,
            files: vec![WeightsFile { file: file.into(), sha256 }],
            part: None,
            class_rows: None,
        })
    }

    /// What the run in a folder started from; none if that was a network of random weights.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(run: &Path) -> Result<Option<Self>, Error> {
        let file = run.join(FILE);
        if !file.is_file() {
            return Ok(None);
        }
        let text = fs::read(&file).map_err(Error::io("read", &file))?;
        let reason = |error| format!("does not say what the run started from: {}", explain(&error));
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::record(&file, reason(error)))
    }

    /// Says in the folder of a run that begins what it starts from; none are random weights.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(start: Option<&Self>, run: &Path) -> Result<(), Error> {
        let file = run.join(FILE);
        match start {
            Some(start) => write_atomic(&file, &serde_json::to_vec_pretty(start).expect("text is JSON")),
            // Of a run that did not come to begin.
            None if file.exists() => fs::remove_file(&file).map_err(Error::io("remove", &file)),
            None => Ok(()),
        }
    }

    /// File, part, repository and the beginning of the hash.
    fn described(&self) -> String {
        let mut text = self.file().display().to_string();
        text += &self.part.as_ref().map_or(String::new(), |part| format!(", part `{part}`"));
        text += &self.repository.as_ref().map_or(String::new(), |repository| format!(" of {repository}"));
        let hash = self.files.first().map_or("", |file| file.sha256.as_str());
        format!("{text} (SHA-256 {}…)", hash.get(..12).unwrap_or(hash))
    }

    /// The first file, which is the one that was given.
    pub fn file(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |found| &found.file)
    }
}

/// Refuses to continue a run from other weights than those that it started from, or from any where it had none. A training
/// that has a checkpoint needs none; a run from before `data.json`, which did not write down its start, is believed.
///
/// # Errors
/// [`Error::OtherWeights`] if they are others, or are needed and not given.
pub fn check_same_start(run: &Path, start: Option<&Start>) -> Result<(), Error> {
    let fault = |reason: String| Err(Error::OtherWeights { record: run.join(FILE), reason });
    let Some(old) = Start::read(run)? else {
        return match start.filter(|_| run.join("data.json").is_file()) {
            Some(start) => fault(format!(
                "the run started from initial values, and it is given weights, {}: continue it without --from, or choose \
                 another --out",
                start.described()
            )),
            None => Ok(()),
        };
    };
    let hashes = |start: &Start| start.files.iter().map(|file| file.sha256.clone()).collect::<Vec<_>>();
    let reason = match start {
        Some(start) if (hashes(start), &start.part) != (hashes(&old), &old.part) => {
            format!("it is given other weights, {}", start.described())
        }
        Some(start) if start.class_rows != old.class_rows => "its classes are given other rows".into(),
        None if !run.join("checkpoints").is_dir() => "it is given none".into(),
        _ => return Ok(()),
    };
    let flags = if old.class_rows.is_some() { "--from and --class-rows" } else { "--from" };
    fault(format!(
        "the run started from {}, and {reason}: continue it with the same {flags}, or choose another --out",
        old.described()
    ))
}

const FILE: &str = "start.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn weights(seed: u64) -> Weights {
        let recipe = Recipe::read("digits", &["network.width=24".into(), "network.depth=1".into()]).unwrap();
        recipe.network.init(seed, &Default::default()).weights()
    }

    #[test]
    fn a_run_goes_on_from_the_weights_that_it_started_from() {
        let root = tempfile::tempdir().unwrap();
        let [run, file, other] = ["run", "a.safetensors", "b.safetensors"].map(|name| root.path().join(name));
        weights(1).write(&file, &[]).unwrap();
        weights(2).write(&other, &[]).unwrap();
        let [start, others] = [&file, &other].map(|file| Start::of(&StoredNetwork::File(file.clone())).unwrap());
        assert_eq!((start.file(), &start.part, start.files[0].sha256.len()), (Path::new("a.safetensors"), &None, 64));
        // Nobody has written down anything.
        check_same_start(&run, None).unwrap();
        check_same_start(&run, Some(&others)).unwrap();
        // One that wrote what its data are would have written a start, too.
        fs::create_dir_all(&run).unwrap();
        fs::write(run.join("data.json"), "{}").unwrap();
        let error = check_same_start(&run, Some(&others)).unwrap_err().to_string();
        assert!(error.contains("started from initial values"), "{error}");
        check_same_start(&run, None).unwrap();
        fs::remove_file(run.join("data.json")).unwrap();

        Start::write(Some(&start), &run).unwrap();
        assert_eq!(Start::read(&run).unwrap().unwrap(), start);
        // The same weights may lie elsewhere.
        let copy = root.path().join("copy.safetensors");
        fs::copy(&file, &copy).unwrap();
        check_same_start(&run, Some(&Start::of(&StoredNetwork::File(copy)).unwrap())).unwrap();
        let rows = ClassRows::parse("null", &["cat".into()]).unwrap();
        let mapped = Start { class_rows: Some(rows), ..start.clone() };
        for (given, words) in [
            (Some(&others), "it is given other weights"),
            (Some(&mapped), "its classes are given other rows"),
            (None, "it is given none"),
        ] {
            let error = check_same_start(&run, given).unwrap_err().to_string();
            assert!(error.contains("started from a.safetensors") && error.contains(words), "{error}");
        }
        fs::create_dir(run.join("checkpoints")).unwrap();
        check_same_start(&run, None).unwrap();
        assert!(check_same_start(&run, Some(&others)).is_err());
        fs::write(run.join("start.json"), "{").unwrap();
        assert!(check_same_start(&run, None).unwrap_err().to_string().contains("does not say what"));
        Start::write(None, &run).unwrap();
        assert_eq!(Start::read(&run).unwrap(), None);
    }

    #[test]
    fn all_files_of_a_network_and_its_part_are_known() {
        let root = tempfile::tempdir().unwrap();
        weights(1).write(root.path().join("model-1.safetensors"), &[]).unwrap();
        let names: Vec<String> = weights(1).iter().map(|(name, _)| name.to_string()).collect();
        let map: serde_json::Map<_, _> = names.into_iter().map(|name| (name, "model-1.safetensors".into())).collect();
        // A variant's index too.
        for name in ["model.safetensors.index.json", "model.safetensors.index.fp16.json"] {
            let index = root.path().join(name);
            fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
            let start = Start::of(&StoredNetwork::File(index)).unwrap();
            let names: Vec<_> = start.files.iter().map(|found| found.file.to_str().unwrap()).collect();
            assert_eq!(names, [name, "model-1.safetensors"]);
        }

        let pt = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pt/nested.pt");
        assert_eq!(Start::of(&StoredNetwork::File(pt)).unwrap().part.as_deref(), Some("ema"));
    }
}
