//! `cargo xtask compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::run::{RecipeArguments, Result};
use crate::train::{Destination, train};

#[derive(Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    recipe: RecipeArguments,
    #[arg(
        long,
        value_name = "WEIGHTS",
        help = "The network to post-train: .safetensors, .pt, a run's folder, a checkpoint, or hf://org/name[@revision][/file]"
    )]
    from: PathBuf,
    /// Post-trainings of each kind [default: the recipe's]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Steps of each post-training [default: the recipe's]
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    #[command(flatten)]
    to: Destination,
}

impl Compare {
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        let steps = self.steps.map(|steps| format!("post_training.steps={steps}"));
        let seeds = self.seeds.map(|seeds| format!("post_training.seeds={seeds}"));
        self.recipe.set.extend(steps.into_iter().chain(seeds));
        let recipe = self.recipe.read()?;
        if recipe.post_training.is_none() {
            let advice = "add one, such as --set 'post_training={\"steps\":300,\"gamma\":0.8}'";
            return Err(format!("the recipe {} has no post_training to compare: {advice}", recipe.name).into());
        }
        let folder = PathBuf::from("runs").join(format!("{}-compare", recipe.name));
        train(&recipe, Some(&self.from), &self.to, folder)
    }
}
