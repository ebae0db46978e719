//! `cargo xtask compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mixflow::Device;
use mixflow::data::DataConfig;
use mixflow::recipe::{NetworkSettings, Recipe};

use crate::arguments::{DevicesArgument, RecipeArguments};
use crate::destination::Destination;
use crate::kind::Any;
use crate::terminal::Result;
use crate::train::{ClassArguments, StartFrom, train};

#[derive(Args)]
#[command(mut_arg("out", |out| out.help("Folder of the run [default: runs/NAME-compare, by the recipe's NAME]")))]
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
    #[command(flatten)]
    device: DevicesArgument,
}

impl Compare {
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        let devices = &self.device.find()?[..];
        for (flag, key, value) in
            [("--steps", "post_training.steps", self.steps), ("--seeds", "post_training.seeds", self.seeds)]
        {
            self.recipe.flags.extend(value.map(|value| (format!("{flag} {value}"), format!("{key}={value}"))));
        }
        match self.recipe.read()? {
            Any::Classes(recipe) => self.compare(&recipe, devices),
            Any::Text(recipe) => {
                self.classes.refuse("a network for text")?;
                self.compare(&recipe, devices)
            }
        }
    }

    fn compare<N: NetworkSettings>(&self, recipe: &Recipe<N>, devices: &[Device]) -> Result<ExitCode> {
        let name = &recipe.name;
        if recipe.post_training.is_none() {
            let advice = match recipe.data {
                DataConfig::Latents { .. } => {
                    "its data are latents, and it measures images: train with and without MixFlow, and measure both by `eval`"
                }
                _ => "add one, such as --set 'post_training={\"steps\":300,\"gamma\":0.8}'",
            };
            return Err(format!("the recipe {name} has no post_training to compare: {advice}").into());
        }
        let from = StartFrom { weights: Some(&self.from), classes: &self.classes };
        train(recipe, from, &self.to, PathBuf::from("runs").join(format!("{name}-compare")), devices)
    }
}
