//! `cargo xtask train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mixflow::Device;
use mixflow::launch::Launch;
use mixflow::recipe::{NetworkSettings, Recipe};

use crate::arguments::{DevicesArgument, RecipeArguments};
use crate::decoder::train_decoder;
use crate::destination::{Destination, in_folder};
use crate::hub::{given, named_files};
use crate::kind::Any;
use crate::launch::{check, run};
use crate::selftest;
use crate::signals::STOP;
use crate::terminal::Result;

#[derive(Args)]
pub(crate) struct Train {
    #[command(flatten)]
    recipe: RecipeArguments,
    #[arg(
        long,
        value_name = "WEIGHTS",
        help = "Start from these weights: .safetensors, .pt, a run's folder, a checkpoint, or hf://org/name[@revision][/file]"
    )]
    from: Option<PathBuf>,
    #[command(flatten)]
    classes: ClassArguments,
    #[command(flatten)]
    to: Destination,
    #[command(flatten)]
    device: DevicesArgument,
}

/// What the classes of the data start from, where those of the weights are others.
#[derive(Args, Default)]
pub(crate) struct ClassArguments {
    #[arg(
        long,
        value_name = "CLASS=ROW,...",
        requires = "from",
        help = "Start classes of the data from rows of the weights' label table: cat=281,dog=207; or first, null or mean for \
                all [default: the weights are for the same classes]"
    )]
    class_rows: Option<String>,
}

impl ClassArguments {
    /// Refuses what only networks for classes have.
    pub(crate) fn refuse(&self, what: &str) -> Result<()> {
        match self.class_rows {
            Some(_) => Err(format!("--class-rows is for networks that know classes; {what} knows none").into()),
            None => Ok(()),
        }
    }
}

/// What a training starts from.
#[derive(Clone, Copy)]
pub(crate) struct StartFrom<'a> {
    pub(crate) weights: Option<&'a Path>,
    pub(crate) classes: &'a ClassArguments,
}

impl Train {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let devices = &self.device.find()?[..];
        if let Some(recipe) = self.recipe.read_decoder()? {
            self.classes.refuse("a decoder")?;
            return train_decoder(&recipe, self.from.as_deref(), &self.to, devices);
        }
        let from = StartFrom { weights: self.from.as_deref(), classes: &self.classes };
        let folder = |name: &str| PathBuf::from("runs").join(name);
        match self.recipe.read()? {
            Any::Classes(recipe) => train(&recipe, from, &self.to, folder(&recipe.name), devices),
            Any::Text(recipe) => {
                self.classes.refuse("a network for text")?;
                train(&recipe, from, &self.to, folder(&recipe.name), devices)
            }
        }
    }
}

/// Runs a recipe of any network, in `folder` unless another was asked for.
pub(crate) fn train<N: NetworkSettings>(
    recipe: &Recipe<N>,
    from: StartFrom<'_>,
    to: &Destination,
    folder: PathBuf,
    devices: &[Device],
) -> Result<ExitCode> {
    let [device, beside @ ..] = devices else { return Err("expected a device".into()) };
    to.check(&folder)?;
    let recipe = to.changed(|changes| recipe.with(changes))?;
    let [recipe, local] = &named_files(&recipe, to.noted(&folder).as_ref())?;
    let folder = to.folder(folder, recipe.to_value())?;
    let start = from.weights.map(given).transpose()?;
    let class_rows = from.classes.class_rows.as_deref();
    let (path, value) = (folder.path().to_path_buf(), recipe.to_value());
    let ready = check(Launch { local, start, class_rows, beside, ..Launch::new(recipe, device, &STOP) }, folder)?;
    if !to.resume {
        selftest::warn(devices);
    }
    let tracking = to.watchers.tracking(&path, &value)?;
    in_folder(&path, &value, || run(ready, tracking))
}
