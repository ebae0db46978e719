//! `cargo xtask eval`.

use std::process::ExitCode;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use mixflow::evaluate::{evaluate, sha256};
use mixflow::report::write_atomic;
use serde_json::json;

use crate::progress::Progress;
use crate::run::{Result, say};
use crate::sample::Sampling;
use crate::trained::TrainedArguments;

#[derive(Args)]
pub(crate) struct Eval {
    #[command(flatten)]
    trained: TrainedArguments,
    #[command(flatten)]
    sampling: Sampling,
    /// Images to generate and measure, at least 8 [default: as many as the recipe's comparison, or 500]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(8..))]
    images: Option<usize>,
}

impl Eval {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let trained = self.trained.read(&self.sampling.set())?;
        let recipe = &trained.recipe;
        let count = self.images.unwrap_or(recipe.post_training.as_ref().map_or(500, |post| post.images));

        let mut progress = Progress::new();
        progress.begin("sampling and measuring", Some(count as u64));
        let evaluation = evaluate(recipe, &trained.network, count, &mut |t, first, x| {
            progress.sampling(t, first, x.dims()[0]);
        })?;
        progress.end();

        let file = trained.folder().join("eval.json");
        let text = serde_json::to_vec_pretty(&json!({
            "evaluation": evaluation,
            "weights": { "file": trained.weights, "sha256": sha256(&trained.weights)? },
            "version": env!("CARGO_PKG_VERSION"),
        }))?;
        write_atomic(&file, &text)?;
        say(format_args!(
            "{} ({} network evaluations for each image, seed {}; pixel Fréchet distance)\n{}",
            trained.weights.display(),
            evaluation.evaluations,
            evaluation.seed,
            evaluation.measurement,
        ))?;
        if recipe.post_training.is_none() {
            say("the network was trained on the images of the floor too: it had no held-out data")?;
        }
        say(format_args!("written: {}", file.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
