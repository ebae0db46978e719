//! A whole run, as a command begins one.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, TensorData};
use mixflow::launch::{Finish, Launch, StartWeights};
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::{RunFolder, Start, StoredNetwork};
use mixflow_backbones::weights::Weights;

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

/// Trains a recipe at once in the folder `whole`, and in `parts` first by `half`, which has fewer steps, then to the end: all `files`
/// that they leave are the same, byte by byte.
///
/// # Panics
/// If they are not, or a training fails.
pub fn assert_continues<N: NetworkSettings>(
    recipe: &Recipe<N>,
    half: &Recipe<N>,
    from: &Path,
    [whole, parts]: [PathBuf; 2],
    files: &[&str],
) {
    train_from(recipe, from, &whole);
    train_from(half, from, &parts);
    train_from(recipe, from, &parts);
    for file in files {
        let [whole, parts] = [&whole, &parts].map(|run| std::fs::read(run.join(file)).expect("it was written"));
        assert!(whole == parts, "{file} differs");
    }
}

/// The same weights with a little of a wave in each, so that all layers of a new network take part, those of zeros, too.
///
/// # Panics
/// If they cannot be read.
pub fn with_waves(weights: Weights) -> Weights {
    weights.flat_map(|name, tensor| {
        let values = tensor.data().expect("in memory");
        let numbers = values.iter::<f32>().enumerate().map(|(i, value)| value + 0.05 * (1.3 * i as f32).sin());
        let data = TensorData::new(numbers.collect::<Vec<_>>(), tensor.shape().to_vec());
        [(name, data.into())]
    })
}
