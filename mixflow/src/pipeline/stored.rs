//! A pipeline that was found and is yet to be read.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use mixflow_backbones::weights::Weights;
use mixflow_backbones::{Backbone, NetworkConfig};

use super::Pipeline;
use super::layout::{self, Layout, UnknownLayout};
use super::parts::{self, Fetch, Parts};
use crate::Error;
use crate::recipe::{NetworkSettings, Recipe, adapter_beside};
use crate::train::StoredNetwork;

/// A trained network where it lies, with its recipe: what is to be otherwise is changed before anything is read.
///
/// ```no_run
/// use mixflow::backbones::Precision;
/// use mixflow::pipeline::StoredPipeline;
///
/// let mut stored = StoredPipeline::in_folder("SiT-XL-2-256.pt")?;
/// stored.recipe.sampling.precision = Precision::Bf16;
/// let pipeline = stored.load(&Default::default())?;
/// # Ok::<(), mixflow::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoredPipeline<N: NetworkSettings = NetworkConfig> {
    /// The network's recipe, whose files are at paths that hold as they are.
    pub recipe: Recipe<N>,
    /// The weights.
    pub network: StoredNetwork,
    /// The folder of the run or publication, for what that has trained and recorded.
    pub folder: PathBuf,
    /// What was assumed of the weights, for people to read.
    assumed: Option<&'static str>,
}

impl<N: NetworkSettings> StoredPipeline<N> {
    /// Of parts.
    pub fn new(recipe: Recipe<N>, network: StoredNetwork, folder: impl Into<PathBuf>) -> Self {
        Self { recipe, network, folder: folder.into(), assumed: None }
    }

    /// The network at a path, as [`Pipeline::of_run`] opens it.
    ///
    /// # Errors
    /// If there is none, or no recipe of such a network; if a file that the recipe names is not there.
    pub fn of_run(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::of_run_with(path, None)
    }

    /// As [`of_run`](Self::of_run), of what was downloaded: it may name files of its own folder alone, and those that `fetch`
    /// gets.
    ///
    /// # Errors
    /// As [`of_run`](Self::of_run), and those of `fetch`.
    pub fn of_run_with<E: From<Error>>(path: impl AsRef<Path>, fetch: Option<&mut Fetch<'_, E>>) -> Result<Self, E> {
        let path = path.as_ref();
        let fault = |path: &Path, reason: &str| Error::Layout { folder: path.into(), reason: reason.into() };
        let stored = StoredNetwork::find(path)?;
        let none = || fault(path, "lies beside no recipe.json or config.json that says what network it is");
        let file = stored.recipe_file().ok_or_else(none)?;
        let mut recipe = parts::read_recipe(&file)?.ok_or_else(|| fault(&file, "is no recipe: it has no `network`"))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        Parts { folder, weights: &stored.file(), fetch }.locate(&mut recipe, &[None, None])?;
        Ok(Self::new(recipe, stored, folder))
    }

    /// Reads it all onto a device. Where images are drawn in 16 bits, the weights that are rounded for that are kept so from the
    /// first on, in half the memory. The adapter of a run, which is in its weights, is taken out of them for that, and stays beside them.
    ///
    /// # Errors
    /// If a file is not there, cannot be read or does not fit.
    pub fn load(self, device: &Device) -> Result<Pipeline<N>, Error> {
        let Self { recipe, network: stored, folder, assumed } = self;
        let own =
            |file: &Path| Ok::<_, Error>(recipe.network.select_weights(Weights::read(file)?)?.source().to_string());
        let mut source = match &stored {
            StoredNetwork::File(file) => own(file)?,
            StoredNetwork::Checkpoint(folder) => folder.display().to_string(),
        };
        source.extend(assumed.map(|assumed| format!(", {assumed}")));
        let (precision, network) = (recipe.sampling.precision, recipe.network.init(recipe.seed, device));
        let computes = precision.is_supported(device) && network.in_precision(precision).is_some();
        let network = if computes { precision.of_frozen(network) } else { network };
        let adapter = match (&stored, &recipe.adapter) {
            (StoredNetwork::File(file), Some(_)) if computes && !precision.is_full() => adapter_beside(file)?,
            _ => None,
        };
        let mut network = stored.load(network, |network, weights| {
            let taken_out = adapter.iter().fold(weights, |weights, adapter| adapter.added_to(weights, -1.0));
            recipe.network.load(network, taken_out)
        })?;
        if let Some(adapter) = adapter {
            network = adapter.fuse(network, recipe.network.official_key(), 1.0)?;
        }
        let mut pipeline = Pipeline::of_network(recipe, network, &folder)?;
        pipeline.sources.insert(0, source);
        Ok(pipeline)
    }
}

impl StoredPipeline {
    /// The network in a folder, as [`Pipeline::from_folder`] opens it.
    ///
    /// # Errors
    /// If the folder has none of the layouts, or lacks a file.
    pub fn in_folder(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Self::in_folder_with(folder, None)
    }

    /// As [`in_folder`](Self::in_folder), of what was downloaded: see [`of_run_with`](Self::of_run_with).
    ///
    /// # Errors
    /// As [`in_folder`](Self::in_folder), and those of `fetch`.
    pub fn in_folder_with<E: From<Error>>(
        folder: impl AsRef<Path>,
        fetch: Option<&mut Fetch<'_, E>>,
    ) -> Result<Self, E> {
        let folder = folder.as_ref();
        let own = StoredNetwork::find(folder).ok().and_then(|stored| stored.recipe_file());
        if own.map(|file| parts::read_recipe::<NetworkConfig>(&file)).transpose()?.flatten().is_some() {
            return Self::of_run_with(folder, fetch);
        }
        let fault = |unknown: UnknownLayout| Error::Layout { folder: folder.into(), reason: unknown.to_string() };
        let layout = Layout::of(&layout::names(folder)?).map_err(fault)?;
        let weights = folder.join(&layout.weights);
        let recipe = layout.recipe.as_ref().map(|recipe| parts::read_recipe(&folder.join(recipe))).transpose()?;
        let (mut recipe, assumed) = match recipe.flatten() {
            Some(recipe) => (recipe, None),
            None => parts::published(&weights)?,
        };
        Parts { folder, weights: &weights, fetch }.locate(&mut recipe, &layout.rae)?;
        Ok(Self { assumed, ..Self::new(recipe, StoredNetwork::File(weights), folder) })
    }
}
