//! The weights that a run starts from, where it is given some.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use mixflow_backbones as backbones;

use crate::Error;
use crate::compare::Progress;
use crate::recipe::{NetworkSettings, Recipe};
use crate::train::{ClassRows, Start, StoredNetwork};

/// Weights that a run is given to start from.
#[derive(Clone, Debug)]
pub struct StartWeights {
    /// On this machine.
    pub path: PathBuf,
    /// Where they came from, to be written down.
    pub start: Start,
}

/// The network that a recipe asks for, with these values.
pub(super) fn load_start<N: NetworkSettings>(
    recipe: &Recipe<N>,
    path: &Path,
    stored: &StoredNetwork,
    rows: Option<&ClassRows>,
    device: &Device,
    progress: &mut dyn FnMut(Progress),
) -> Result<N::Network, Error> {
    let chosen = stored.chosen(|weights| recipe.network.select_weights(weights))?;
    if !chosen.is_empty() {
        progress(Progress::Note(format!("of {}: {}", path.display(), chosen.join(", "))));
    }
    // What stays frozen is rounded as it is read, so that the device never holds more.
    let network = recipe.frozen(recipe.network.init(recipe.seed, device));
    match rows {
        Some(rows) => recipe.network.load_for_classes(stored, network, rows),
        None => {
            let loaded = stored.load(network, |network, weights| recipe.network.load(network, weights));
            loaded.map_err(|error| match of_other_classes(&error) {
                true => Error::OtherClasses(error.into()),
                false => error,
            })
        }
    }
}

/// Whether weights do not fit because they are for other classes.
fn of_other_classes(error: &Error) -> bool {
    match error {
        Error::Weights(backbones::Error::Mismatch(mismatch)) | Error::Tensors { source: mismatch, .. } => {
            mismatch.labels().is_some()
        }
        _ => false,
    }
}
