//! What the commands share: stopping, recipes, networks.

use std::error::Error;
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use clap::Args;
use mixflow::backbones::Network;
use mixflow::recipe::{DecoderRecipe, Recipe};
use mixflow::train::StoredNetwork;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Set by the first SIGINT or SIGTERM; the second one leaves at once.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Lets training finish its step and save when the process is asked to stop.
pub(crate) fn stop_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note("\nstopping after this step; once more leaves at once without saving");
    })?;
    Ok(())
}

/// Prints a result. A reader that has closed the pipe, such as `head`, has all it wants.
pub(crate) fn say(text: impl Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot print the result: {error}").into()),
        _ => Ok(()),
    }
}

/// Prints a message beside the results, if anybody can read it.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Which recipe, and what to change in it.
#[derive(Args)]
pub(crate) struct RecipeArguments {
    /// A recipe's name (digits, shapes) or JSON file
    #[arg(default_value = "digits")]
    pub(crate) recipe: String,
    /// Change a value of the recipe, such as training.steps=100; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Data instead of the recipe's: digits, shapes, or a folder with one sub-folder of images per class
    #[arg(long, value_name = "SOURCE")]
    data: Option<String>,
}

impl RecipeArguments {
    pub(crate) fn read(&self) -> Result<Recipe> {
        Ok(Recipe::read(&self.recipe, &self.changes()?)?)
    }

    /// The recipe if it is one of a decoder.
    pub(crate) fn read_decoder(&self) -> Result<Option<DecoderRecipe>> {
        Ok(DecoderRecipe::read(&self.recipe, &self.changes()?)?)
    }

    pub(crate) fn changes(&self) -> Result<Vec<String>> {
        let mut set = Vec::new();
        if let Some(data) = &self.data {
            let value = match data.as_str() {
                "digits" | "shapes" => serde_json::json!(data),
                folder => {
                    if !Path::new(folder).is_dir() {
                        return Err(format!("--data {folder}: expected digits, shapes or a folder, found none").into());
                    }
                    set.push(format!("data.path={}", serde_json::json!(folder)));
                    serde_json::json!("folder")
                }
            };
            set.push(format!("data.kind={value}"));
        }
        set.extend(self.set.iter().cloned());
        Ok(set)
    }
}

/// The recipe's network with its initial values.
pub(crate) fn network(recipe: &Recipe) -> Network {
    recipe.network.init(recipe.seed, &Device::default())
}

/// The recipe's network with weights from a file, `.safetensors` or `.pt`, a run's folder or a checkpoint.
pub(crate) fn load(recipe: &Recipe, from: &Path) -> Result<Network> {
    let stored = StoredNetwork::find(from)?;
    note_choices(from, &stored.chosen()?);
    Ok(stored.load(network(recipe))?)
}

/// Tells which part of a file is taken, where there is a choice.
pub(crate) fn note_choices(from: &Path, chosen: &[String]) {
    if !chosen.is_empty() {
        note(format_args!("of {}: {}", from.display(), chosen.join(", ")));
    }
}
