//! `cargo xtask train`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use burn::tensor::Device;
use clap::Args;
use mixflow::FolderLock;
use mixflow::backbones;
use mixflow::compare::{self, seen_by_start};
use mixflow::data::{DataConfig, Dataset, Fingerprint, check_same_data};
use mixflow::files::write_atomic;
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::{Change, ClassRows, Start, StoredNetwork, change_optimizer, check_same_run, check_same_start};
use serde_json::Value;

use crate::decoder::train_decoder;
use crate::hub::{Weights, named_files};
use crate::kind::{Any, AnyRecipe};
use crate::latents::Stored;
use crate::learning::Prepared;
use crate::run::{RecipeArguments, Result, as_given, lock, note, note_choices, program, stop_on_signals};
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
        if let Some(recipe) = self.recipe.read_decoder()? {
            self.classes.refuse("a decoder")?;
            return train_decoder(&recipe, self.from.as_deref(), &self.to);
        }
        let from = StartFrom { weights: self.from.as_deref(), classes: &self.classes };
        let folder = |name: &str| PathBuf::from("runs").join(name);
        match AnyRecipe::read(&self.recipe)? {
            Any::Classes(recipe) => train(&recipe, from, &self.to, folder(&recipe.name)),
            Any::Text(recipe) => {
                self.classes.refuse("a network for text")?;
                train(&recipe, from, &self.to, folder(&recipe.name))
            }
        }
    }
}

impl Destination {
    /// The folder, `default` unless another was asked for, with its lock; a run that is in it and is not to be continued by
    /// this recipe is refused.
    pub(crate) fn folder(&self, default: PathBuf, recipe: &Value) -> Result<(PathBuf, FolderLock)> {
        let folder = self.out.clone().unwrap_or(default);
        let lock = lock(&folder)?;
        let file = folder.join("recipe.json");
        let shown = folder.display();
        match (file.exists(), self.resume) {
            (true, true) => check_same_run(&file, recipe, &self.changed_keys())?,
            (true, false) => {
                let advice = "add --resume to continue it, or choose another --out";
                return Err(format!("{shown} holds a run already: {advice}").into());
            }
            (false, _) if ["checkpoints", "metrics.jsonl"].iter().any(|name| folder.join(name).exists()) => {
                let reason = "a training, but not its recipe.json: put that back, or choose another --out";
                return Err(format!("{shown} holds {reason}").into());
            }
            (false, true) => {
                let advice = "leave out --resume to start one, or name its folder with --out";
                return Err(format!("{shown} holds no run to continue: {advice}").into());
            }
            (false, false) => {}
        }
        Ok((folder, lock))
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

    /// The keys that a run may be continued with other values of.
    fn changed_keys(&self) -> Vec<String> {
        self.changes.iter().map(|change| change.split('=').next().unwrap_or_default().to_string()).collect()
    }

    /// Allows the changes that were asked for, and tells what they are.
    fn allow(&self, run: &Path, recipe: &Value) -> Result<()> {
        for Change { step, key, from, to } in change_optimizer(run, recipe, &self.changed_keys())? {
            note(format_args!("from step {step} on, {key} is {to} instead of {from}"));
        }
        Ok(())
    }

    /// What the data hold, which must be those of the run in the folder, if there is one.
    pub(crate) fn data(&self, data: &dyn Dataset, folder: &Path) -> Result<Fingerprint> {
        let found = data.fingerprint()?;
        if folder.join("recipe.json").exists() {
            check_same_data(folder, &found)?;
        }
        Ok(found)
    }

    /// The weights to start from, if they were asked for, and the rows of their label table; they must be those of the run in
    /// the folder, if there is one.
    pub(crate) fn start(
        &self,
        from: Option<&Path>,
        class_rows: Option<ClassRows>,
        folder: &Path,
    ) -> Result<Option<Weights>> {
        let mut weights = from.map(Weights::find).transpose()?;
        if let Some(weights) = &mut weights {
            weights.start.class_rows = class_rows;
        }
        if folder.join("recipe.json").exists() {
            check_same_start(folder, weights.as_ref().map(|weights| &weights.start))?;
        }
        Ok(weights)
    }
}

/// Tells what was found of the data, and how.
pub(crate) fn tell(config: &DataConfig, data: &dyn Dataset, found: &Fingerprint) {
    note(format_args!("{}: {found}", config.describe()));
    data.notices().iter().for_each(note);
}

/// What a run writes down before its first step; that it is a run stands in the last.
const RECORDS: [&str; 6] = ["start.json", "data.json", "latents.json", "frozen.json", "phases.json", "recipe.json"];

/// Makes a run on these data of a folder, which may start from weights, and does what is to be done in it, which tells
/// whether it came to its end. A run that comes to nothing before its first step leaves the folder as it was.
pub(crate) fn in_folder(
    to: &Destination,
    folder: &Path,
    recipe: &Value,
    data: &Fingerprint,
    start: Option<&Start>,
    work: impl FnOnce() -> Result<bool>,
) -> Result<ExitCode> {
    stop_on_signals()?;
    let (file, text) = (folder.join("recipe.json"), serde_json::to_string_pretty(recipe)?);
    let new = !file.exists();
    if new {
        // Before the recipe, which makes it a run.
        Start::write(start, folder)?;
        data.write(folder)?;
        write_atomic(&file, text.as_bytes())?;
    }
    let finished = to.allow(folder, recipe).and_then(|()| work());
    if new && finished.is_err() && !has_begun(folder) {
        for record in RECORDS {
            // What cannot be removed is less than what the user is told of next.
            let _ = std::fs::remove_file(folder.join(record));
        }
    }
    let finished = finished.map_err(|error| with_command(error, folder, recipe))?;
    // A resumed run may have another number of steps; a recipe that does not fit its checkpoints was refused by now.
    write_atomic(&file, text.as_bytes())?;
    if finished {
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

/// Whether a step was taken in the folder of a run or in one of its parts, or prompts were read.
fn has_begun(folder: &Path) -> bool {
    let parts = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders = std::iter::once(folder.to_path_buf()).chain(parts);
    folders.any(|folder| folder.join("metrics.jsonl").exists() || folder.ends_with("prompts"))
}

/// The recipe's network with weights, whose label table gives its classes these rows.
fn load_start<N: NetworkSettings>(recipe: &Recipe<N>, from: &Path, rows: Option<&ClassRows>) -> Result<N::Network> {
    let stored = StoredNetwork::find(from)?;
    note_choices(from, &stored.chosen(|weights| recipe.network.own(weights))?);
    match rows {
        Some(rows) => Ok(recipe.network.load_for_classes(&stored, recipe.seed, rows)?),
        None => recipe.load(&stored, &Device::default()).map_err(|error| match other_classes(&error) {
            true => format!(
                "{error}: say with --class-rows which rows of their label table the classes of the data start from, such \
                 as first, null or CLASS=ROW,..."
            )
            .into(),
            false => error.into(),
        }),
    }
}

/// Whether weights do not fit because they are for other classes.
fn other_classes(error: &mixflow::Error) -> bool {
    match error {
        mixflow::Error::Weights(backbones::Error::Mismatch(mismatch)) => mismatch.labels().is_some(),
        error => error.to_string().contains(backbones::embed::LABEL_TABLE),
    }
}

/// Runs a recipe of any network, in `folder` unless another was asked for.
pub(crate) fn train<N: NetworkSettings>(
    recipe: &Recipe<N>,
    from: StartFrom<'_>,
    to: &Destination,
    folder: PathBuf,
) -> Result<ExitCode> {
    let [recipe, local] = &named_files(&to.changed(|changes| recipe.with(changes))?)?;
    let (folder, _lock) = to.folder(folder, &recipe.to_value())?;
    recipe.check_memory(mixflow::memory())?;
    // What is wrong with data or weights is said before anything is written.
    let data: Arc<dyn Dataset> = match &recipe.post_training {
        Some(post) => Arc::new(compare::parts(recipe, post)?.0),
        None => recipe.open()?,
    };
    let found = to.data(&*data, &folder)?;
    tell(&recipe.data, &*data, &found);
    let stored = Stored::check(local, &folder)?;
    let rows = from.classes.class_rows.as_deref().map(|text| ClassRows::parse(text, data.classes())).transpose();
    let rows = rows.map_err(|reason| format!("--class-rows: {reason}"))?;
    if let Some(rows) = &rows {
        note(format_args!("classes start from the weights' label table: {}", rows.describe(data.classes())));
    }
    let weights = to.start(from.weights, rows.clone(), &folder)?;
    let seen = match (&recipe.post_training, &weights) {
        (Some(post), Some(weights)) => Some(seen_by_start(recipe, post, &*data, &StoredNetwork::find(&weights.path)?)),
        _ => None,
    };
    if let Some(seen) = &seen {
        note(seen);
    }
    let start = weights.as_ref().map(|weights| load_start(local, &weights.path, rows.as_ref())).transpose()?;
    // A single training makes no images.
    let guide = if recipe.post_training.is_some() { local.guide(&folder)? } else { None };
    let mut tracking = to.watchers.tracking(&recipe.name, &folder, &recipe.to_value())?;
    let origin = weights.as_ref().map(|weights| &weights.start);
    in_folder(to, &folder, &recipe.to_value(), &found, origin, || {
        if let Some(stored) = &stored {
            stored.note(&folder)?;
        }
        let Some(run) = Prepared::new([recipe, local], folder.clone(), data, guide)? else { return Ok(false) };
        let (network, tell) = (recipe.network.init(recipe.seed, &Device::default()), &mut tracking);
        let finished = match recipe.post_training {
            Some(_) => run.study(network, start, seen, tell),
            None => run.single(start.unwrap_or(network), tell),
        };
        tracking.end(&finished);
        finished
    })
}
