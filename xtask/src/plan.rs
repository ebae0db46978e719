//! `cargo xtask plan`.

use std::process::ExitCode;

use clap::Args;
use mixflow::plan::{Machine, Plan as Costs};

use crate::bench::matmul_rate;
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
        let recipe = self.recipe.read()?;
        let machine = if self.device == "here" {
            let speed = matmul_rate();
            let origin = format!("matrix products of 1,024 x 1,024: {:.0} GFLOP/s", speed / 1e9);
            Machine { name: "this machine".into(), speed, origin }
        } else {
            Machine::named(&self.device).ok_or_else(|| {
                let known: Vec<_> = Machine::names().collect();
                format!("--device {}: expected here or one of {}", self.device, known.join(", "))
            })?
        };
        say(Costs::new(&recipe, machine))?;
        Ok(ExitCode::SUCCESS)
    }
}
