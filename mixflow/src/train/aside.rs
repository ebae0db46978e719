//! What a training left at an earlier end, when it goes on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// Files that a training has written at its end: weights, and what was measured of them.
const OF_END: [&str; 5] =
    ["model.safetensors", "pytorch_lora_weights.safetensors", "decoder.safetensors", "eval.json", "inception.json"];

/// Gives what lies in the folder of a training since `step` steps were taken the step's name,
/// `model-step-00000400.safetensors`: nobody takes it for what the training came to since. What has that name stays.
pub(super) fn put_aside(training: &Path, step: u64) -> Result<(), Error> {
    for name in OF_END {
        let from = training.join(name);
        if from.exists() {
            fs::rename(&from, free(training, name, step)).map_err(Error::io("rename", &from))?;
        }
    }
    Ok(())
}

/// The name of the step, or that with the first number that nobody has.
fn free(training: &Path, name: &str, step: u64) -> PathBuf {
    let (stem, ending) = name.rsplit_once('.').expect("they have endings");
    let named = |more: &str| training.join(format!("{stem}-step-{step:08}{more}.{ending}"));
    let numbered = (2..).map(|number: u64| named(&format!("-{number}")));
    std::iter::once(named("")).chain(numbered).find(|path| !path.exists()).expect("numbers have no end")
}
