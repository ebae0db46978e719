//! A network that a command is given: in a run's folder, or a file of weights.

use std::path::{Component, Path, PathBuf};

use clap::Args;
use mixflow::backbones::{Autoencoder, Network};
use mixflow::evaluate::WeightsFile;
use mixflow::generate::Generator;
use mixflow::recipe::{AutoencoderConfig, Guide, Recipe};
use mixflow::train::StoredNetwork;

use crate::hub::{is_address, named_files, published};
use crate::run::{Result, load};

/// Which network.
#[derive(Args)]
pub(crate) struct TrainedArguments {
    #[arg(
        value_name = "RUN_OR_WEIGHTS",
        help = "The folder of a run or of a published network, a file of weights, or hf://org/name[@revision][/file]"
    )]
    pub(crate) path: PathBuf,
    /// The recipe that the weights belong to [default: recipe.json of the run, or config.json beside the weights]
    #[arg(long)]
    pub(crate) recipe: Option<String>,
    /// Which network of a comparison: pretraining, standard-0, mixflow-1, ... [default: mixflow-0]
    #[arg(long)]
    arm: Option<String>,
}

/// A network, its recipe, what makes images of its latents, what guides it, and where its weights are.
pub(crate) struct Trained {
    pub(crate) recipe: Recipe,
    pub(crate) network: Network,
    pub(crate) autoencoder: Option<Box<dyn Autoencoder>>,
    autoencoder_files: Vec<PathBuf>,
    pub(crate) guide: Option<Guide>,
    pub(crate) weights: PathBuf,
    /// Where what is found out about it goes.
    folder: PathBuf,
}

impl TrainedArguments {
    /// Reads the network, its recipe changed by `set`.
    pub(crate) fn read(&self, set: &[String]) -> Result<Trained> {
        let weights = self.weights()?;
        let recipe = match &self.recipe {
            Some(recipe) => Recipe::read(recipe, set)?,
            None => {
                if is_address(&self.path) {
                    own_files(&recipe_beside(&weights, &[])?, &weights)?;
                }
                recipe_beside(&weights, set)?
            }
        };
        let [_, recipe] = named_files(&recipe)?;
        let network = load(&recipe, &weights)?;
        // What a run trains lies in its folder: that of the weights, or above.
        let ancestors = weights.ancestors().skip(1).take(2);
        let folder = ancestors.filter(|folder| folder.join("autoencoder.safetensors").is_file()).last();
        let folder = folder.unwrap_or(Path::new(""));
        let autoencoder = recipe.autoencoder.as_ref().map(|config| config.load(folder)).transpose()?;
        let autoencoder_files = recipe.autoencoder.as_ref().map_or(vec![], |config| config.files(folder));
        let own = StoredNetwork::File(weights.clone()).recipe_file();
        let guide = recipe.guide(own.as_deref().and_then(Path::parent).unwrap_or(folder))?;
        // A cache is not ours to write to.
        let beside = weights.parent().filter(|_| !is_address(&self.path)).map(PathBuf::from);
        Ok(Trained {
            recipe,
            network,
            autoencoder,
            autoencoder_files,
            guide,
            weights,
            folder: beside.unwrap_or_default(),
        })
    }

    /// The file of the weights.
    pub(crate) fn weights(&self) -> Result<PathBuf> {
        let path = &self.path;
        if is_address(path) {
            return match &self.arm {
                None => published(path),
                Some(_) => Err("--arm chooses inside a run's folder: name the file, as hf://org/name/file".into()),
            };
        }
        let shown = path.display();
        if path.is_file() {
            return match &self.arm {
                None => Ok(path.clone()),
                Some(_) => Err(format!("--arm chooses inside a run's folder, but {shown} is a file").into()),
            };
        }
        if !path.is_dir() {
            return Err(format!("{shown}: expected a run's folder or a file of weights, found neither").into());
        }
        let arms = match &self.arm {
            Some(arm) => vec![arm.as_str()],
            None => vec!["", "mixflow-0", "pretraining"],
        };
        let file = arms.iter().map(|arm| path.join(arm).join("model.safetensors")).find(|file| file.is_file());
        file.ok_or_else(|| {
            let found = networks(path);
            match (&self.arm, found.is_empty()) {
                (_, true) => {
                    format!("{shown} has no finished network: expected model.safetensors in it or one folder below")
                }
                (Some(arm), false) => {
                    format!("{shown} has no finished network {arm}; --arm can be {}", found.join(", "))
                }
                (None, false) => format!("{shown} has several networks; choose one with --arm: {}", found.join(", ")),
            }
            .into()
        })
    }
}

impl Trained {
    /// What makes images with the network.
    pub(crate) fn generator(&self) -> Generator<'_, Network> {
        let (autoencoder, guide) = (self.autoencoder.as_deref(), self.guide.as_ref());
        Generator { autoencoder, guide, ..self.recipe.generator(&self.network) }
    }

    /// Which weights make images of latents.
    pub(crate) fn autoencoder_weights(&self) -> Result<Vec<WeightsFile>> {
        Ok(self.autoencoder_files.iter().map(WeightsFile::read).collect::<std::result::Result<_, _>>()?)
    }

    /// Channels of the images.
    pub(crate) fn image_channels(&self) -> usize {
        let [channels, ..] = self.recipe.network.shape();
        self.recipe.autoencoder.as_ref().map_or(channels, AutoencoderConfig::image_channels)
    }

    /// The folder of the weights, where what is found out about them goes; that of the user for those of the Hub.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The recipe of a run, in the folder of the weights or the one above; or of a published network, beside it.
fn recipe_beside(weights: &Path, set: &[String]) -> Result<Recipe> {
    let Some(file) = StoredNetwork::File(weights.into()).recipe_file() else {
        return Err(format!("{} lies beside no recipe.json: name its recipe with --recipe", weights.display()).into());
    };
    let recipe = Recipe::read(file.to_str().ok_or("expected a path in UTF-8")?, set)?;
    Ok(match file.parent() {
        Some(folder) if file.ends_with("config.json") => recipe.beside(folder),
        _ => recipe,
    })
}

/// Refuses a downloaded recipe that names files of this machine beyond its own folder.
fn own_files(recipe: &Recipe, weights: &Path) -> Result<()> {
    let folder = weights.parent().unwrap_or(Path::new(""));
    let autoencoder = recipe.autoencoder.iter().flat_map(|config| config.files(folder));
    for file in autoencoder.chain(recipe.sampling.guide.iter().map(|guide| guide.weights.clone())) {
        let below = |rest: &Path| rest.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_address(&file) && !file.strip_prefix(folder).is_ok_and(below) {
            let file = file.display();
            return Err(
                format!("its recipe names {file}, which is not in the repository: give another with --recipe").into()
            );
        }
    }
    Ok(())
}

/// The sub-folders with finished networks, sorted.
fn networks(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("model.safetensors").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
