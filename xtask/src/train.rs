//! `cargo xtask train`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mixflow::Device;
use mixflow::launch::Launch;
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::RunFolder;
use serde_json::Value;

use crate::decoder::train_decoder;
use crate::hub::{given, named_files};
use crate::kind::{Any, AnyRecipe};
use crate::launch::{check, run};
use crate::run::{DevicesArgument, RecipeArguments, Result, STOP, as_given, note, program, stop_on_signals};
use crate::selftest;
use crate::tracking::Watchers;

#[derive(Args)]
pub(crate) struct Train {
    #[command(flatten)]
    recipe: RecipeArguments,
    #[arg(
        long,
        value_name = "WEIGHTS",
        help = "Start from these weights: .safetensors, .pt, a run's folder, a checkpoint, or hf://org/name[@revision][/file]"
    )]
    from: Option<PathBuf>,
    #[command(flatten)]
    classes: ClassArguments,
    #[command(flatten)]
    to: Destination,
    #[command(flatten)]
    device: DevicesArgument,
}

/// What the classes of the data start from, where those of the weights are others.
#[derive(Args, Default)]
pub(crate) struct ClassArguments {
    #[arg(
        long,
        value_name = "CLASS=ROW,...",
        requires = "from",
        help = "Start classes of the data from rows of the weights' label table: cat=281,dog=207; or first, null or mean for \
                all [default: the weights are for the same classes]"
    )]
    class_rows: Option<String>,
}

impl ClassArguments {
    /// Refuses what only networks for classes have.
    pub(crate) fn refuse(&self, what: &str) -> Result<()> {
        match self.class_rows {
            Some(_) => Err(format!("--class-rows is for networks that know classes; {what} knows none").into()),
            None => Ok(()),
        }
    }
}

/// What a training starts from.
#[derive(Clone, Copy)]
pub(crate) struct StartFrom<'a> {
    pub(crate) weights: Option<&'a Path>,
    pub(crate) classes: &'a ClassArguments,
}

/// Where a run goes.
#[derive(Args)]
pub(crate) struct Destination {
    /// Continue the run in the folder; without it, a folder with a run in it is refused
    #[arg(long)]
    resume: bool,
    /// Change the optimiser of the run that is continued, such as training.optimizer.clip=1; may be given more than once
    #[arg(long = "change", value_name = "KEY=VALUE", requires = "resume")]
    changes: Vec<String>,
    /// Folder of the run [default: runs/NAME of the recipe]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) watchers: Watchers,
}

impl Train {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let devices = &self.device.find()?[..];
        if let Some(recipe) = self.recipe.read_decoder()? {
            self.classes.refuse("a decoder")?;
            return train_decoder(&recipe, self.from.as_deref(), &self.to, devices);
        }
        let from = StartFrom { weights: self.from.as_deref(), classes: &self.classes };
        let folder = |name: &str| PathBuf::from("runs").join(name);
        match AnyRecipe::read(&self.recipe)? {
            Any::Classes(recipe) => train(&recipe, from, &self.to, folder(&recipe.name), devices),
            Any::Text(recipe) => {
                self.classes.refuse("a network for text")?;
                train(&recipe, from, &self.to, folder(&recipe.name), devices)
            }
        }
    }
}

impl Destination {
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
    stop_on_signals()?;
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
    let at_once = *step == back + u64::from(*count);
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

/// Runs a recipe of any network, in `folder` unless another was asked for.
pub(crate) fn train<N: NetworkSettings>(
    recipe: &Recipe<N>,
    from: StartFrom<'_>,
    to: &Destination,
    folder: PathBuf,
    devices: &[Device],
) -> Result<ExitCode> {
    let [device, beside @ ..] = devices else { return Err("expected a device".into()) };
    let [recipe, local] = &named_files(&to.changed(|changes| recipe.with(changes))?)?;
    let folder = to.folder(folder, recipe.to_value())?;
    let start = from.weights.map(given).transpose()?;
    let class_rows = from.classes.class_rows.as_deref();
    let (path, value) = (folder.path().to_path_buf(), recipe.to_value());
    let ready = check(Launch { local, start, class_rows, beside, ..Launch::new(recipe, device, &STOP) }, folder)?;
    if !to.resume {
        selftest::warn(devices);
    }
    let tracking = to.watchers.tracking(&path, &value)?;
    in_folder(&path, &value, || run(ready, tracking))
}
