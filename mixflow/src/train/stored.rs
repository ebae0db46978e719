//! Networks that were trained, here or elsewhere.

use std::path::{Path, PathBuf};

use mixflow_backbones::Network;
use mixflow_backbones::weights::Weights;

use super::checkpoint;
use crate::Error;

/// Where the weights of a trained network are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredNetwork {
    /// A file under official names: a published one, or the `model.safetensors` of a run.
    File(PathBuf),
    /// The folder of a checkpoint, of which the moving average counts.
    Checkpoint(PathBuf),
}

impl StoredNetwork {
    /// What a path stands for: a file; a folder with `model.safetensors`, of a comparison the pre-trained network; or a
    /// checkpoint, such as `runs/digits/checkpoints/step-00000400`.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn find(path: &Path) -> Result<Self, Error> {
        if path.is_file() {
            return Ok(Self::File(path.into()));
        }
        if path.join(AVERAGE).is_file() {
            return Ok(Self::Checkpoint(path.into()));
        }
        let inside = ["model.safetensors", "pretraining/model.safetensors"].map(|file| path.join(file));
        inside.into_iter().find(|file| file.is_file()).map(Self::File).ok_or_else(|| {
            let reason = "expected a file of weights, a folder with model.safetensors or a checkpoint, found none";
            fault(path, reason.into())
        })
    }

    /// The file that holds the weights.
    pub fn file(&self) -> PathBuf {
        match self {
            Self::File(file) => file.clone(),
            Self::Checkpoint(folder) => folder.join(AVERAGE),
        }
    }

    /// The recipe that it was trained with: the `recipe.json` of its run, or the `config.json` that it was published with.
    pub fn recipe_file(&self) -> Option<PathBuf> {
        let (file, folders) = match self {
            Self::File(file) => (file, 2),
            // Of a comparison: run/arm/checkpoints/step.
            Self::Checkpoint(folder) => (folder, 3),
        };
        let mut recipes = file.ancestors().skip(1).take(folders).map(|folder| folder.join("recipe.json"));
        recipes
            .find(|file| file.is_file())
            .or_else(|| Some(file.with_file_name("config.json")).filter(|file| file.is_file()))
    }

    /// The weights, in a network of their shape.
    ///
    /// # Errors
    /// If they cannot be read, are damaged or do not fit.
    pub fn load(&self, network: Network) -> Result<Network, Error> {
        match self {
            Self::File(file) => Ok(network.load(Weights::read(file)?)?),
            Self::Checkpoint(folder) => {
                checkpoint::read(folder)?.snapshot.into_average(network).map_err(|reason| fault(folder, reason))
            }
        }
    }
}

const AVERAGE: &str = "average.safetensors";

fn fault(path: &Path, reason: String) -> Error {
    Error::Recipe { origin: path.display().to_string(), reason }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use burn::tensor::Device;
    use mixflow_backbones::NetworkConfig;

    use super::*;
    use crate::recipe::Recipe;
    use crate::train::{Checkpoints, TrainState};

    fn config() -> NetworkConfig {
        Recipe::read("digits", &["network.width=24".into(), "network.depth=1".into()]).unwrap().network
    }

    #[test]
    fn a_network_is_found_in_files_folders_and_checkpoints() {
        let root = tempfile::tempdir().unwrap();
        let network = config().init(1, &Device::default());
        let run = root.path().join("run");
        std::fs::create_dir_all(run.join("pretraining")).unwrap();
        network.weights().write(run.join("pretraining/model.safetensors"), &[]).unwrap();
        let checkpoints = Checkpoints::new(run.join("checkpoints"), 2);
        let snapshot = TrainState::new(network.clone()).snapshot();
        let checkpoint = checkpoints.save(&snapshot, &serde_json::Value::Null).unwrap();

        for (path, file) in [
            (run.clone(), run.join("pretraining/model.safetensors")),
            (run.join("pretraining/model.safetensors"), run.join("pretraining/model.safetensors")),
            (checkpoint.clone(), checkpoint.join("average.safetensors")),
        ] {
            let stored = StoredNetwork::find(&path).unwrap();
            assert_eq!(stored.file(), file);
            let loaded = stored.load(config().init(2, &Device::default())).unwrap();
            let bytes = |network: &Network| network.weights().to_safetensors(&[]).unwrap();
            assert!(bytes(&loaded) == bytes(&network), "{}", path.display());
        }
    }

    #[test]
    fn what_holds_no_network_is_named() {
        let root = tempfile::tempdir().unwrap();
        for path in [root.path().to_path_buf(), root.path().join("nowhere.pt")] {
            let message = StoredNetwork::find(&path).unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()) && message.contains("a checkpoint"), "{message}");
        }
        let checkpoints = Checkpoints::new(root.path(), 2);
        let state = TrainState::new(config().init(1, &Device::default()));
        let checkpoint = checkpoints.save(&state.snapshot(), &serde_json::Value::Null).unwrap();
        let other = Recipe::read("digits", &["network.width=48".into(), "network.depth=1".into()]).unwrap().network;
        let stored = StoredNetwork::find(&checkpoint).unwrap();
        let message = stored.load(other.init(0, &Device::default())).unwrap_err().to_string();
        assert!(message.contains("mis-shaped") && message.contains("[48]"), "{message}");
    }
}
