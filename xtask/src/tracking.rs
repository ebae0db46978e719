//! Trainings in `TensorBoard` and Weights & Biases.

use std::path::Path;

use clap::Args;
use mixflow_hub::tracker::{End, RunTrackers, WandbMode};
use serde_json::Value;

use crate::progress::Progress;
use crate::terminal::{Result, note};

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

impl Watchers {
    /// What tells the trainings of a recipe in a folder; the environment is read now.
    pub(crate) fn tracking(self, folder: &Path, recipe: &Value) -> Result<RunTrackers> {
        let wandb = if self.wandb { WandbMode::from_env()? } else { WandbMode::Disabled };
        Ok(RunTrackers::some(folder, recipe, self.tensorboard, wandb))
    }
}

/// Shows what went wrong.
pub(crate) fn show_warnings(tracking: &mut RunTrackers, progress: &Progress) {
    tracking.warnings().iter().for_each(|text| progress.line(&format!("warning: {text}")));
}

/// Ends with the command: waits for what is still to be written and sent.
pub(crate) fn end(tracking: RunTrackers, finished: &Result<bool>) {
    let warnings = tracking.end(match finished {
        Ok(true) => End::Done,
        Ok(false) => End::Stopped,
        Err(_) => End::Failed,
    });
    warnings.iter().for_each(|text| note(format_args!("warning: {text}")));
}
