//! A whole run, as a command begins one.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use mixflow::launch::{Finish, Launch, StartWeights};
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::{RunFolder, Start, StoredNetwork};

/// Trains in the folder `run` from weights in a file, or goes on there, to the end.
///
/// # Panics
/// If it fails.
pub fn train_from<N: NetworkSettings>(recipe: &Recipe<N>, from: &Path, run: &Path) {
    let (device, stop) = (Device::default(), AtomicBool::new(false));
    let folder = match run.exists() {
        true => RunFolder::resume(run, recipe.to_value(), &[]),
        false => RunFolder::begin(run, recipe.to_value()),
    };
    let start =
        StartWeights { path: from.into(), start: Start::of(&StoredNetwork::File(from.into())).expect("a file") };
    let launch = Launch { start: Some(start), ..Launch::new(recipe, &device, &stop) };
    let ready = launch.check(folder.expect("a folder"), &mut |_| {}).expect("a run that can begin");
    assert!(matches!(ready.run(&mut |_| {}).expect("a whole run"), Some(Finish::Trained(_))));
}
