//! `cargo xtask train` of a decoder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mixflow::backbones::weights::Weights;
use mixflow::recipe::DecoderRecipe;

use crate::progress::Progress;
use crate::run::{Result, STOP, say};
use crate::train::{Destination, in_folder};

/// Trains the decoder of a recipe, from the weights of a file if there is one.
pub(crate) fn train_decoder(recipe: &DecoderRecipe, from: Option<&Path>, to: &Destination) -> Result<ExitCode> {
    let folder = to.folder(PathBuf::from("runs").join(&recipe.name), &recipe.to_value())?;
    // What is wrong with data or weights is said before anything is written.
    let data = recipe.open()?;
    let (encoder, mut decoder) = recipe.networks()?;
    if let Some(from) = from {
        decoder = decoder.load(Weights::read(from)?)?;
    }
    let run = recipe.run(&folder, data, &STOP)?;
    let mut tracking = to.watchers.tracking(&recipe.name, &folder, &recipe.to_value())?;
    in_folder(&folder, &recipe.to_value(), || {
        let mut progress = Progress::new();
        progress.begin(&recipe.name, Some(recipe.training.steps));
        let decoder = run.train_decoder(&encoder, decoder, |event| {
            progress.training(&event);
            tracking.training(&folder, &event, &progress);
        });
        progress.end();
        let finished = decoder.map_err(Into::into).and_then(|decoder| {
            let Some(decoder) = decoder else { return Ok(false) };
            let file = folder.join("decoder.safetensors");
            decoder.weights().write(&file, &[("format", "pt"), ("library_name", "mixflow")])?;
            say(format_args!("decoder (moving average): {}", file.display()))?;
            Ok(true)
        });
        tracking.end(&finished);
        finished
    })
}
