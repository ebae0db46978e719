//! `cargo xtask plan`.

use std::fmt::Display;
use std::process::ExitCode;

use clap::Args;
use mixflow::plan::{DecoderPlan, Machine, Plan as Costs};
use mixflow::{Device, device, memory};
use serde_json::{Value, json};

use crate::bench::matmul_rate;
use crate::kind::{AnyRecipe, of_any};
use crate::run::{JsonArgument, RecipeArguments, Result, say};

#[derive(Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// Device to estimate times for: a100, h100, h200, l40s, rtx-3090, rtx-4090; or one of this machine to measure, flex,
    /// cuda:1 and so on, `here` for that which other commands compute on without --device
    #[arg(long, value_name = "NAME", default_value = "here")]
    device: String,
    #[command(flatten)]
    json: JsonArgument,
}

impl Plan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.recipe.read_decoder()? {
            Some(recipe) => {
                let plan = DecoderPlan::new(&recipe, machine(&self.device)?);
                self.show(&plan, json!(plan))
            }
            None => {
                let recipe = AnyRecipe::read(&self.recipe)?;
                let plan = of_any!(recipe, recipe => Costs::new(&recipe, machine(&self.device)?))?;
                let mut value = json!(plan);
                for (place, part) in plan.parts.iter().enumerate() {
                    value["parts"][place]["seconds"] = plan.seconds(part).into();
                }
                self.show(&plan, value)
            }
        }
    }

    fn show(&self, plan: &impl Display, value: Value) -> Result<ExitCode> {
        if self.json.json {
            say(format_args!("{value:#}"))?
        } else {
            say(plan)?
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The machine of a name, or this one, measured.
pub(crate) fn machine(name: &str) -> Result<Machine> {
    if let Some(machine) = Machine::named(name) {
        return Ok(machine);
    }
    let device = match name {
        "here" => device::chosen()?,
        name => device::named(name).map_err(|error| {
            let known: Vec<_> = Machine::names().collect();
            format!("--device {error}; or here, or one of {}", known.join(", "))
        })?,
    };
    let speed = matmul_rate(&device);
    let origin = format!("matrix products of 1,024 x 1,024: {:.0} GFLOP/s", speed / 1e9);
    let name = if name == "here" { "this machine" } else { name };
    let low_precision = device != Device::flex();
    Ok(Machine { name: name.into(), speed, low_speed: speed, origin, memory: memory(&device), low_precision })
}
