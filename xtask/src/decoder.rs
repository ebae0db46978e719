//! `cargo xtask train` of a decoder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mixflow::Device;
use mixflow::autoencoder_training::RaeRun;
use mixflow::backbones::rae::Decoder;
use mixflow::backbones::weights::Weights;
use mixflow::launch::decoder_run;
use mixflow::recipe::DecoderRecipe;
use mixflow::train::{Event, RunFolder, check_same_frozen};

use crate::destination::{Destination, in_folder};
use crate::hub::{given, named_values};
use crate::progress::Progress;
use crate::signals::STOP;
use crate::terminal::{Result, note, note_choices, print};
use crate::tracking::{end, show_warnings};

/// Trains the decoder of a recipe, from the weights of a file if there is one.
pub(crate) fn train_decoder(
    recipe: &DecoderRecipe,
    from: Option<&Path>,
    to: &Destination,
    devices: &[Device],
) -> Result<ExitCode> {
    let [device] = devices else {
        return Err(format!("--device: a decoder is trained on one device, found {}", devices.len()).into());
    };
    let recipe = to.changed(|changes| recipe.with(changes))?;
    let folder = PathBuf::from("runs").join(&recipe.name);
    to.check(&folder)?;
    let [recipe, local] = named_values(&recipe.to_value(), to.noted(&folder).as_ref())?;
    let local = DecoderRecipe::from_value(local)?;
    let folder = to.folder(folder, recipe.clone())?;
    let path = folder.path().to_path_buf();
    local.check_memory(mixflow::memory(device))?;
    // What is wrong with data or weights is said before anything is written.
    let data = local.open()?;
    let found = folder.check_data(&*data)?;
    note(format_args!("{}: {found}", local.data.describe()));
    data.notices().iter().for_each(note);
    let (encoder, mut decoder) = local.networks(device)?;
    let start = from.map(given).transpose()?;
    folder.check_start(start.as_ref().map(|given| &given.start))?;
    if let Some(start) = &start {
        let weights = Decoder::select_weights(Weights::read(&start.path)?)?;
        note_choices(&start.path, weights.choices());
        decoder = decoder.load(weights)?;
    }
    let run = RaeRun { recipe: recipe.clone(), ..decoder_run(&local, &path, data, device, &STOP)? };
    let mut tracking = to.watchers.tracking(&path, &recipe)?;
    in_folder(&path, &recipe, || {
        let mut progress = Progress::new();
        progress.begin(&local.name, Some(local.training.steps));
        let decoder = folder.run(&found, start.as_ref().map(|given| &given.start), note, || {
            check_same_frozen(&path, &local.frozen_files())?;
            run.train_decoder(&encoder, decoder, |event| {
                if matches!(event, Event::Saved(_)) {
                    // What cannot be written now is told when it is written at the end.
                    let _ = RunFolder::record(&path, &recipe);
                }
                progress.training(&path, &event);
                tracking.training(&path, &event);
                show_warnings(&mut tracking, &progress);
            })
        });
        progress.end();
        let finished = decoder.map_err(Into::into).and_then(|decoder| {
            let Some(decoder) = decoder else { return Ok(false) };
            let file = path.join("decoder.safetensors");
            decoder.weights().write(&file, &[("format", "pt"), ("library_name", "mixflow")])?;
            print(format_args!("decoder (moving average): {}", file.display()))?;
            Ok(true)
        });
        end(tracking, &finished);
        finished
    })
}
