//! `cargo xtask plan`.

use std::fmt::Display;
use std::process::ExitCode;

use clap::Args;
use mixflow::backbones::Precision;
use mixflow::plan::{DecoderPlan, Machine, Plan as Costs};
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::{Device, device, known_memory};
use serde_json::{Value, json};

use crate::arguments::{JsonArgument, RecipeArguments};
use crate::bench::{matmul_rate, products};
use crate::kind::of_any;
use crate::terminal::{Result, print, print_json};

#[derive(Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// Devices to estimate times for: a100, h100, h200, l40s, rtx-3090, rtx-4080, rtx-4090, several as 8xh100; or those of this machine,
    /// of which the first is measured, flex, cuda:1, cuda:0,1 and so on, `here` for that which other commands compute on
    /// without --device
    #[arg(long, value_name = "NAME", default_value = "here")]
    device: String,
    #[command(flatten)]
    json: JsonArgument,
}

impl Plan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.recipe.read_decoder()? {
            Some(recipe) => {
                let (machine, devices) = machine(&self.device)?;
                if devices > 1 {
                    return Err("--device: a decoder is trained on one device".into());
                }
                let plan = DecoderPlan::new(&recipe, machine);
                self.show(&plan, json!(plan))
            }
            None => {
                let recipe = self.recipe.read()?;
                let (machine, devices) = machine(&self.device)?;
                let plan = of_any!(recipe, recipe => {
                    fits_data(&recipe)?;
                    Costs::on(&recipe, machine, devices)
                })?;
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
            print_json(&value)?
        } else {
            print(plan)?
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Refuses what a training would refuse of the data; those that are not here yet are taken to fit.
fn fits_data<N: NetworkSettings>(recipe: &Recipe<N>) -> Result<()> {
    if recipe.data.open().is_ok() {
        recipe.open()?;
        recipe.post_training.as_ref().map(|post| recipe.parts(post.images)).transpose()?;
    }
    Ok(())
}

/// The machine of these names, or this one, measured; and how many of it.
pub(crate) fn machine(names: &str) -> Result<(Machine, usize)> {
    let counted = names.split_once('x').and_then(|(count, name)| Some((count.parse::<usize>().ok()?, name)));
    let (count, name) = counted.unwrap_or((1, names));
    if count == 0 {
        return Err(format!("--device {names}: expected one device or more").into());
    }
    if let Some(machine) = Machine::named(name) {
        return Ok((machine, count));
    }
    let devices = match names {
        "here" => vec![device::chosen()?],
        names => device::several(names).map_err(|error| {
            let known: Vec<_> = Machine::names().collect();
            format!("--device {error}; or here, or one of {}, several as 8x{}", known.join(", "), known[0])
        })?,
    };
    let device = devices.first().ok_or("expected a device")?;
    let is_cpu = *device == Device::flex();
    // Shares of a CPU have its speed and its memory together.
    let share = if is_cpu { devices.len() } else { 1 };
    let card = if is_cpu { None } else { Machine::of_card(&device::describe(device)) };
    let memory = card.map_or_else(|| known_memory(device), |card| card.memory);
    let speed_in = |precision| matmul_rate(device, precision) / share as f64;
    let (speed, memory) = (speed_in(Precision::F32), memory.map(|bytes| bytes / share as u64));
    let side = products(device).0;
    let mut origin = format!("matrix products of {side} x {side}: {:.0} GFLOP/s", speed / 1e9);
    // What the CPU rounds it multiplies as it is.
    let mut low_speed = speed;
    if !is_cpu && Precision::Bf16.is_supported(device) {
        low_speed = speed_in(Precision::Bf16);
        origin += &format!(", {:.0} in bf16", low_speed / 1e9);
    }
    let name = if names == "here" { "this machine" } else { names.split(',').next().unwrap_or(names) };
    let machine = Machine { name: name.into(), speed, low_speed, origin, memory, is_cpu };
    Ok((machine, devices.len()))
}
