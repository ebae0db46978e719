//! `cargo xtask recipes`.

use std::process::ExitCode;

use clap::Args;
use mixflow::numbers::thousands;
use mixflow::plan::{DecoderPlan, Machine, Plan, duration};
use mixflow::recipe::{DecoderRecipe, NetworkSettings, Recipe};
use serde::Serialize;

use crate::arguments::{JsonArgument, RecipeArguments};
use crate::kind::{names, of_any};
use crate::plan::machine;
use crate::terminal::{Result, print, print_json};

#[derive(Args)]
pub(crate) struct Recipes {
    /// Device to estimate times for, as of `plan`
    #[arg(long, value_name = "NAME", default_value = "here")]
    device: String,
    #[command(flatten)]
    json: JsonArgument,
}

/// A recipe in a line.
#[derive(Serialize)]
struct Line {
    name: &'static str,
    /// What it trains on what.
    what: String,
    /// Of all that it runs, but for what its plan does not count.
    seconds: f64,
}

impl Recipes {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (machine, devices) = machine(&self.device)?;
        if devices > 1 {
            return Err("--device: recipes are listed for one device; `plan RECIPE` takes several".into());
        }
        let lines = names().map(|name| line(name, &machine)).collect::<Result<Vec<_>>>()?;
        if self.json.json {
            print_json(&lines)?;
            return Ok(ExitCode::SUCCESS);
        }
        let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
        for Line { name, what, seconds } in &lines {
            print(format_args!("{name:<width$}  {:>10}  {what}", duration(*seconds)))?;
        }
        print(format_args!("times on {} ({}); `plan RECIPE` tells more", machine.name, machine.origin))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn line(name: &'static str, machine: &Machine) -> Result<Line> {
    let recipe = RecipeArguments::named(name);
    if let Some(recipe) = recipe.read_with(DecoderRecipe::read)? {
        let plan = DecoderPlan::new(&recipe, machine.clone());
        let parameters = thousands(plan.parameters);
        let what = format!("decoder of {parameters} parameters, {} steps", thousands(recipe.training.steps));
        return Ok(Line { name, what, seconds: plan.training_seconds });
    }
    of_any!(recipe.read()?, recipe => network(name, &recipe, machine))
}

fn network<N: NetworkSettings>(name: &'static str, recipe: &Recipe<N>, machine: &Machine) -> Result<Line> {
    let plan = Plan::new(recipe, machine.clone())?;
    let (parameters, steps) = (thousands(plan.parameters), thousands(recipe.training.steps));
    let [_, height, width] = recipe.network.shape();
    let of = if recipe.encoding().is_some() { "latents of " } else { "" };
    let data = format!("{of}{}", recipe.data.describe());
    let mut what = format!("{} of {parameters} parameters, {height} x {width} {data}: {steps} steps", plan.network);
    if let Some(post) = &recipe.post_training {
        let trained: Vec<&str> =
            post.arms.iter().filter(|arm| arm.of().is_none()).map(|arm| arm.name.as_str()).collect();
        let kinds = match trained[..] {
            ["standard", "mixflow"] => "with and without MixFlow".to_string(),
            _ => format!("of {} kinds", trained.len()),
        };
        what += &format!(", {} post-trainings of {} {kinds}", post.networks(), thousands(post.steps));
        let sampled = post.arms.iter().filter(|arm| arm.of().is_some() && arm.name != "control").count();
        if sampled > 0 {
            what += &format!(", {sampled} other ways to sample");
        }
    }
    Ok(Line { name, what, seconds: plan.total_seconds() })
}
