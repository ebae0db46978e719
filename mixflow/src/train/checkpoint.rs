//! Checkpoints that survive being killed.
//!
//! A checkpoint is a folder `step-00000400` that holds `weights.safetensors`, `average.safetensors`,
//! `optimizer.safetensors`, `state.json` and, written last, `manifest.json` with size and SHA-256 of the others. It is
//! written under a temporary name, every file and the folder are synced, and then it is renamed: whoever sees the name
//! sees the whole. Where a second network is trained against the first, its tensors are in `opponent-*.safetensors`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use mixflow_backbones::json::explain;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::manifest::{Entry, MANIFEST, Manifest, damaged};
use super::snapshot::{Snapshot, Tensors};
use crate::Error;

const PARTIAL: &str = ".partial-";
const FIRST: &str = "first_moment.";
const SECOND: &str = "second_moment.";

/// What the names of files begin with that belong to the opponent, a network trained against the first.
const OPPONENT: &str = "opponent-";

/// A folder of checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// A checkpoint that was read and found whole.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The training state.
    pub snapshot: Snapshot,
    /// The recipe of its last step.
    pub recipe: serde_json::Value,
    /// The folder that it was read from.
    pub path: PathBuf,
}

/// What reading the newest checkpoint found.
#[derive(Debug)]
pub struct NewestCheckpoint {
    /// The newest checkpoint that is whole, if any is.
    pub checkpoint: Option<Checkpoint>,
    /// Why newer checkpoints were passed over, for the user.
    pub damaged: Vec<Error>,
}

/// What was read of the newest checkpoint that is whole, and why newer ones are not.
pub(super) struct Newest<T> {
    pub(super) whole: Option<T>,
    pub(super) damaged: Vec<Error>,
}

#[derive(Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    counts: Counts,
    /// Steps and updates of the opponent, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opponent: Option<Counts>,
    recipe: serde_json::Value,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Counts {
    step: u64,
    updates: u64,
}

impl Counts {
    fn of(snapshot: &Snapshot) -> Self {
        Self { step: snapshot.step, updates: snapshot.updates }
    }
}

impl Checkpoints {
    /// The checkpoints in `folder`, which need not exist yet; writing a new one leaves the `keep` newest, at least two.
    pub fn new(folder: impl Into<PathBuf>, keep: usize) -> Self {
        Self { folder: folder.into(), keep: keep.max(2) }
    }

    /// Writes a checkpoint and returns its path.
    ///
    /// # Errors
    /// If the disk is full or the folder cannot be written to; checkpoints that were there are untouched, and nothing half-written is
    /// left behind.
    pub fn save(&self, snapshot: &Snapshot, recipe: &serde_json::Value) -> Result<PathBuf, Error> {
        let name = name(snapshot.step);
        let target = self.folder.join(&name);
        let partial = self.folder.join(format!("{PARTIAL}{name}"));
        fs::create_dir_all(&self.folder).map_err(Error::io("create", &self.folder))?;
        self.clear_partial()?;
        fs::create_dir(&partial).map_err(Error::io("create", &partial))?;
        let written = write_files(&partial, snapshot, recipe).and_then(|()| {
            if target.exists() {
                fs::remove_dir_all(&target).map_err(Error::io("replace", &target))?;
            }
            fs::rename(&partial, &target).map_err(Error::io("rename", &partial))?;
            sync_folder(&self.folder)
        });
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        // Later ones were damaged, or the run would have gone on from them: they do not count.
        let whole = self.steps()?.into_iter().filter(|step| *step <= snapshot.step);
        for old in whole.rev().skip(self.keep) {
            let old = self.folder.join(self::name(old));
            fs::remove_dir_all(&old).map_err(Error::io("remove", &old))?;
        }
        Ok(target)
    }

    /// Reads the newest checkpoint that is whole.
    ///
    /// # Errors
    /// If the folder cannot be listed. Damaged checkpoints are passed over and reported in [`NewestCheckpoint::damaged`].
    pub fn latest(&self) -> Result<NewestCheckpoint, Error> {
        let Newest { whole, damaged } = self.newest(read)?;
        Ok(NewestCheckpoint { checkpoint: whole, damaged })
    }

    /// The newest checkpoint for which `read` succeeds.
    pub(super) fn newest<T>(&self, read: impl Fn(&Path) -> Result<T, Error>) -> Result<Newest<T>, Error> {
        let mut damaged = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            match read(&self.folder.join(name(step))) {
                Ok(whole) => return Ok(Newest { whole: Some(whole), damaged }),
                Err(error) => damaged.push(error),
            }
        }
        Ok(Newest { whole: None, damaged })
    }

    /// The step of the newest checkpoint, whole or not; none if there is none.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn newest_step(&self) -> Result<Option<u64>, Error> {
        Ok(self.steps()?.pop())
    }

    /// Steps of the checkpoints that are there, ascending.
    fn steps(&self) -> Result<Vec<u64>, Error> {
        let mut steps: Vec<u64> = Vec::new();
        if self.folder.exists() {
            for entry in fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))? {
                let file = entry.map_err(Error::io("list", &self.folder))?.file_name();
                let step = file.to_str().and_then(|file| file.strip_prefix("step-")).map(str::parse::<u64>);
                steps.extend(step.and_then(Result::ok));
            }
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes partial checkpoints that a killed process left.
    fn clear_partial(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))? {
            let path = entry.map_err(Error::io("list", &self.folder))?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL)) {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Reads one checkpoint folder.
///
/// # Errors
/// [`Error::Damaged`] if it is not whole.
pub fn read(path: &Path) -> Result<Checkpoint, Error> {
    let damaged = |reason: String| damaged(path, reason);
    let manifest = Manifest::read(path)?;
    let whole = |name: &str| manifest.whole(path, name);
    let tensors = |name: &str| {
        let bytes = whole(name)?;
        from_safetensors(&bytes).map_err(|reason| damaged(format!("{name}: {reason}")))
    };
    let state: State = serde_json::from_slice(&whole("state.json")?)
        .map_err(|error| damaged(format!("state.json: {}", explain(&error))))?;
    let snapshot = |prefix: &str, Counts { step, updates }: Counts| -> Result<Snapshot, Error> {
        let mut optimizer = tensors(&format!("{prefix}optimizer.safetensors"))?;
        let mut moment = |kind: &str| -> Tensors {
            let names: Vec<String> = optimizer.keys().filter(|name| name.starts_with(kind)).cloned().collect();
            let part = names.into_iter().filter_map(|name| Some((name[kind.len()..].into(), optimizer.remove(&name)?)));
            part.collect()
        };
        let (first_moment, second_moment) = (moment(FIRST), moment(SECOND));
        if let Some(name) = optimizer.keys().next() {
            return Err(damaged(format!("{prefix}optimizer.safetensors holds {name}, which is no moment")));
        }
        Ok(Snapshot {
            weights: tensors(&format!("{prefix}weights.safetensors"))?,
            average: tensors(&format!("{prefix}average.safetensors"))?,
            first_moment,
            second_moment,
            step,
            updates,
            opponent: None,
        })
    };
    let opponent = state.opponent.map(|counts| snapshot(OPPONENT, counts).map(Box::new)).transpose()?;
    let snapshot = Snapshot { opponent, ..snapshot("", state.counts)? };
    Ok(Checkpoint { snapshot, recipe: state.recipe, path: path.into() })
}

/// Whether one of the checkpoints in a folder has files of the sizes that it should have, or there are none.
///
/// # Errors
/// What is wrong with the newest, if no other is whole.
pub(super) fn check_sizes(folder: &Path) -> Result<(), Error> {
    let found = Checkpoints::new(folder, 2).newest(|path| Manifest::read(path)?.check_sizes(path))?;
    match (found.whole, found.damaged.into_iter().next()) {
        (None, Some(damaged)) => Err(damaged),
        _ => Ok(()),
    }
}

fn name(step: u64) -> String {
    format!("step-{step:08}")
}

fn write_files(folder: &Path, snapshot: &Snapshot, recipe: &serde_json::Value) -> Result<(), Error> {
    let mut files = BTreeMap::new();
    let mut write = |name: &str, bytes: &[u8]| {
        files.insert(name.to_string(), Entry::of(bytes));
        write_synced(&folder.join(name), bytes)
    };
    let opponent = snapshot.opponent.as_deref();
    for (prefix, snapshot) in [("", snapshot)].into_iter().chain(opponent.map(|snapshot| (OPPONENT, snapshot))) {
        let mut tensors = |name: &str, tensors: &mut dyn Iterator<Item = (String, &TensorData)>| {
            write(&format!("{prefix}{name}.safetensors"), &to_safetensors(tensors)?)
        };
        tensors("weights", &mut snapshot.weights.iter().map(named("")))?;
        tensors("average", &mut snapshot.average.iter().map(named("")))?;
        let moments = snapshot.first_moment.iter().map(named(FIRST));
        tensors("optimizer", &mut moments.chain(snapshot.second_moment.iter().map(named(SECOND))))?;
    }
    let state = State { counts: Counts::of(snapshot), opponent: opponent.map(Counts::of), recipe: recipe.clone() };
    write("state.json", &json(&state))?;
    write_synced(&folder.join(MANIFEST), &json(&Manifest { format: 1, files }))?;
    sync_folder(folder)
}

fn named<'a>(prefix: &'static str) -> impl Fn((&'a String, &'a TensorData)) -> (String, &'a TensorData) {
    move |(name, data)| (format!("{prefix}{name}"), data)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("plain numbers and text are JSON")
}

fn to_safetensors(tensors: &mut dyn Iterator<Item = (String, &TensorData)>) -> Result<Vec<u8>, Error> {
    let views = tensors.map(|(name, data)| {
        assert_eq!(data.dtype(), DType::F32, "training keeps its tensors in f32, {name} is not");
        let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes());
        (name, view.expect("a tensor's bytes fill its shape"))
    });
    Ok(safetensors::serialize(views, None).expect("names are unique and views are whole"))
}

pub(super) fn from_safetensors(bytes: &[u8]) -> Result<Tensors, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensors = file.tensors().into_iter().map(|(name, view)| match view.dtype() {
        Dtype::F32 => Ok((name, TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), DType::F32))),
        other => Err(format!("{name} has type {other:?}, expected F32")),
    });
    tensors.collect()
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", path))
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    // Windows cannot open folders; a rename there is ordered by the file system.
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", path))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(step: u64) -> Snapshot {
        let tensors = |value: f32| -> Tensors {
            [("a.weight".to_string(), TensorData::new(vec![value, f32::MIN_POSITIVE, -0.0], [3]))].into()
        };
        let (weights, average) = (tensors(step as f32), tensors(0.1));
        let (first_moment, second_moment) = (tensors(2.0), tensors(3.0));
        Snapshot { weights, average, first_moment, second_moment, step, updates: step, opponent: None }
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("new"), 2);
        let recipe = serde_json::json!({"seed": 1});
        for step in [1, 5, 12] {
            checkpoints.save(&snapshot(step), &recipe).unwrap();
        }
        let found = checkpoints.latest().unwrap();
        assert!(found.damaged.is_empty());
        let checkpoint = found.checkpoint.unwrap();
        assert_eq!((checkpoint.snapshot, checkpoint.recipe), (snapshot(12), recipe));
        assert_eq!(checkpoints.steps().unwrap(), [5, 12], "the oldest is gone");
    }

    #[test]
    fn an_opponent_is_read_back_and_its_damage_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path(), 2);
        let pair = |step| Snapshot { opponent: Some(Box::new(snapshot(step / 2))), ..snapshot(step) };
        for step in [8, 9] {
            checkpoints.save(&pair(step), &serde_json::Value::Null).unwrap();
        }
        assert_eq!(checkpoints.latest().unwrap().checkpoint.unwrap().snapshot, pair(9));
        fs::write(folder.path().join(name(9)).join("opponent-optimizer.safetensors"), "").unwrap();
        assert_eq!(checkpoints.latest().unwrap().checkpoint.unwrap().snapshot, pair(8));
    }

    /// Truncates and flips every file at several places: the older checkpoint must be used, and the damage named.
    #[test]
    fn every_damage_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path(), 2);
        for step in [1, 2] {
            checkpoints.save(&snapshot(step), &serde_json::Value::Null).unwrap();
        }
        let newest = folder.path().join(name(2));
        for file in fs::read_dir(&newest).unwrap() {
            let path = file.unwrap().path();
            let whole = fs::read(&path).unwrap();
            let manifest = path.ends_with(MANIFEST);
            let middle = whole.len() / 2;
            let mut flipped = whole.clone();
            flipped[middle] ^= 1;
            for damage in [&whole[..0], &whole[..middle], &whole[..whole.len() - 1], &flipped] {
                fs::write(&path, damage).unwrap();
                let found = checkpoints.latest().unwrap();
                let step = found.checkpoint.unwrap().snapshot.step;
                // A flipped bit of the manifest may fall on white space: then nothing is lost.
                assert!(step == 1 && found.damaged.len() == 1 || manifest && step == 2, "{}", path.display());
            }
            fs::remove_file(&path).unwrap();
            assert_eq!(checkpoints.latest().unwrap().checkpoint.unwrap().snapshot.step, 1);
            fs::write(&path, &whole).unwrap();
            assert_eq!(checkpoints.latest().unwrap().checkpoint.unwrap().snapshot.step, 2);
        }
    }

    #[test]
    fn what_is_wrong_with_a_manifest_is_told_in_plain_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = Checkpoints::new(folder.path(), 2).save(&snapshot(1), &serde_json::Value::Null).unwrap();
        for (text, words) in [
            (r#"{"format":"1","files":{}}"#, "expected a whole number from 0 to 4294967295, found the text \"1\""),
            (r#"{"format":1,"files":{"a":{"bytes":-1,"sha256":""}}}"#, "expected a whole number, 0 or more, found -1"),
            (r#"{"format":1,"files":[]}"#, "expected an object, found a list"),
            (r#"{"files":{}}"#, "the key `format` is missing"),
            ("3", "expected an object, found 3"),
        ] {
            fs::write(path.join(MANIFEST), text).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains(words) && message.contains("is not a manifest"), "{text}: {message}");
        }
    }

    #[test]
    fn what_a_killed_process_left_is_no_checkpoint_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path(), 2);
        let partial = folder.path().join(".partial-step-00000003");
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("weights.safetensors"), "half").unwrap();
        assert!(checkpoints.latest().unwrap().checkpoint.is_none());
        checkpoints.save(&snapshot(3), &serde_json::Value::Null).unwrap();
        assert!(!partial.exists());
    }

    #[test]
    fn an_unwritable_folder_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Checkpoints::new(file.join("runs"), 2).save(&snapshot(1), &serde_json::Value::Null).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
