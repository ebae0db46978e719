//! A training that TensorBoard and Weights & Biases are told, losses and images: `tensorboard --logdir` and `wandb sync` read
//! what it leaves.

#![allow(clippy::print_stdout, reason = "an example says what comes out")]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use mixflow::compare::Progress;
use mixflow::launch::Launch;
use mixflow::recipe::Recipe;
use mixflow::train::RunFolder;
use mixflow_hub::tracker::{End, Entry, Trackers};

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
fn train(run: &Path, mut trackers: Trackers) -> Result<(), Box<dyn std::error::Error>> {
    let (recipe, stop) = (Recipe::read("digits", &SMALLER.map(String::from))?, AtomicBool::new(false));
    let device = Default::default();
    let ready = Launch::new(&recipe, &device, &stop).check(RunFolder::begin(run, recipe.to_value())?, &mut |_| {})?;
    trackers.track(Entry::Config(&recipe.to_value()));
    ready.run(&mut |progress| {
        if let Progress::Training { event, .. } = progress {
            trackers.event(&event);
        }
    })?;
    trackers.track(Entry::Finished(End::Done));
    trackers.finish().iter().for_each(|warning| println!("warning: {warning}"));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let run = Path::new("runs/tracked");
    // Streamed where there is a key of Weights & Biases, see `WandbMode::from_env`.
    train(run, Trackers::of_run(run, "digits")?)?;
    println!("tensorboard --logdir {0}/tensorboard, wandb sync {0}/wandb/*", run.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use mixflow_hub::tracker::{TensorBoard, WandbMode, WandbRun};

    use super::*;

    #[test]
    fn it_runs() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let run = folder.path();
        // Whoever runs the tests may have a key.
        let mut trackers = Trackers::default();
        trackers.add(TensorBoard::open(&run.join("tensorboard")));
        trackers.add_wandb(run, &WandbRun::new("digits"), &WandbMode::Offline);
        trackers.log(&run.join("metrics.jsonl"));
        train(run, trackers)?;
        let drawn = std::fs::read(run.join("validation/step-00000020.png"))?;
        let events = std::fs::read_dir(run.join("tensorboard"))?.next().ok_or("no events")??;
        assert!(std::fs::read(events.path())?.windows(drawn.len()).any(|part| part == drawn));
        Ok(())
    }
}
