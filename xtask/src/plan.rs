//! `cargo xtask plan`.

use std::process::ExitCode;

use clap::Args;
use mixflow::plan::{DecoderPlan, Machine, Plan as Costs};
use mixflow::{Device, device, memory};

use crate::bench::matmul_rate;
use crate::kind::{AnyRecipe, of_any};
use crate::run::{RecipeArguments, Result, say};

#[derive(Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// Device to estimate times for: a100, h100, h200, l40s, rtx-3090, rtx-4090; or one of this machine to measure, flex,
    /// cuda:1 and so on, `here` for that which other commands compute on without --device
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
        if let Some(machine) = Machine::named(&self.device) {
            return Ok(machine);
        }
        let device = match self.device.as_str() {
            "here" => device::chosen()?,
            name => device::named(name).map_err(|error| {
                let known: Vec<_> = Machine::names().collect();
                format!("--device {error}; or here, or one of {}", known.join(", "))
            })?,
        };
        let speed = matmul_rate(&device);
        let origin = format!("matrix products of 1,024 x 1,024: {:.0} GFLOP/s", speed / 1e9);
        let name = if self.device == "here" { "this machine" } else { &self.device };
        let low_precision = device != Device::flex();
        Ok(Machine { name: name.into(), speed, low_speed: speed, origin, memory: memory(&device), low_precision })
    }
}
