//! The folder of a run: begun, or continued where it stands.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::change::is_of_arm;
use super::{Change, Start, change_optimizer, check_same_run, check_same_start};
use crate::data::{Dataset, Fingerprint, check_same_data};
use crate::files::write_atomic;
use crate::{Error, FolderLock};

const RECIPE: &str = "recipe.json";

/// What a run writes down before its first step; that it is a run stands in the last.
const RECORDS: [&str; 6] = ["start.json", "data.json", "latents.json", "frozen.json", "phases.json", RECIPE];

/// The folder of a run, which no other process works in meanwhile.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    recipe: Value,
    /// Keys of the optimiser that may have other values than the run has.
    changed: Vec<String>,
    /// Whether no run is in it yet.
    new: bool,
    lock: FolderLock,
}

impl RunFolder {
    /// Takes a folder to begin a run of `recipe`, and makes it if it is not there.
    ///
    /// # Errors
    /// If another process works there, or there is a run already.
    pub fn begin(path: &Path, recipe: Value) -> Result<Self, Error> {
        Self::take(path, recipe, None)
    }

    /// Takes a folder to continue the run of `recipe` that is in it. Its optimiser may have other values at the keys
    /// `changed`, such as `training.optimizer.clip`.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process works there, [`Error::NoRun`], and as [`check_same_run`].
    pub fn resume(path: &Path, recipe: Value, changed: &[String]) -> Result<Self, Error> {
        Self::take(path, recipe, Some(changed))
    }

    fn take(path: &Path, recipe: Value, resume: Option<&[String]>) -> Result<Self, Error> {
        let lock = FolderLock::take(path)?;
        let file = path.join(RECIPE);
        let folder = PathBuf::from(path);
        match (file.exists(), resume) {
            (true, Some(keys)) => check_same_run(&file, &recipe, keys)?,
            (true, None) => return Err(Error::RunExists { folder }),
            (false, _) if run_has_begun(path) => return Err(Error::LostRecipe { folder }),
            (false, Some(_)) => return Err(Error::NoRun { folder }),
            (false, None) => {}
        }
        let changed = resume.unwrap_or_default().to_vec();
        Ok(Self { path: folder, recipe, changed, new: !file.exists(), lock })
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The recipe that the folder was taken for.
    pub fn recipe(&self) -> &Value {
        &self.recipe
    }

    /// The warning of its lock for the user: see [`FolderLock::warning`].
    pub fn warning(&self) -> Option<&str> {
        self.lock.warning()
    }

    /// Fingerprint of the data, which must be those of the run that is continued.
    ///
    /// # Errors
    /// If they cannot be read, or are others.
    pub fn check_data(&self, data: &dyn Dataset) -> Result<Fingerprint, Error> {
        let found = data.fingerprint()?;
        if !self.new {
            check_same_data(&self.path, &found)?;
        }
        Ok(found)
    }

    /// Refuses other weights to start from than those of the run that is continued.
    ///
    /// # Errors
    /// If it had others, or none.
    pub fn check_start(&self, start: Option<&Start>) -> Result<(), Error> {
        if self.new { Ok(()) } else { check_same_start(&self.path, start) }
    }

    /// Writes down the recipe that the run in a folder goes on with: as soon as one of its checkpoints is of it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(run: &Path, recipe: &Value) -> Result<(), Error> {
        write_atomic(&run.join(RECIPE), format!("{recipe:#}").as_bytes())
    }

    /// Makes a run on these data of the folder, which may start from weights, and does the work, which gives nothing if it
    /// was interrupted. A run that comes to nothing before its first step leaves the folder as it was. `progress` hears which
    /// settings of the optimiser are others from now on.
    ///
    /// # Errors
    /// Those of the work, and if the folder cannot be written.
    pub fn run<T, E: From<Error>>(
        self,
        data: &Fingerprint,
        start: Option<&Start>,
        mut progress: impl FnMut(Change),
        work: impl FnOnce() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let begin = || {
            if self.new {
                // Before the recipe, which makes it a run.
                Start::write(start, &self.path)?;
                data.write(&self.path)?;
                Self::record(&self.path, &self.recipe)?;
            }
            change_optimizer(&self.path, &self.recipe, &self.changed)
        };
        let finished = begin().map_err(E::from).and_then(|changes| {
            changes.into_iter().for_each(&mut progress);
            work()
        });
        if self.new && finished.is_err() && !run_has_begun(&self.path) {
            for record in RECORDS {
                // What cannot be removed is less than what the user is told of next.
                let _ = fs::remove_file(self.path.join(record));
            }
        }
        let finished = finished?;
        // A run that was continued may have another number of steps; what does not fit its checkpoints was refused by now.
        Self::record(&self.path, &self.recipe)?;
        Ok(finished)
    }
}

/// Whether a step was taken in the folder of a training.
pub(crate) fn has_begun(training: &Path) -> bool {
    ["checkpoints", "metrics.jsonl"].iter().any(|name| training.join(name).exists())
}

/// Whether a step was taken in the folder of a run: in itself, or in the folder of one of its trainings.
pub(super) fn run_has_begun(run: &Path) -> bool {
    let part = |name: &str| ["pretraining", "autoencoder"].contains(&name) || is_of_arm(name);
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    let mut parts = entries.filter(|entry| entry.file_name().to_str().is_some_and(part)).map(|entry| entry.path());
    has_begun(run) || parts.any(|part| has_begun(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_its_recipe_is_not_begun_over_and_runs_beside_are_none_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || RunFolder::begin(folder.path(), Value::Null).map(drop);
        for (training, its) in [
            ("digits", false),
            ("pretraining", true),
            ("mixflow-1", true),
            ("perturbed-0", true),
            ("beta-x", false),
            ("", true),
        ] {
            let log = folder.path().join(training).join("metrics.jsonl");
            fs::create_dir_all(log.parent().unwrap()).unwrap();
            fs::write(&log, "").unwrap();
            match begin() {
                Ok(()) => assert!(!its, "{training}"),
                Err(error) => assert!(its && matches!(error, Error::LostRecipe { .. }), "{training}: {error}"),
            }
            fs::remove_file(&log).unwrap();
        }
        assert!(begin().is_ok());
        let resume = || RunFolder::resume(folder.path(), serde_json::json!({}), &[]).map(drop);
        assert!(matches!(resume(), Err(Error::NoRun { .. })));
        fs::write(folder.path().join(RECIPE), "{}").unwrap();
        assert!(resume().is_ok() && matches!(begin(), Err(Error::RunExists { .. })));
        let other = RunFolder::resume(folder.path(), serde_json::json!({ "seed": 1 }), &[]).unwrap_err();
        assert!(matches!(other, Error::OtherRecipe { ref key, .. } if key == "seed"), "{other}");
    }
}
