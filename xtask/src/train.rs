//! `cargo xtask train`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mixflow::backbones::sit::{Sit, official_key};
use mixflow::compare::{self, Study, StudyOutcome};
use mixflow::recipe::Recipe;
use mixflow::train::{Outcome, Run};

use crate::progress::Progress;
use crate::run::{RecipeArguments, Result, STOP, load, network, save, stop_on_signals};

#[derive(Args)]
pub(crate) struct Train {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// Start from these weights: .safetensors, .pt, or a run's folder
    #[arg(long, value_name = "WEIGHTS")]
    from: Option<PathBuf>,
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
        let folder = self.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
        if folder.join("recipe.json").exists() && !self.resume {
            let folder = folder.display();
            return Err(
                format!("{folder} holds a run already: add --resume to continue it, or choose another --out").into()
            );
        }
        stop_on_signals()?;
        let start = self.from.as_deref().map(|from| load(&recipe, from)).transpose()?;
        std::fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let text = serde_json::to_string_pretty(&recipe.to_value())?;
        let file = folder.join("recipe.json");
        mixflow::report::write_atomic(&file, text.as_bytes())
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;

        let finished = if recipe.post_training.is_some() {
            study(&recipe, folder.clone(), start)?
        } else {
            single(&recipe, folder.clone(), start)?
        };
        if finished {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("stopped; the state is saved in {}: continue with the same command and --resume", folder.display());
        Ok(ExitCode::from(130))
    }
}

/// Pre-training, both post-trainings, their comparison. False if interrupted.
fn study(recipe: &Recipe, folder: PathBuf, start: Option<Sit>) -> Result<bool> {
    let mut progress = Progress::new();
    let study = Study { recipe, folder, key: official_key, stop: &STOP };
    let outcome = study.run(network(recipe), start, |event| match event {
        compare::Progress::Begin(name, steps) => progress.begin(name, steps),
        compare::Progress::Training(event) => progress.training(&event),
    })?;
    progress.end();
    match outcome {
        StudyOutcome::Finished(report, page) => {
            println!("\n{}\n\n{}\n", report.table, report.summary_text());
            println!("report: {}", page.display());
            Ok(true)
        }
        StudyOutcome::Interrupted => Ok(false),
    }
}

/// One training. False if interrupted.
fn single(recipe: &Recipe, folder: PathBuf, start: Option<Sit>) -> Result<bool> {
    let mut progress = Progress::new();
    progress.begin(&recipe.name, Some(recipe.training.steps));
    let run = Run {
        folder: folder.clone(),
        recipe: recipe.to_value(),
        config: &recipe.training,
        seed: recipe.seed,
        data: recipe.data.open()?,
        flip: recipe.data.flip(),
        stop: &STOP,
    };
    let network = start.unwrap_or_else(|| network(recipe));
    let outcome = run.train(network, &recipe.objective.flow_matching(), |event| progress.training(&event))?;
    progress.end();
    match outcome {
        Outcome::Finished(state) => {
            let file = folder.join("model.safetensors");
            save(&state.average(), &file)?;
            println!("weights (moving average): {}", file.display());
            Ok(true)
        }
        Outcome::Interrupted { .. } => Ok(false),
    }
}
