//! Changes of the optimiser in the middle of a run.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use mixflow_backbones::json;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Checkpoints;
use super::difference::{Difference, value_at};
use crate::Error;
use crate::files::write_atomic;

const FILE: &str = "changes.jsonl";

/// A setting of the optimiser that a run went on with another value of: a line of `changes.jsonl` in the folder of the
/// training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The first step with the new value.
    pub step: u64,
    /// Its key in the recipe, such as `training.optimizer.clip`.
    pub key: String,
    /// The value before; null if the key was missing.
    pub from: Value,
    /// The value from this step on.
    pub to: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, key, from, to } = self;
        write!(f, "from step {step} on, {key} is {to} instead of {from}")
    }
}

/// Lets a run go on with other values of its optimiser than its newest checkpoint has: those of `recipe` at these `keys`.
/// What changes is written down beside the checkpoint, where [`Run`](super::Run) finds it, and returned.
///
/// `run` is the folder of the run: of a comparison, the pre-training in it goes on. An autoencoder that the run still trains, whose
/// checkpoints have the recipe of all of it, goes on beside that, and with its own optimiser.
///
/// # Errors
/// [`Error::Change`] for keys that are none of an optimiser, or of a comparison whose post-trainings have begun: they are
/// all trained alike. As [`Checkpoints::latest`].
pub fn change_optimizer(run: &Path, recipe: &Value, keys: &[String]) -> Result<Vec<Change>, Error> {
    let mut changed = Vec::new();
    for key in keys {
        let folder = training(run, recipe, key)?;
        let first = run.join("autoencoder");
        if folder != first && !run.join("autoencoder.safetensors").is_file() {
            change(&first, recipe, key)?;
        }
        changed.extend(change(&folder, recipe, key)?);
    }
    Ok(changed)
}

/// Lets the training in a folder go on with another value at a key, if it has a checkpoint that has not this one.
fn change(folder: &Path, recipe: &Value, key: &str) -> Result<Option<Change>, Error> {
    let Some(checkpoint) = Checkpoints::new(folder.join("checkpoints"), 2).latest()?.checkpoint else {
        return Ok(None);
    };
    let [from, to] = [&checkpoint.recipe, recipe].map(|recipe| value_at(recipe, key).clone());
    if from == to {
        return Ok(None);
    }
    let change = Change { step: checkpoint.snapshot.step, key: key.into(), from, to };
    let mut all = changes(folder)?;
    all.retain(|old| old.step < change.step || old.step == change.step && old.key != change.key);
    all.push(change.clone());
    write(folder, &all)?;
    Ok(Some(change))
}

/// The changes of a training, in its folder; none if there were none.
///
/// # Errors
/// If they cannot be read.
pub fn changes(training: &Path) -> Result<Vec<Change>, Error> {
    let file = training.join(FILE);
    let text = match fs::read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        text => text.map_err(Error::io("read", &file))?,
    };
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate();
    let change = |(number, line): (usize, &[u8])| {
        let reason = |error| format!("line {} is no change of a run: {}", number + 1, json::explain(&error));
        serde_json::from_slice(line).map_err(|error| Error::record(&file, reason(error)))
    };
    lines.map(change).collect()
}

/// The changes of a training that goes on from a checkpoint at `step` of the recipe `old` by the recipe `new`: without
/// those that are no more, as one from this step on that was tried and that `new` does not have. Or what the recipes differ in
/// that was not asked for.
pub(super) fn accepted(
    folder: &Path,
    step: u64,
    old: &Value,
    new: &Value,
) -> Result<Result<Vec<Change>, Difference>, Error> {
    let mut all = changes(folder)?;
    all.retain(|change| change.step != step || *value_at(new, &change.key) == change.to);
    let mut changed = old.clone();
    for change in all.iter().filter(|change| change.step == step) {
        set(&mut changed, &change.key, change.to.clone());
    }
    let end = match (Difference::first(old, new, &[]), Difference::first(&changed, new, &[])) {
        (None, _) => step,
        (_, None) => step + 1,
        (_, Some(difference)) => return Ok(Err(difference)),
    };
    Ok(Ok(all.into_iter().filter(|change| change.step < end).collect()))
}

/// Writes down the changes of a training, if they are not there already.
pub(super) fn keep(folder: &Path, kept: &[Change]) -> Result<(), Error> {
    if changes(folder)? == kept { Ok(()) } else { write(folder, kept) }
}

/// The folder of the training that a key of a run's recipe is for.
fn training(run: &Path, recipe: &Value, key: &str) -> Result<PathBuf, Error> {
    let fault = |reason: String| Err(Error::Change { key: key.into(), reason });
    if !key.split('.').any(|part| part == "optimizer") {
        return fault("a run goes on with another optimiser at most, such as training.optimizer.clip".into());
    }
    if recipe["post_training"].is_null() && key.starts_with("training.") {
        return Ok(run.into());
    }
    if key.starts_with("autoencoder.") || key.starts_with("target_encoder.") {
        return Ok(run.join("autoencoder"));
    }
    let parts = fs::read_dir(run).map_err(Error::io("list", run))?.flatten();
    let begun = parts.map(|part| part.file_name().to_string_lossy().into_owned());
    let begun = begun.filter(|name| is_of_arm(name)).min();
    match begun {
        Some(name) => fault(format!(
            "the post-trainings of this comparison are trained alike, and {name} has begun: compare anew in another \
             folder, from the weights of {}",
            run.join("pretraining").display()
        )),
        None => Ok(run.join("pretraining")),
    }
}

/// Whether a folder is called as that of an arm's training: its name and the number of a seed.
pub(super) fn is_of_arm(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(arm, seed)| !arm.is_empty() && seed.parse::<u64>().is_ok())
}

fn set(recipe: &mut Value, key: &str, value: Value) {
    let mut place = recipe;
    for part in key.split('.') {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[part];
    }
    *place = value;
}

fn write(folder: &Path, changes: &[Change]) -> Result<(), Error> {
    let lines = changes.iter().map(|change| serde_json::to_string(change).expect("plain values are JSON") + "\n");
    write_atomic(&folder.join(FILE), lines.collect::<String>().as_bytes())
}
