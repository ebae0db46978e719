//! Networks that were trained, here or elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use mixflow_backbones::embed::LABEL_TABLE;
use mixflow_backbones::weights::{Mismatch, Weights};
use mixflow_backbones::{Network, NetworkConfig};
use serde::Deserialize;
use serde_json::Value;

use super::checkpoint::from_safetensors;
use super::manifest::{Manifest, damaged};
use super::snapshot::{self, Tensors, fill, is_of_adapter};
use super::{Checkpoints, ClassRows};
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
    /// What a path stands for: a file; a folder with `model.safetensors` or its shards, of a comparison the pre-trained network; a
    /// checkpoint, such as `runs/digits/checkpoints/step-00000400`; or, of a run that has none of these, its newest whole
    /// checkpoint.
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
        let inside = ["model.safetensors.index.json", "model.safetensors", "pretraining/model.safetensors"];
        let inside = inside.map(|file| path.join(file));
        if let Some(file) = inside.into_iter().find(|file| file.is_file()) {
            return Ok(Self::File(file));
        }
        for training in [path.to_path_buf(), path.join("pretraining")] {
            let checkpoints = Checkpoints::new(training.join("checkpoints"), 2);
            let mut found = checkpoints.newest(|path| {
                Manifest::read(path)?.file(path, AVERAGE)?;
                Ok(path.to_path_buf())
            })?;
            match (found.whole, found.damaged.pop()) {
                (Some(checkpoint), _) => return Ok(Self::Checkpoint(checkpoint)),
                (None, Some(damaged)) => return Err(damaged),
                (None, None) => {}
            }
        }
        let reason = "expected a file of weights, a folder with model.safetensors or a checkpoint, found none";
        Err(fault(path, reason.into()))
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
        let above = file.ancestors().skip(1).take(folders).map(|folder| folder.join("recipe.json"));
        let beside = ["recipe.json", "config.json"].map(|name| file.with_file_name(name));
        beside.into_iter().chain(above).find(|file| file.is_file())
    }

    /// The folder of the training: the one with the file, or with the checkpoints.
    pub fn training(&self) -> PathBuf {
        let (Self::File(path) | Self::Checkpoint(path)) = self;
        let above = path.parent().unwrap_or(Path::new(""));
        let checkpoints = matches!(self, Self::Checkpoint(_)) && above.ends_with("checkpoints");
        if checkpoints { above.parent().unwrap_or(above) } else { above }.into()
    }

    /// The folder of its run: that of its recipe, or, of a run that lost it, of the autoencoder that it trained; otherwise that
    /// of the training.
    pub fn run(&self) -> PathBuf {
        let training = self.training();
        let recipe = self.recipe_file();
        let own = recipe.as_deref().and_then(Path::parent);
        let above = || training.parent().filter(|above| above.join("autoencoder.safetensors").is_file());
        own.or_else(above).unwrap_or(&training).into()
    }

    /// The weights, in a network of their shape; `load` fills it with those of a file.
    ///
    /// # Errors
    /// If they cannot be read, are damaged or do not fit.
    pub fn load<B: Module>(&self, network: B, load: impl FnOnce(B, Weights) -> Result<B, Error>) -> Result<B, Error> {
        match self {
            Self::File(file) => load(network, Weights::read(file)?),
            Self::Checkpoint(folder) => {
                fill(network, average(folder)?, snapshot::AVERAGE).map_err(|mismatch| unfit(folder, mismatch))
            }
        }
    }

    /// The weights in `network`, which is that of `config`, its classes starting from these rows of their label table.
    ///
    /// # Errors
    /// As [`load`](Self::load); if the weights lack a row that is asked for, or have a row for no class where the network has
    /// none, or the other way round, as far as the recipe beside them tells.
    pub fn load_for_classes(
        &self,
        config: &NetworkConfig,
        network: Network,
        rows: &ClassRows,
    ) -> Result<Network, Error> {
        let null_class = config.null_class();
        let trained = self.recipe_file().and_then(|file| network_of(&file)).map(|network| network.null_class());
        if let Some(found) = trained.filter(|found| *found != null_class) {
            let reason = format!("the weights were trained with null_class {found}, the recipe says {null_class}");
            return Err(fault(&self.file(), reason));
        }
        match self {
            Self::File(file) => {
                Ok(network.load(rows.apply(Network::select_weights(Weights::read(file)?)?, null_class)?)?)
            }
            Self::Checkpoint(folder) => {
                let fault = |reason| fault(folder, reason);
                let mut average = average(folder)?;
                let table = average.iter_mut().find(|(path, _)| path.ends_with(LABEL_TABLE));
                let (_, table) = table.ok_or_else(|| fault(format!("has no {LABEL_TABLE}")))?;
                *table = rows.table(&table.clone().into(), null_class).map_err(fault)?;
                fill(network, average, snapshot::AVERAGE).map_err(|mismatch| unfit(folder, mismatch))
            }
        }
    }

    /// What is chosen of the file where it leaves a choice, see [`Weights::choices`]; `own` takes one network of it.
    ///
    /// # Errors
    /// If the file cannot be read as weights, or holds several networks.
    pub fn chosen(&self, own: impl FnOnce(Weights) -> Result<Weights, Error>) -> Result<Vec<String>, Error> {
        Ok(match self {
            Self::File(file) => own(Weights::read(file)?)?.choices().to_vec(),
            Self::Checkpoint(_) => vec!["the moving average".into()],
        })
    }
}

/// The network of a recipe, if that is one.
fn network_of(recipe: &Path) -> Option<NetworkConfig> {
    let recipe: Value = serde_json::from_slice(&fs::read(recipe).ok()?).ok()?;
    NetworkConfig::deserialize(&recipe["network"]).ok()
}

const AVERAGE: &str = "average.safetensors";

/// The moving average of a checkpoint, if it is a whole network's. What else is in the checkpoint is not read.
fn average(checkpoint: &Path) -> Result<Tensors, Error> {
    let bytes = Manifest::read(checkpoint)?.whole(checkpoint, AVERAGE)?;
    let average = from_safetensors(&bytes).map_err(|reason| damaged(checkpoint, format!("{AVERAGE}: {reason}")))?;
    match average.keys().any(|path| is_of_adapter(path)) {
        true => Err(adapter_alone(checkpoint)),
        false => Ok(average),
    }
}

/// The error of a checkpoint of an adapter where a network is asked for.
pub(super) fn adapter_alone(checkpoint: &Path) -> Error {
    let reason = "holds an adapter without its network, which draws nothing alone: go on with `train --resume` and the run's \
                  --from; its end writes both";
    fault(checkpoint, reason.into())
}

fn unfit(checkpoint: &Path, source: Box<Mismatch>) -> Error {
    Error::Tensors { path: checkpoint.into(), source }
}

fn fault(path: &Path, reason: String) -> Error {
    Error::unfit(path.display(), reason)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::recipe::Recipe;
    use crate::train::{Checkpoints, TrainState};

    fn config() -> NetworkConfig {
        Recipe::read("digits", &["network.width=24".into(), "network.depth=1".into()]).unwrap().network
    }

    fn load(network: Network, weights: Weights) -> Result<Network, Error> {
        Ok(network.load(weights)?)
    }

    #[test]
    fn a_network_is_found_in_files_folders_and_checkpoints() {
        let root = tempfile::tempdir().unwrap();
        let network = config().init(1, &Device::default());
        let run = root.path().join("run");
        fs::create_dir_all(run.join("pretraining")).unwrap();
        network.weights().write(run.join("pretraining/model.safetensors"), &[]).unwrap();
        let checkpoints = Checkpoints::new(run.join("checkpoints"), 2);
        let snapshot = TrainState::new(network.clone()).snapshot();
        let checkpoint = checkpoints.save(&snapshot, &Value::Null).unwrap();

        for (path, file) in [
            (run.clone(), run.join("pretraining/model.safetensors")),
            (run.join("pretraining/model.safetensors"), run.join("pretraining/model.safetensors")),
            (checkpoint.clone(), checkpoint.join("average.safetensors")),
        ] {
            let stored = StoredNetwork::find(&path).unwrap();
            assert_eq!(stored.file(), file);
            let training = if stored.file().starts_with(&checkpoint) { run.clone() } else { run.join("pretraining") };
            assert_eq!((stored.run(), stored.training()), (training.clone(), training));
            let loaded = stored.load(config().init(2, &Device::default()), load).unwrap();
            let bytes = |network: &Network| network.weights().to_safetensors(&[]).unwrap();
            assert!(bytes(&loaded) == bytes(&network), "{}", path.display());
        }
        let stored = StoredNetwork::find(&run).unwrap();
        for part in ["autoencoder.safetensors", "recipe.json"] {
            fs::write(run.join(part), "{}").unwrap();
            assert_eq!((stored.run(), stored.training()), (run.clone(), run.join("pretraining")), "{part}");
        }
    }

    #[test]
    fn of_a_run_that_has_not_ended_the_newest_whole_checkpoint_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let state = TrainState::new(config().init(1, &Device::default()));
        for training in ["single", "comparison/pretraining"] {
            let folder = root.path().join(training).join("checkpoints");
            let checkpoints = Checkpoints::new(&folder, 2);
            for step in [100, 200] {
                let mut snapshot = state.snapshot();
                snapshot.step = step;
                checkpoints.save(&snapshot, &Value::Null).unwrap();
            }
            let run = root.path().join(training.split('/').next().unwrap());
            let found = || StoredNetwork::find(&run);
            assert_eq!(found().unwrap(), StoredNetwork::Checkpoint(folder.join("step-00000200")));
            // One byte less is not whole, and nothing whole is no network.
            for (step, older) in [("step-00000200", true), ("step-00000100", false)] {
                let file = folder.join(step).join("average.safetensors");
                let bytes = fs::read(&file).unwrap();
                fs::write(file, &bytes[1..]).unwrap();
                match found() {
                    Ok(stored) => assert!(older && stored.file().starts_with(folder.join("step-00000100"))),
                    Err(error) => assert!(!older && error.to_string().contains("is damaged"), "{error}"),
                }
            }
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
        let checkpoint = checkpoints.save(&state.snapshot(), &Value::Null).unwrap();
        let other = Recipe::read("digits", &["network.width=48".into(), "network.depth=1".into()]).unwrap().network;
        let stored = StoredNetwork::find(&checkpoint).unwrap();
        let message = stored.load(other.init(0, &Device::default()), load).unwrap_err().to_string();
        assert!(message.contains("mis-shaped") && message.contains("[48]"), "{message}");
    }

    #[test]
    fn weights_for_other_classes_are_a_start_for_these() {
        let root = tempfile::tempdir().unwrap();
        let old = config().init(1, &Device::default());
        let file = root.path().join("model.safetensors");
        old.weights().write(&file, &[]).unwrap();
        let snapshot = TrainState::new(old.clone()).snapshot();
        let checkpoint = Checkpoints::new(root.path(), 2).save(&snapshot, &Value::Null).unwrap();
        let mut config = config();
        match &mut config {
            NetworkConfig::Sit(config) => config.classes = 2,
            other => panic!("digits are learned by a {}", other.name()),
        }
        let rows = ClassRows::parse("cat=7", &["cat".into(), "dog".into()]).unwrap();
        let table = |network: &Network| {
            let weights = network.weights();
            let table = weights.get(LABEL_TABLE).unwrap().data().unwrap();
            table.iter::<f32>().collect::<Vec<_>>().chunks(24).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let from = table(&old);
        for stored in [StoredNetwork::File(file), StoredNetwork::Checkpoint(checkpoint)] {
            let loaded = stored.load_for_classes(&config, config.init(5, &Device::default()), &rows).unwrap();
            assert_eq!(table(&loaded), [7, 10, 10].map(|row| from[row].clone()));
            assert!(stored.load(config.init(5, &Device::default()), load).is_err());
        }
    }
}
