//! `cargo xtask plan`.

use std::process::ExitCode;

use clap::Args;
use mixflow::memory;
use mixflow::plan::{DecoderPlan, Machine, Plan as Costs};

use crate::bench::matmul_rate;
use crate::kind::{AnyRecipe, of_any};
use crate::run::{RecipeArguments, Result, say};

#[derive(Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// Device to estimate times for: a100, h100, h200, l40s, rtx-3090, rtx-4090, or `here` to measure this machine
    #[arg(long, value_name = "NAME", default_value = "here")]
    device: String,
}

impl Plan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.recipe.read_decoder()? {
            Some(recipe) => say(DecoderPlan::new(&recipe, self.machine()?))?,
            None => {
                let recipe = AnyRecipe::read(&self.recipe)?;
                say(of_any!(recipe, recipe => Costs::new(&recipe, self.machine()?))?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn machine(&self) -> Result<Machine> {
        if self.device == "here" {
            let speed = matmul_rate();
            let origin = format!("matrix products of 1,024 x 1,024: {:.0} GFLOP/s", speed / 1e9);
            return Ok(Machine { name: "this machine".into(), speed, origin, memory: memory() });
        }
        Machine::named(&self.device).ok_or_else(|| {
            let known: Vec<_> = Machine::names().collect();
            format!("--device {}: expected here or one of {}", self.device, known.join(", ")).into()
        })
    }
}
