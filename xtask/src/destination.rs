//! The folder of a run, and what is said of it when the run ends.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mixflow::train::RunFolder;
use serde_json::Value;

use crate::arguments::as_given;
use crate::signals::stop_on_signals;
use crate::terminal::{Result, note, program};
use crate::tracking::Watchers;

/// Where a run goes.
#[derive(Args)]
pub(crate) struct Destination {
    /// Continue the run in the folder; without it, a folder with a run in it is refused
    #[arg(long)]
    pub(crate) resume: bool,
    /// Change the optimiser of the run that is continued, such as training.optimizer.clip=1; may be given more than once
    #[arg(long = "change", value_name = "KEY=VALUE", requires = "resume")]
    changes: Vec<String>,
    /// Folder of the run [default: runs/NAME of the recipe]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) watchers: Watchers,
}

impl Destination {
    /// Refuses a folder with a run that is not to be continued, before anything is fetched for another.
    pub(crate) fn check(&self, default: &Path) -> Result<()> {
        if !self.resume {
            RunFolder::begin(self.out.as_deref().unwrap_or(default), Value::Null)?;
        }
        Ok(())
    }

    /// The recipe of the run that is to be continued, in `default` unless another folder was asked for.
    pub(crate) fn noted(&self, default: &Path) -> Option<Value> {
        let recipe = self.out.as_deref().unwrap_or(default).join("recipe.json");
        // What is wrong with it is said when the folder is taken.
        if self.resume { serde_json::from_slice(&fs::read(recipe).ok()?).ok() } else { None }
    }

    /// The folder, `default` unless another was asked for; a run that is in it and is not to be continued by this recipe is
    /// refused.
    pub(crate) fn folder(&self, default: PathBuf, recipe: Value) -> Result<RunFolder> {
        let path = self.out.clone().unwrap_or(default);
        let changed: Vec<String> =
            self.changes.iter().map(|change| change.split('=').next().unwrap_or_default().into()).collect();
        let folder = match self.resume {
            true => RunFolder::resume(&path, recipe, &changed)?,
            false => RunFolder::begin(&path, recipe)?,
        };
        if let Some(warning) = folder.warning() {
            note(format_args!("warning: {warning}"));
        }
        Ok(folder)
    }

    /// The recipe with the changes that were asked for by name; `with` makes them.
    pub(crate) fn changed<T>(
        &self,
        with: impl FnOnce(&[String]) -> std::result::Result<T, mixflow::Error>,
    ) -> Result<T> {
        let changes: Vec<_> =
            self.changes.iter().map(|change| (format!("--change {change}"), change.clone())).collect();
        with(&self.changes).map_err(|error| as_given(error.into(), &changes))
    }
}

/// Does what is to be done in a run's folder, which tells whether it came to its end; if not, says how to go on.
pub(crate) fn in_folder(folder: &Path, recipe: &Value, work: impl FnOnce() -> Result<bool>) -> Result<ExitCode> {
    stop_on_signals();
    if work().map_err(|error| with_command(error, folder, recipe))? {
        return Ok(ExitCode::SUCCESS);
    }
    note(format_args!(
        "stopped; the state is saved in {}: continue with the same command and --resume",
        folder.display()
    ));
    Ok(ExitCode::from(130))
}

/// An error after which there is something to do, with the command that does it.
fn with_command(error: Box<dyn Error>, run: &Path, recipe: &Value) -> Box<dyn Error> {
    let Some(mixflow::Error::Diverged { folder, step, count, back, .. }) = error.downcast_ref() else { return error };
    let at_once = *step + 1 == back + u64::from(*count);
    let key = match folder.strip_prefix(run).ok().and_then(Path::to_str) {
        Some("" | "pretraining") => "training.optimizer",
        Some("autoencoder") if recipe["autoencoder"]["training"].is_null() => "target_encoder.training.optimizer",
        Some("autoencoder") => "autoencoder.training.optimizer",
        _ => {
            let advice = "the arms of a comparison are trained alike: compare anew with another --out and";
            return format!("{error}; {advice} --set post_training.optimizer={{...}}").into();
        }
    };
    let pointer = format!("/{}/learning_rate/rate", key.replace('.', "/"));
    let rate = recipe.pointer(&pointer).and_then(Value::as_f64).unwrap_or(1e-3) / 10.0;
    // As a decimal number would be divided.
    let rate: f64 = format!("{rate:.9e}").parse().unwrap_or(rate);
    let mut words: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
    // One that was tried already is replaced.
    let change = format!("{key}.learning_rate.rate=");
    while let Some(tried) = words.windows(2).position(|pair| pair[0] == "--change" && pair[1].starts_with(&change)) {
        words.drain(tried..tried + 2);
    }
    if !words.iter().any(|word| word == "--resume") {
        words.push("--resume".into());
    }
    let command = format!("{} {} --change {change}{rate:e}", program(), words.join(" "));
    let spoilt = match at_once {
        true if *back == 0 => {
            " (not one step was finite: if a lower rate does not help, the weights that it begins with or the data are not)".into()
        }
        true => format!(
            " (not one step from step {back} on was finite: if a lower rate does not help, that checkpoint is spoilt as well; \
             remove its folder to go on from the one before, or begin anew)"
        ),
        false => String::new(),
    };
    format!("{error}{spoilt}: {command}").into()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
