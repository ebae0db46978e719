//! `cargo xtask runs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mixflow::numbers::{plus_minus, thousands};
use mixflow::train::{RunOverview, RunState};

use crate::arguments::{JsonArgument, RecipeArguments};
use crate::terminal::{Result, print, print_json};

/// Where trainings put them.
const RUNS: &str = "runs";

#[derive(Args)]
pub(crate) struct Runs {
    /// The folder that they are in; links to folders in it are left out
    #[arg(value_name = "FOLDER", default_value = RUNS)]
    folder: PathBuf,
    #[command(flatten)]
    json: JsonArgument,
}

/// Reads a recipe of any kind.
fn read(file: &Path) -> Result<()> {
    let recipe = RecipeArguments::named(file.to_str().ok_or("expected a path in UTF-8")?);
    if recipe.read_decoder()?.is_none() {
        recipe.read()?;
    }
    Ok(())
}

impl Runs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        // Who has trained nothing yet has no folder of runs.
        let none = self.folder == Path::new(RUNS) && !self.folder.exists();
        let mut runs = if none { vec![] } else { RunOverview::below(&self.folder)? };
        for run in runs.iter_mut().filter(|run| run.state == RunState::Stopped) {
            if let Err(error) = read(&run.folder.join("recipe.json")) {
                run.state = RunState::Damaged(error.to_string());
            }
        }
        if self.json.json {
            print_json(&runs)?;
            return Ok(ExitCode::SUCCESS);
        }
        if runs.is_empty() {
            print(format_args!("no runs in {}", self.folder.display()))?;
        }
        let width = runs.iter().map(|run| run.folder.display().to_string().len()).max().unwrap_or(0);
        for run in &runs {
            let (state, because) = match &run.state {
                RunState::Training(holder) => ("training", Some(holder)),
                RunState::Finished => ("finished", None),
                RunState::Stopped => ("stopped", None),
                RunState::Damaged(reason) => ("damaged", Some(reason)),
            };
            let steps = format!("{} of {} steps", thousands(run.taken), thousands(run.asked));
            let mut numbers: Vec<String> = run.loss.map(|loss| format!("loss {loss:.4}")).into_iter().collect();
            // The best of each measure.
            for (place, (of, by, number)) in run.measured.iter().enumerate() {
                if place == 0 || run.measured[place - 1].1 != *by {
                    let of = if of.is_empty() { String::new() } else { format!(" ({of})") };
                    numbers.push(format!("{by} {}{of}", plus_minus(*number, None)));
                }
            }
            numbers.extend(because.cloned());
            print(format_args!("{:<width$}  {state:<8}  {steps}  {}", run.folder.display(), numbers.join(", ")))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
