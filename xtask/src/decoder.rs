//! `cargo xtask train` of a decoder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mixflow::autoencoder_training::RaeRun;
use mixflow::backbones::rae::Decoder;
use mixflow::backbones::weights::Weights;
use mixflow::recipe::DecoderRecipe;

use crate::hub::named_values;
use crate::progress::Progress;
use crate::run::{Result, STOP, note_choices, say};
use crate::train::{Destination, in_folder, tell};

/// Trains the decoder of a recipe, from the weights of a file if there is one.
pub(crate) fn train_decoder(recipe: &DecoderRecipe, from: Option<&Path>, to: &Destination) -> Result<ExitCode> {
    let recipe = to.changed(|changes| recipe.with(changes))?;
    let [recipe, local] = named_values(&recipe.to_value())?;
    let local = DecoderRecipe::from_value(local)?;
    let (folder, _lock) = to.folder(PathBuf::from("runs").join(&local.name), &recipe)?;
    local.check_memory(mixflow::memory())?;
    // What is wrong with data or weights is said before anything is written.
    let data = local.open()?;
    let found = to.data(&*data, &folder)?;
    tell(&local.data, &*data, &found);
    let (encoder, mut decoder) = local.networks()?;
    let start = to.start(from, None, &folder)?;
    if let Some(start) = &start {
        let weights = Decoder::own(Weights::read(&start.path)?)?;
        note_choices(&start.path, weights.choices());
        decoder = decoder.load(weights)?;
    }
    let run = RaeRun { recipe: recipe.clone(), ..local.run(&folder, data, &STOP)? };
    let mut tracking = to.watchers.tracking(&local.name, &folder, &recipe)?;
    in_folder(to, &folder, &recipe, &found, start.as_ref().map(|start| &start.start), || {
        let mut progress = Progress::new();
        progress.begin(&local.name, Some(local.training.steps));
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
