//! Trainings in `TensorBoard` and Weights & Biases.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use clap::Args;
use mixflow::report::Report;
use mixflow::train::Event;
use mixflow_hub::tracker::{End, Entry, TensorBoard, Trackers, WandbMode, WandbRun};
use serde_json::Value;

use crate::progress::Progress;
use crate::run::{Result, note};

/// Whom trainings are told.
#[derive(Args, Clone, Copy)]
pub(crate) struct Watchers {
    #[arg(long, help = "Write event files for TensorBoard into the run's folder")]
    tensorboard: bool,
    #[arg(
        long,
        help = "Write a Weights & Biases run into the run's folder, streamed if there is a key, in WANDB_API_KEY or ~/.netrc, and WANDB_MODE is not offline"
    )]
    wandb: bool,
}

/// Tells the trainings of a command, one after another.
pub(crate) struct Tracking {
    tensorboard: bool,
    wandb: WandbMode,
    /// Of the recipe.
    name: String,
    /// Of the run.
    folder: PathBuf,
    recipe: Value,
    /// The training that is told, by its folder.
    current: Option<(PathBuf, Trackers)>,
    /// What earlier ones end with: nobody waits for them before the command ends.
    ending: Vec<JoinHandle<Vec<String>>>,
}

impl Watchers {
    /// What tells the trainings of a recipe in a folder; the environment is read now.
    pub(crate) fn tracking(self, name: &str, folder: &Path, recipe: &Value) -> Result<Tracking> {
        let wandb = if self.wandb { WandbMode::from_env()? } else { WandbMode::Disabled };
        let (folder, recipe) = (folder.into(), recipe.clone());
        let (tensorboard, name) = (self.tensorboard, name.into());
        Ok(Tracking { tensorboard, wandb, name, folder, recipe, current: None, ending: vec![] })
    }
}

impl Tracking {
    /// Tells an event of the training in a folder.
    pub(crate) fn training(&mut self, folder: &Path, event: &Event<'_>, progress: &Progress) {
        let trackers = self.trackers(folder);
        trackers.event(event);
        for text in trackers.warnings() {
            progress.line(&format!("warning: {text}"));
        }
    }

    /// The training has done all its steps.
    pub(crate) fn trained(&mut self) {
        self.close(End::Done);
    }

    /// Tells what a comparison found.
    pub(crate) fn report(&mut self, report: &Report) {
        self.trained();
        let folder = self.folder.clone();
        self.trackers(&folder).report(report);
    }

    /// Ends, with the command: whether it came to its end, and waits for what is still to be written and sent.
    pub(crate) fn end(mut self, finished: &Result<bool>) {
        self.close(match finished {
            Ok(true) => End::Done,
            Ok(false) => End::Stopped,
            Err(_) => End::Failed,
        });
        for ending in self.ending {
            for text in ending.join().unwrap_or_default() {
                note(format_args!("warning: {text}"));
            }
        }
    }

    /// The trackers of the training in a folder, which may be that of the run.
    fn trackers(&mut self, folder: &Path) -> &mut Trackers {
        if self.current.as_ref().is_some_and(|(current, _)| current != folder) {
            self.close(End::Done);
        }
        let trackers = match self.current.take() {
            Some((_, trackers)) => trackers,
            None => self.open(folder),
        };
        &mut self.current.insert((folder.into(), trackers)).1
    }

    fn open(&self, folder: &Path) -> Trackers {
        let mut trackers = Trackers::default();
        let part = folder.strip_prefix(&self.folder).unwrap_or(Path::new(""));
        if self.tensorboard {
            // Parts are runs side by side to TensorBoard.
            trackers.add(TensorBoard::open(&self.folder.join("tensorboard").join(part)));
        }
        let name = match part.to_str() {
            Some(part) if !part.is_empty() => format!("{}/{part}", self.name),
            _ => self.name.clone(),
        };
        trackers.add_wandb(folder, &WandbRun::from_env(&name), &self.wandb);
        trackers.log(&folder.join("metrics.jsonl"));
        trackers.track(Entry::Config(&self.recipe));
        trackers
    }

    fn close(&mut self, end: End) {
        let Some((_, mut trackers)) = self.current.take() else { return };
        trackers.track(Entry::Finished(end));
        self.ending.push(std::thread::spawn(|| trackers.finish()));
    }
}
