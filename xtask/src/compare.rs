//! `cargo xtask compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::run::{RecipeArguments, Result};
use crate::text;
use crate::train::{ClassArguments, Destination, StartFrom, train};

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
    #[command(flatten)]
    classes: ClassArguments,
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
        for (flag, key, value) in
            [("--steps", "post_training.steps", self.steps), ("--seeds", "post_training.seeds", self.seeds)]
        {
            self.recipe.flags.extend(value.map(|value| (format!("{flag} {value}"), format!("{key}={value}"))));
        }
        if let Some(recipe) = text::Recipe::read(&self.recipe)? {
            self.classes.refuse("a network for text")?;
            return recipe.compare(&self.from, &self.to);
        }
        let recipe = self.recipe.read()?;
        if recipe.post_training.is_none() {
            return Err(nothing_to_compare(&recipe.name).into());
        }
        let folder = PathBuf::from("runs").join(format!("{}-compare", recipe.name));
        let from = StartFrom { weights: Some(&self.from), classes: &self.classes };
        train(&recipe, from, &self.to, folder)
    }
}

/// What to say of a recipe without post-training.
pub(crate) fn nothing_to_compare(name: &str) -> String {
    let advice = "add one, such as --set 'post_training={\"steps\":300,\"gamma\":0.8}'";
    format!("the recipe {name} has no post_training to compare: {advice}")
}
