//! `cargo xtask train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use mixflow::backbones::encoder::Encoder;
use mixflow::backbones::{Autoencoder, Network};
use mixflow::compare::{self, Study, StudyOutcome};
use mixflow::data::Dataset;
use mixflow::recipe::{Guide, GuideConfig, ObjectiveConfig, Preparation, Recipe};
use mixflow::report::write_atomic;
use mixflow::train::{Outcome, Run, Start, check_same_run, check_same_start};
use mixflow::{TargetEncoder, learned};
use serde_json::Value;

use crate::decoder::train_decoder;
use crate::hub::{Weights, named_files};
use crate::progress::Progress;
use crate::run::{RecipeArguments, Result, STOP, load, network, note, save, say, stop_on_signals};
use crate::tracking::{Tracking, Watchers};

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
    to: Destination,
}

/// Where a run goes.
#[derive(Args)]
pub(crate) struct Destination {
    /// Continue the run in the folder; without it, a folder with a run in it is refused
    #[arg(long)]
    resume: bool,
    /// Folder of the run [default: runs/NAME of the recipe]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) watchers: Watchers,
}

impl Train {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if let Some(recipe) = self.recipe.read_decoder()? {
            return train_decoder(&recipe, self.from.as_deref(), &self.to);
        }
        let recipe = self.recipe.read()?;
        let folder = PathBuf::from("runs").join(&recipe.name);
        train(&recipe, self.from.as_deref(), &self.to, folder)
    }
}

impl Destination {
    /// The folder, `default` unless another was asked for; a run that is in it and is not to be continued by this recipe is
    /// refused.
    pub(crate) fn folder(&self, default: PathBuf, recipe: &Value) -> Result<PathBuf> {
        let folder = self.out.clone().unwrap_or(default);
        let file = folder.join("recipe.json");
        if file.exists() && !self.resume {
            let folder = folder.display();
            return Err(
                format!("{folder} holds a run already: add --resume to continue it, or choose another --out").into()
            );
        }
        if file.exists() {
            check_same_run(&file, recipe)?;
        }
        Ok(folder)
    }

    /// The weights to start from, if they were asked for; they must be those of the run in the folder, if there is one.
    pub(crate) fn start(&self, from: Option<&Path>, folder: &Path) -> Result<Option<Weights>> {
        let weights = from.map(Weights::find).transpose()?;
        if folder.join("recipe.json").exists() {
            check_same_start(folder, weights.as_ref().map(|weights| &weights.start))?;
        }
        Ok(weights)
    }
}

/// Makes the folder of a run, which may start from weights, and does what is to be done in it, which tells whether it came
/// to its end.
pub(crate) fn in_folder(
    folder: &Path,
    recipe: &Value,
    start: Option<&Start>,
    work: impl FnOnce() -> Result<bool>,
) -> Result<ExitCode> {
    stop_on_signals()?;
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let (file, text) = (folder.join("recipe.json"), serde_json::to_string_pretty(recipe)?);
    if !file.exists() {
        // Before the recipe, which makes it a run.
        Start::write(start, folder)?;
        write_atomic(&file, text.as_bytes())?;
    }
    let finished = work()?;
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

/// Runs a recipe, in `folder` unless another was asked for.
pub(crate) fn train(recipe: &Recipe, from: Option<&Path>, to: &Destination, folder: PathBuf) -> Result<ExitCode> {
    let [recipe, local] = &named_files(recipe)?;
    let folder = to.folder(folder, &recipe.to_value())?;
    // What is wrong with data or weights is said before anything is written.
    let data: Arc<dyn Dataset> = match &recipe.post_training {
        Some(post) => Arc::new(compare::parts(recipe, post)?.0),
        None => recipe.open()?,
    };
    let weights = to.start(from, &folder)?;
    let start = weights.as_ref().map(|weights| load(recipe, &weights.path)).transpose()?;
    // A single training makes no images.
    let guide = local.sampling.active_guide().filter(|_| recipe.post_training.is_some());
    let guide = guide.map(GuideConfig::load).transpose()?;
    let mut tracking = to.watchers.tracking(&recipe.name, &folder, &recipe.to_value())?;
    let origin = weights.as_ref().map(|weights| &weights.start);
    in_folder(&folder, &recipe.to_value(), origin, || {
        let Some(run) = Prepared::new([recipe, local], folder.clone(), data, guide)? else { return Ok(false) };
        let tell = &mut tracking;
        let finished = if recipe.post_training.is_some() { run.study(start, tell) } else { run.single(start, tell) };
        tracking.end(&finished);
        finished
    })
}

/// A recipe with the frozen networks that its training needs.
struct Prepared<'a> {
    recipe: &'a Recipe,
    folder: PathBuf,
    data: Arc<dyn Dataset>,
    autoencoder: Option<Box<dyn Autoencoder>>,
    encoder: Option<Encoder>,
    guide: Option<Guide>,
}

impl<'a> Prepared<'a> {
    /// Reads or trains the frozen networks; `local` is the recipe with files of this machine. None if stopped in between.
    fn new(
        [recipe, local]: [&'a Recipe; 2],
        folder: PathBuf,
        data: Arc<dyn Dataset>,
        guide: Option<Guide>,
    ) -> Result<Option<Self>> {
        let (mut progress, mut autoencoder, mut encoder) = (Progress::new(), None, None);
        let value = recipe.to_value();
        let preparation = Preparation { folder: &folder, recipe: &value, data: &data, stop: &STOP };
        if let Some(config) = local.encoding() {
            progress.begin("autoencoder", config.training_steps());
            autoencoder = config.prepare(&preparation, |event| progress.training(&event))?;
            if autoencoder.is_none() {
                return Ok(None);
            }
        }
        if let Some(config) = &local.target_encoder {
            progress.begin("target encoder", config.training_steps());
            encoder = config.prepare(&preparation, |event| progress.training(&event))?;
            if encoder.is_none() {
                return Ok(None);
            }
        }
        progress.end();
        Ok(Some(Self { recipe, folder, data, autoencoder, encoder, guide }))
    }

    fn encoder(&self) -> Option<&dyn TargetEncoder> {
        self.encoder.as_ref().map(|encoder| encoder as _)
    }

    /// Pre-training, both post-trainings, their comparison. False if interrupted.
    fn study(&self, start: Option<Network>, tracking: &mut Tracking) -> Result<bool> {
        let mut progress = Progress::new();
        let network = network(self.recipe);
        let study = Study {
            recipe: self.recipe,
            folder: self.folder.clone(),
            key: network.official_key(),
            autoencoder: self.autoencoder.as_deref(),
            guide: self.guide.as_ref(),
            encoder: self.encoder(),
            stop: &STOP,
        };
        let outcome = study.run(network, start, ObjectiveConfig::objective, |event| match event {
            compare::Progress::Begin(name, steps) => {
                tracking.trained();
                progress.begin(name, steps);
            }
            compare::Progress::Training { folder, event } => {
                progress.training(&event);
                tracking.training(folder, &event, &progress);
            }
        })?;
        progress.end();
        match outcome {
            StudyOutcome::Finished(report, page) => {
                tracking.report(&report);
                say(format_args!("\n{}\n\n{}\n", report.table, report.summary_text()))?;
                say(format_args!("report: {}", page.display()))?;
                Ok(true)
            }
            StudyOutcome::Interrupted => Ok(false),
        }
    }

    /// One training. False if interrupted.
    fn single(&self, start: Option<Network>, tracking: &mut Tracking) -> Result<bool> {
        let recipe = self.recipe;
        let mut progress = Progress::new();
        progress.begin(&recipe.name, Some(recipe.training.steps));
        let run = Run {
            folder: self.folder.clone(),
            recipe: recipe.to_value(),
            config: &recipe.training,
            seed: recipe.seed,
            data: learned(self.data.clone(), self.autoencoder.as_deref())?,
            flip: recipe.data.flip(),
            encoder: self.encoder(),
            stop: &STOP,
        };
        let network = start.unwrap_or_else(|| network(recipe));
        let outcome = run.train(network, &recipe.objective.objective(), |event| {
            progress.training(&event);
            tracking.training(&self.folder, &event, &progress);
        })?;
        progress.end();
        match outcome {
            Outcome::Finished(state) => {
                let file = self.folder.join("model.safetensors");
                save(&state.average(), &file)?;
                say(format_args!("weights (moving average): {}", file.display()))?;
                Ok(true)
            }
            Outcome::Interrupted { .. } => Ok(false),
        }
    }
}
