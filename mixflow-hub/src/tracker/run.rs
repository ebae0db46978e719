//! The trainings of a run, for trackers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use mixflow::compare::Progress;
use mixflow::report::Report;
use mixflow::train::Event;
use serde_json::Value;

use super::{End, Entry, Error, TensorBoard, Trackers, WandbMode, WandbRun};

/// Tells trackers the trainings of a run: that of a single one, or those of a comparison and its results, each side by side to
/// `TensorBoard` and a run of its own to Weights & Biases.
///
/// ```no_run
/// use mixflow::{device, launch::train, recipe::Recipe};
/// use mixflow_hub::tracker::{End, RunTrackers};
///
/// let (recipe, run) = (Recipe::read("digits", &[])?, "runs/digits".as_ref());
/// let mut trackers = RunTrackers::of(run, &recipe.to_value())?;
/// train(&recipe, run, &device::chosen()?, &mut |progress| trackers.progress(&progress))?;
/// let warnings = trackers.end(End::Done);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RunTrackers {
    tensorboard: bool,
    wandb: WandbMode,
    /// The folder of the run.
    folder: PathBuf,
    recipe: Value,
    /// The trackers of trainings that go on, by the folders of these: several go on at once.
    current: BTreeMap<PathBuf, Trackers>,
    /// What earlier ones end with: nobody waits for them before the run ends.
    ending: Vec<JoinHandle<Vec<String>>>,
}

impl RunTrackers {
    /// `TensorBoard` in `tensorboard/` of the run's folder, and Weights & Biases in `wandb/` of each training's, streamed or not
    /// as the environment says; the recipe says what the run is called.
    ///
    /// # Errors
    /// If a variable of the environment cannot be what it is.
    pub fn of(folder: &Path, recipe: &Value) -> Result<Self, Error> {
        Ok(Self::some(folder, recipe, true, WandbMode::from_env()?))
    }

    /// As [`of`](Self::of), with these trackers alone.
    pub fn some(folder: &Path, recipe: &Value, tensorboard: bool, wandb: WandbMode) -> Self {
        Self {
            tensorboard,
            wandb,
            folder: folder.into(),
            recipe: recipe.clone(),
            current: BTreeMap::new(),
            ending: vec![],
        }
    }

    /// Tells what a [`Launch`](mixflow::launch::Launch) or a [`Study`](mixflow::compare::Study) does.
    pub fn progress(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Begin(..) => self.close(End::Done),
            Progress::Training { folder, event } => self.training(folder, event),
            _ => {}
        }
    }

    /// Tells an event of the training in a folder.
    pub fn training(&mut self, folder: &Path, event: &Event) {
        match event {
            Event::Finished => {
                if let Some(trackers) = self.current.remove(folder) {
                    self.finish(trackers, End::Done);
                }
            }
            // They are for whoever shows them, and can come after its end.
            Event::Warning(_) => {}
            _ => self.trackers(folder).event(event),
        }
    }

    /// Tells what a comparison found.
    pub fn report(&mut self, report: &Report) {
        self.close(End::Done);
        let folder = self.folder.clone();
        self.trackers(&folder).report(report);
    }

    /// What went wrong since the last call, for the user.
    pub fn warnings(&mut self) -> Vec<String> {
        self.current.values_mut().flat_map(Trackers::warnings).collect()
    }

    /// The run has ended so: waits for what is still to be written and sent, and tells what went wrong.
    pub fn end(mut self, end: End) -> Vec<String> {
        self.close(end);
        self.ending.drain(..).flat_map(|ending| ending.join().unwrap_or_default()).collect()
    }

    /// The trackers of the training in a folder, which may be that of the run.
    fn trackers(&mut self, folder: &Path) -> &mut Trackers {
        if !self.current.contains_key(folder) {
            self.current.insert(folder.into(), self.open(folder));
        }
        self.current.get_mut(folder).expect("it is there by now")
    }

    fn open(&self, folder: &Path) -> Trackers {
        let mut trackers = Trackers::default();
        let part = folder.strip_prefix(&self.folder).unwrap_or(Path::new(""));
        if self.tensorboard {
            // Parts are runs side by side to TensorBoard.
            trackers.add(TensorBoard::open(&self.folder.join("tensorboard").join(part)));
        }
        let run = self.recipe["name"].as_str().unwrap_or("run");
        let name = match part.to_str() {
            Some(part) if !part.is_empty() => format!("{run}/{part}"),
            _ => run.into(),
        };
        trackers.add_wandb(folder, &WandbRun::from_env(&name), &self.wandb);
        trackers.log(&folder.join("metrics.jsonl"));
        trackers.track(Entry::Config(&self.recipe));
        trackers
    }

    fn close(&mut self, end: End) {
        for trackers in std::mem::take(&mut self.current).into_values() {
            self.finish(trackers, end);
        }
    }

    fn finish(&mut self, mut trackers: Trackers, end: End) {
        trackers.track(Entry::Finished(end));
        self.ending.push(std::thread::spawn(|| trackers.finish()));
    }
}

impl fmt::Debug for RunTrackers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunTrackers")
            .field("folder", &self.folder)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_training_that_has_finished_is_done_whatever_becomes_of_the_run() {
        let root = tempfile::tempdir().unwrap();
        let mut trackers = RunTrackers::some(root.path(), &json!({ "name": "run" }), false, WandbMode::Offline);
        let [one, other] = ["one", "other"].map(|part| root.path().join(part));
        for folder in [&one, &other] {
            std::fs::create_dir(folder).unwrap();
            trackers.training(folder, &Event::Started { step: 0 });
        }
        trackers.training(&one, &Event::Finished);
        trackers.training(&one, &Event::Warning("an image was broken".into()));
        assert_eq!(trackers.current.keys().collect::<Vec<_>>(), [&other]);
        assert_eq!(trackers.ending.len(), 1);
        assert_eq!(trackers.end(End::Stopped), Vec::<String>::new());
    }
}
