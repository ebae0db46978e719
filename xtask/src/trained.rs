//! A network that a command is given: in a run's folder, or a file of weights.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use mixflow::backbones::NetworkConfig;
use mixflow::data::{DataConfig, Fingerprint, Split};
use mixflow::files::WeightsFile;
use mixflow::launch::{conditioner, verified};
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::train::{StoredNetwork, other_frozen};
use mixflow::{Device, Pipeline, StoredPipeline};
use mixflow_hub::Address;
use serde_json::Value;
use tempfile::TempDir;

use crate::arguments::{Change, as_given};
use crate::hub::{drawing_files, is_address, pinned, published};
use crate::kind::{Any, Kind, TextNetworkConfig, is_text};
use crate::progress::Progress;
use crate::signals::STOP;
use crate::terminal::{Result, note, note_choices};

/// Which network.
#[derive(Args)]
pub(crate) struct TrainedArguments {
    #[arg(
        value_name = "RUN_OR_WEIGHTS",
        help = "The folder of a run, a checkpoint or a published network, a file of weights, or hf://org/name[@revision][/file]; \
                of a run that has not ended, its newest whole checkpoint"
    )]
    pub(crate) path: PathBuf,
    /// The recipe that the weights belong to [default: recipe.json of the run, or config.json beside the weights]
    #[arg(long)]
    pub(crate) recipe: Option<String>,
    /// Which network of a comparison: pretraining, standard-0, mixflow-1, ... [default: mixflow-0, or before it
    /// is there pretraining]
    #[arg(long)]
    pub(crate) arm: Option<String>,
}

/// A network for class labels, or one for text.
pub(crate) type AnyTrained = Any<Trained<NetworkConfig>, Trained<TextNetworkConfig>>;

/// A network with everything that makes images with it, and what its run has written down.
pub(crate) struct Trained<N: NetworkSettings> {
    pub(crate) pipeline: Pipeline<N>,
    /// Where what it is told is kept, unless in a run.
    _elsewhere: Option<TempDir>,
    pub(crate) weights: PathBuf,
    autoencoder_files: Vec<PathBuf>,
    /// The recipe of the run that trained it, where that is at hand.
    own: Option<PathBuf>,
    /// Where what is found out about it goes.
    folder: PathBuf,
    /// What the names of these files end with.
    suffix: String,
    /// The recipe that was given in the place of its own.
    pub(crate) other_recipe: Option<String>,
}

impl TrainedArguments {
    /// Reads the network onto a device, its recipe changed by `changes`.
    pub(crate) fn read(&self, changes: &[Change], device: &Device) -> Result<AnyTrained> {
        let stored = self.stored()?;
        let set: Vec<String> = changes.iter().map(|(_, change)| change.clone()).collect();
        let recipe = self.recipe_file(&stored)?;
        let read = || {
            Ok(match is_text(&recipe) {
                true => Any::Text(self.read_as(stored, &recipe, &set, device)?),
                false => Any::Classes(self.read_as(stored, &recipe, &set, device)?),
            })
        };
        read().map_err(|error| as_given(error, changes))
    }

    /// The name or the file of the recipe that the weights belong to.
    fn recipe_file(&self, stored: &StoredNetwork) -> Result<String> {
        match &self.recipe {
            Some(recipe) => Ok(recipe.clone()),
            None => Ok(beside(stored)?.to_str().ok_or("expected a path in UTF-8")?.into()),
        }
    }

    /// The network for text; what its recipe names of the Hub is fetched.
    pub(crate) fn text(&self) -> Result<StoredPipeline<TextNetworkConfig>> {
        let stored = self.stored()?;
        let recipe = self.recipe_file(&stored)?;
        let recipe = self.recipe_of::<TextNetworkConfig>(&recipe, &[])?;
        let recipe = drawing_files(&recipe)?;
        let run = stored.run();
        Ok(StoredPipeline::new(recipe, stored, run))
    }

    fn read_as<N: Kind>(
        &self,
        stored: StoredNetwork,
        recipe: &str,
        set: &[String],
        device: &Device,
    ) -> Result<Trained<N>> {
        let weights = stored.file();
        if self.recipe.is_none() && is_address(&self.path) {
            own_files(&self.recipe_of::<N>(recipe, &[])?, &weights)?;
        }
        let recipe = self.recipe_of::<N>(recipe, set)?;
        let recipe = drawing_files(&recipe)?;
        // Where the latents that it learned are, they tell whether their autoencoder is the recipe's.
        if matches!(&recipe.data, DataConfig::Latents { path, .. } if path.join("manifest.json").is_file()) {
            recipe.stored_latents()?;
        }
        note_choices(&weights, &stored.chosen(|weights| recipe.network.select_weights(weights))?);
        // What a run trains lies in its folder.
        let autoencoder_files = recipe.autoencoder.as_ref().map_or(vec![], |config| config.files(&stored.run()));
        if recipe.encoding().is_some()
            && let Some(other) = other_frozen(&stored.run(), &autoencoder_files)?
        {
            note(format_args!("warning: {other}: images are others than its own"));
        }
        let mut pipeline = StoredPipeline::new(recipe, stored.clone(), stored.run()).load(device)?;
        let recipe = &pipeline.recipe;
        if let (Some(config), Some(guide)) = (&recipe.sampling.guide, &pipeline.guide) {
            let file = &guide.weights.file;
            let step = file.parent().and_then(Path::file_name);
            if file.ends_with("average.safetensors") && step != config.weights.file_name() {
                note(format_args!("the guide's training has not ended: taking {}", file.display()));
            }
        }
        let beside = stored.recipe_file();
        let is_other = |given: &&String| beside.as_ref().is_some_and(|own| own != Path::new(given));
        let other_recipe = self.recipe.as_ref().filter(is_other).cloned();
        let own = beside.filter(|_| self.recipe.is_none());
        let suffix = match &stored {
            StoredNetwork::Checkpoint(step) => format!("-{}", name_of(step)),
            StoredNetwork::File(file) => suffix_of(file),
        };
        // A cache is not ours to write to; a checkpoint is whole as it is and will make room for newer ones.
        let is_cached = is_address(&self.path) || Address::of_cached(&weights).is_some();
        let folder = if is_cached { PathBuf::new() } else { stored.training() };
        let mut elsewhere = None;
        if recipe.network.reads_names() {
            // What it is told is kept in its run, and nowhere else.
            let run = own.as_deref().filter(|own| own.ends_with("recipe.json")).and_then(Path::parent);
            let kept = match run {
                Some(run) => run,
                None => elsewhere.insert(tempfile::tempdir()?).path(),
            };
            let names = label_names(recipe, own.as_deref().and_then(Path::parent).unwrap_or(&folder))?;
            let stored = match &recipe.data {
                DataConfig::Latents { path, .. } if path.is_dir() => Some(path.as_path()),
                _ => None,
            };
            let mut progress = Progress::new();
            let ready =
                conditioner(&recipe.network, &names, stored, kept, device, &STOP, &mut |event| progress.launch(&event));
            pipeline.conditioner = ready?;
            progress.end();
        }
        Ok(Trained { pipeline, _elsewhere: elsewhere, weights, autoencoder_files, own, folder, suffix, other_recipe })
    }

    /// The recipe of a name or a file; one that lies beside a published network names files beside it.
    fn recipe_of<N: Kind>(&self, recipe: &str, set: &[String]) -> Result<Recipe<N>> {
        let (read, file) = (N::read(recipe, set)?, Path::new(recipe));
        Ok(match file.parent() {
            Some(folder) if self.recipe.is_none() && file.ends_with("config.json") => read.beside(folder),
            _ => read,
        })
    }

    /// The same at the commit that is noted for an address, or else that it stands for now.
    pub(crate) fn pinned(&self, noted: Option<&Value>) -> Result<Self> {
        let Self { path, recipe, arm } = self;
        Ok(Self { path: pinned(path, noted)?, recipe: recipe.clone(), arm: arm.clone() })
    }

    /// The file of the weights, or the folder of the checkpoint.
    pub(crate) fn weights(&self) -> Result<PathBuf> {
        Ok(match self.stored()? {
            StoredNetwork::File(path) | StoredNetwork::Checkpoint(path) => path,
        })
    }

    /// Where the weights are; what was chosen in a run that has not ended is said.
    fn stored(&self) -> Result<StoredNetwork> {
        let path = &self.path;
        if is_address(path) {
            return match &self.arm {
                None => Ok(StoredNetwork::File(published(path)?)),
                Some(_) => Err("--arm chooses inside a run's folder: name the file, as hf://org/name/file".into()),
            };
        }
        let shown = path.display();
        if let Some(error) = fs::metadata(path).err().filter(|error| error.kind() == ErrorKind::PermissionDenied) {
            return Err(format!("cannot read {shown}: {error}").into());
        }
        if path.is_file() {
            if let (Some("recipe.json"), Some(run)) = (path.file_name().and_then(|name| name.to_str()), path.parent()) {
                return Err(format!("{shown} is the recipe of a run: name its folder, {}", run.display()).into());
            }
            return match &self.arm {
                None => Ok(StoredNetwork::File(path.clone())),
                Some(_) => Err(format!("--arm chooses inside a run's folder, but {shown} is a file").into()),
            };
        }
        if !path.is_dir() {
            return Err(
                format!("{shown}: expected a run's folder, a checkpoint or a file of weights, found none").into()
            );
        }
        if path.join("average.safetensors").is_file() {
            return match &self.arm {
                None => Ok(StoredNetwork::find(path)?),
                Some(_) => Err(format!("--arm chooses inside a run's folder, but {shown} is a checkpoint").into()),
            };
        }
        let arms: Vec<PathBuf> = match &self.arm {
            // What was published from the run lies there too, and is none.
            Some(arm) => vec![path.join(arm)].into_iter().filter(|arm| !arm.join("config.json").is_file()).collect(),
            None => ["", "mixflow-0", "pretraining"].map(|arm| path.join(arm)).into(),
        };
        let in_training = |arm: &&PathBuf| arm.join("checkpoints").is_dir();
        if let Some(finished) = arms.iter().position(|arm| arm.join("model.safetensors").is_file()) {
            if let Some(arm) = arms[..finished].iter().find(in_training) {
                note(format_args!("{} has not ended: taking {}", arm.display(), arms[finished].display()));
            }
            return Ok(StoredNetwork::File(arms[finished].join("model.safetensors")));
        }
        if let Some(arm) = arms.iter().find(in_training) {
            let stored = StoredNetwork::find(arm)?;
            let file = stored.file();
            let checkpoint = file.parent().unwrap_or(arm).display();
            note(format_args!("its training has not ended: taking the checkpoint {checkpoint}"));
            return Ok(stored);
        }
        let found = networks(path);
        let whole = path.join("model.safetensors").is_file() || path.join("checkpoints").is_dir();
        Err(match (&self.arm, found.is_empty()) {
            (Some(_), true) if whole => format!("{shown} is the run of one network: leave out --arm"),
            (_, true) => {
                format!("{shown} has no network: expected model.safetensors or checkpoints in it or one folder below")
            }
            (Some(arm), false) => format!("{shown} has no network {arm}; --arm can be {}", found.join(", ")),
            (None, false) => format!("{shown} has several networks; choose one with --arm: {}", found.join(", ")),
        }
        .into())
    }
}

impl<N: Kind> Trained<N> {
    /// Its training and its held-out data.
    pub(crate) fn parts(&self, held_out: usize) -> Result<(Split, Split)> {
        Ok(self.divided()?.parts(held_out)?)
    }

    /// The recipe with what its run divided the data by, whatever images are drawn with; the data must be those of the run:
    /// of others, what was held out is not known.
    pub(crate) fn divided(&self) -> Result<Recipe<N>> {
        self.check_data()?;
        let mut recipe = self.pipeline.recipe.clone();
        if let Some(own) = &self.own {
            let own = N::read(own.to_str().ok_or("expected a path in UTF-8")?, &[])?;
            (recipe.seed, recipe.post_training) = (own.seed, own.post_training);
        }
        Ok(recipe)
    }

    /// Whether its run began with weights that it was given: what these have seen is not known.
    pub(crate) fn began_elsewhere(&self) -> bool {
        self.run().is_some_and(|run| run.join("start.json").is_file())
    }

    /// The folder of the run.
    fn run(&self) -> Option<&Path> {
        self.own.as_deref().and_then(Path::parent)
    }

    /// The names of its classes, as the run has recorded them; none where it has not.
    pub(crate) fn class_names(&self) -> Result<Vec<String>> {
        self.run().map_or(Ok(vec![]), |run| recorded_names(&self.pipeline.recipe, run))
    }

    /// Refuses data that changed since the run learned from them.
    fn check_data(&self) -> Result<()> {
        let Some(old) = self.run().map(Fingerprint::read).transpose()?.flatten() else { return Ok(()) };
        match old.difference(&self.pipeline.recipe.data.open()?.fingerprint()?) {
            None => Ok(()),
            Some(changes) => {
                let advice = "measure with the data as they were, or images against images";
                Err(format!("the data are not those that the run learned from, {changes}: {advice}").into())
            }
        }
    }

    /// Which weights make images of latents.
    pub(crate) fn autoencoder_weights(&self) -> Result<Vec<WeightsFile>> {
        Ok(self.autoencoder_files.iter().map(WeightsFile::read).collect::<std::result::Result<_, _>>()?)
    }

    /// Channels, height and width of the images.
    pub(crate) fn image_shape(&self) -> Result<[usize; 3]> {
        let Recipe { autoencoder, data, name, .. } = &self.pipeline.recipe;
        if autoencoder.is_none() && matches!(data, DataConfig::Latents { .. }) {
            return Err(format!(
                "{name}: the network makes latents: name the autoencoder that made those it learned, as `autoencoder`"
            )
            .into());
        }
        Ok(self.pipeline.image_shape())
    }

    /// Says what the stored latents are that the network learned, if it learned any, and compares them with their hashes; not
    /// those again that its run has found whole.
    pub(crate) fn check_latents(&self) -> Result<()> {
        let mut progress = Progress::new();
        verified(&self.pipeline.recipe, &self.folder, &mut |event| progress.launch(&event))?;
        progress.end();
        Ok(())
    }

    /// Where what is found out about the weights goes: beside them, of a checkpoint beside the others, to the user for those of
    /// the Hub; with a name of their own in its name, unless they are the end of a training; by another recipe than
    /// theirs it is not told of them.
    pub(crate) fn result(&self, name: &str) -> Option<PathBuf> {
        self.other_recipe.is_none().then(|| self.folder.join(format!("{name}{}.json", self.suffix)))
    }
}

/// What tells the results of weights from those of others beside them: the end of a training has none, an earlier one its
/// step, as its checkpoint has.
fn suffix_of(weights: &Path) -> String {
    match weights.file_stem().unwrap_or_default().to_string_lossy() {
        stem if stem == "model" => String::new(),
        stem => format!("-{}", stem.strip_prefix("model-").unwrap_or(&stem)),
    }
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into()
}

/// The recipe of a run, in the folder of the weights or above; or of a published network, beside it.
fn beside(stored: &StoredNetwork) -> Result<PathBuf> {
    let none = || {
        format!("{} lies beside no recipe.json or config.json: name its recipe with --recipe", stored.file().display())
    };
    Ok(stored.recipe_file().ok_or_else(none)?)
}

/// The names of the labels of a recipe, as its run has recorded them; none where it has not.
fn recorded_names<N: NetworkSettings>(recipe: &Recipe<N>, run: &Path) -> Result<Vec<String>> {
    let names = Fingerprint::read(run)?.map_or_else(Vec::new, |data| data.classes);
    Ok(if names.len() == recipe.network.classes() { names } else { vec![] })
}

/// The same, or those of the data where the network is told them.
fn label_names<N: NetworkSettings>(recipe: &Recipe<N>, run: &Path) -> Result<Vec<String>> {
    let recorded = recorded_names(recipe, run)?;
    Ok(if recorded.is_empty() && recipe.network.reads_names() { recipe.open()?.classes().to_vec() } else { recorded })
}

/// Refuses a downloaded recipe that names files of this machine beyond its own folder.
fn own_files<N: NetworkSettings>(recipe: &Recipe<N>, weights: &Path) -> Result<()> {
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

/// The sub-folders with networks, finished or in training, sorted.
fn networks(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        // What was published is a copy.
        .filter(|entry| !entry.path().join("config.json").is_file())
        .filter(|entry| entry.path().join("model.safetensors").is_file() || entry.path().join("checkpoints").is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
