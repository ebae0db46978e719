//! A training that `TensorBoard` and Weights & Biases are told, losses and images: `tensorboard --logdir` and `wandb sync` read
//! what it leaves.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use std::path::Path;

use mixflow::launch::train;
use mixflow::recipe::Recipe;
use mixflow_hub::tracker::{End, RunTrackers};

/// The recipe `digits`, smaller and much shorter, with two images of each class after every ten steps.
const SMALLER: [&str; 7] = [
    "network.width=48",
    "network.depth=1",
    "network.hidden=96",
    "training.steps=20",
    "training.batch=16",
    "post_training=null",
    r#"validation={"every":10,"images":20,"solver_steps":4}"#,
];

/// Trains in a folder, and tells whoever listens.
fn tracked(recipe: &Recipe, run: &Path, mut trackers: RunTrackers) -> Result<(), mixflow::Error> {
    train(recipe, run, &Default::default(), &mut |progress| trackers.progress(&progress))?;
    trackers.end(End::Done).iter().for_each(|warning| println!("warning: {warning}"));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (run, recipe) = (Path::new("runs/tracked"), Recipe::read("digits", &SMALLER.map(String::from))?);
    // Streamed where there is a key of Weights & Biases, see `WandbMode::from_env`.
    tracked(&recipe, run, RunTrackers::of(run, &recipe.to_value())?)?;
    println!("tensorboard --logdir {0}/tensorboard, wandb sync {0}/wandb/*", run.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use mixflow_hub::tracker::WandbMode;

    use super::*;

    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        let (folder, recipe) = (tempfile::tempdir()?, Recipe::read("digits", &SMALLER.map(String::from))?);
        let run = folder.path();
        // Whoever runs the tests may have a key.
        tracked(&recipe, run, RunTrackers::some(run, &recipe.to_value(), true, WandbMode::Offline))?;
        let drawn = std::fs::read(run.join("validation/step-00000020.png"))?;
        let events = std::fs::read_dir(run.join("tensorboard"))?.next().ok_or("no events")??;
        assert!(std::fs::read(events.path())?.windows(drawn.len()).any(|part| part == drawn));
        assert!(run.join("wandb").is_dir());
        Ok(())
    }
}
