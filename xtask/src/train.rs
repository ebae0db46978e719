//! `cargo xtask train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mixflow::backbones::Network;
use mixflow::compare::{self, Study, StudyOutcome};
use mixflow::recipe::{ObjectiveConfig, Recipe};
use mixflow::report::write_atomic;
use mixflow::train::{Outcome, Run, check_same_run};

use crate::progress::Progress;
use crate::run::{RecipeArguments, Result, STOP, load, network, note, save, say, stop_on_signals};

#[derive(Args)]
pub(crate) struct Train {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// Start from these weights: .safetensors, .pt, or a run's folder
    #[arg(long, value_name = "WEIGHTS")]
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
}

impl Train {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let recipe = self.recipe.read()?;
        let folder = PathBuf::from("runs").join(&recipe.name);
        train(&recipe, self.from.as_deref(), &self.to, folder)
    }
}

/// Runs a recipe, in `folder` unless another was asked for.
pub(crate) fn train(recipe: &Recipe, from: Option<&Path>, to: &Destination, folder: PathBuf) -> Result<ExitCode> {
    let folder = to.out.clone().unwrap_or(folder);
    let file = folder.join("recipe.json");
    if file.exists() && !to.resume {
        let folder = folder.display();
        return Err(
            format!("{folder} holds a run already: add --resume to continue it, or choose another --out").into()
        );
    }
    if file.exists() {
        check_same_run(&file, &recipe.to_value())?;
    }
    // What is wrong with data or weights is said before anything is written.
    match &recipe.post_training {
        Some(post) => drop(compare::parts(recipe, post)?),
        None => drop(recipe.open()?),
    }
    let start = from.map(|from| load(recipe, from)).transpose()?;
    stop_on_signals()?;
    std::fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let text = serde_json::to_string_pretty(&recipe.to_value())?;
    if !file.exists() {
        write_atomic(&file, text.as_bytes())?;
    }

    let finished = if recipe.post_training.is_some() {
        study(recipe, folder.clone(), start)?
    } else {
        single(recipe, folder.clone(), start)?
    };
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

/// Pre-training, both post-trainings, their comparison. False if interrupted.
fn study(recipe: &Recipe, folder: PathBuf, start: Option<Network>) -> Result<bool> {
    let mut progress = Progress::new();
    let network = network(recipe);
    let study = Study { recipe, folder, key: network.official_key(), encoder: None, stop: &STOP };
    let outcome = study.run(network, start, ObjectiveConfig::objective, |event| match event {
        compare::Progress::Begin(name, steps) => progress.begin(name, steps),
        compare::Progress::Training(event) => progress.training(&event),
    })?;
    progress.end();
    match outcome {
        StudyOutcome::Finished(report, page) => {
            say(format_args!("\n{}\n\n{}\n", report.table, report.summary_text()))?;
            say(format_args!("report: {}", page.display()))?;
            Ok(true)
        }
        StudyOutcome::Interrupted => Ok(false),
    }
}

/// One training. False if interrupted.
fn single(recipe: &Recipe, folder: PathBuf, start: Option<Network>) -> Result<bool> {
    let mut progress = Progress::new();
    progress.begin(&recipe.name, Some(recipe.training.steps));
    let run = Run {
        folder: folder.clone(),
        recipe: recipe.to_value(),
        config: &recipe.training,
        seed: recipe.seed,
        data: recipe.open()?,
        flip: recipe.data.flip(),
        encoder: None,
        stop: &STOP,
    };
    let network = start.unwrap_or_else(|| network(recipe));
    let outcome = run.train(network, &recipe.objective.objective(), |event| progress.training(&event))?;
    progress.end();
    match outcome {
        Outcome::Finished(state) => {
            let file = folder.join("model.safetensors");
            save(&state.average(), &file)?;
            say(format_args!("weights (moving average): {}", file.display()))?;
            Ok(true)
        }
        Outcome::Interrupted { .. } => Ok(false),
    }
}
