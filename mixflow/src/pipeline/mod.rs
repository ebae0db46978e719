//! A trained network with everything that makes images with it, from the folder that it lies in.

mod infer;
mod layout;
mod parts;
mod stored;

pub use layout::{Layout, UnknownLayout};
pub use parts::Fetch;
pub use stored::StoredPipeline;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use mixflow_backbones::lora::Adapter;
use mixflow_backbones::{Autoencoder, NetworkConfig};
use serde::Serialize;

use crate::data::{Conditioner, Unlabelled};
use crate::evaluation::Generator;
use crate::files::WeightsFile;
use crate::recipe::{ConditionOf, Guide, NetworkSettings, Recipe};
use crate::sampling::Images;
use crate::{Error, device};

/// A trained network with everything that makes images with it, whatever it is told: classes, prompts, nothing, or what a
/// network of your own is told.
///
/// ```no_run
/// use mixflow::{Export, Pipeline};
///
/// let pipeline = Pipeline::from_folder("runs/digits", &Default::default())?;
/// let images = pipeline.images(&[2, 0, 7, 9], 0)?;
/// Export::new("images.png", pipeline.image_channels())?.write(4, 2, [Ok(images)])?;
/// # Ok::<(), mixflow::Error>(())
/// ```
///
/// The crate `mixflow-hub` opens repositories, `mixflow-t2i` puts a text encoder before one.
pub struct Pipeline<N: NetworkSettings = NetworkConfig> {
    /// The network's recipe: shape, path, sampling.
    pub recipe: Recipe<N>,
    /// The network, without autodiff.
    pub network: N::Network,
    /// What it is told of labels. A network that is told what labels are called, see [`NetworkSettings::reads_names`], is
    /// [`Unlabelled`] until it is given another.
    pub conditioner: Arc<dyn Conditioner<ConditionOf<N>>>,
    /// What makes images of its latents, unless it makes images itself.
    pub autoencoder: Option<Box<dyn Autoencoder>>,
    /// The weaker network that it is guided away from, where the recipe has one.
    pub guide: Option<Guide>,
    /// Devices that share the drawing with the network's, see [`Generator::beside`]; at first none.
    pub beside: Vec<Device>,
    sources: Vec<String>,
    adapters: Vec<AddedAdapter>,
}

/// An adapter that was added to a network's weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AddedAdapter {
    /// SHA-256 of its files: the weights, and their `adapter_config.json` where there is one.
    pub sha256: Vec<String>,
    /// The factor on its product, 1 for the adapter as it was trained.
    pub strength: f64,
}

impl<N: NetworkSettings> Pipeline<N> {
    /// The network at a path, as [`StoredNetwork::find`](crate::train::StoredNetwork::find) finds it: of a run, a checkpoint, a file of weights or a published
    /// folder, with the recipe that lies beside it or above.
    ///
    /// # Errors
    /// If there is none, or no recipe of such a network; if a file that the recipe names is not there, or does not fit.
    pub fn of_run(path: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        StoredPipeline::of_run(path)?.load(device)
    }

    /// As [`of_run`](Self::of_run), of what was downloaded: it may name files of its own folder alone, and those that `fetch`
    /// gets.
    ///
    /// # Errors
    /// As [`of_run`](Self::of_run), and those of `fetch`.
    pub fn of_run_with<E: From<Error>>(
        path: impl AsRef<Path>,
        device: &Device,
        fetch: Option<&mut Fetch<'_, E>>,
    ) -> Result<Self, E> {
        Ok(StoredPipeline::of_run_with(path, fetch)?.load(device)?)
    }

    /// A network that is in memory, on its device, with what else `recipe` names, by paths that hold as they are; `run` is the
    /// folder of its run or publication, for what that has trained and recorded.
    ///
    /// # Errors
    /// If a file is not there, cannot be read or does not fit.
    pub fn of_network(recipe: Recipe<N>, network: N::Network, run: &Path) -> Result<Self, Error> {
        let device = &device::of(&network);
        let files = recipe.autoencoder.iter().flat_map(|config| config.files(run));
        let files = files.chain(recipe.sampling.guide.iter().map(|guide| guide.weights.clone()));
        let sources = files.map(|file| file.display().to_string()).collect();
        let guide = recipe.guide(run, device)?;
        let autoencoder = recipe.autoencoder.as_ref().map(|config| config.load(run, device)).transpose()?;
        let conditioner = match recipe.network.reads_names() {
            true => Arc::new(Unlabelled),
            false => recipe.network.conditioner(&[], run, device, &mut |_| Ok(()))?,
        };
        Ok(Self { recipe, network, conditioner, autoencoder, guide, beside: vec![], sources, adapters: vec![] })
    }

    /// Adds an adapter to the network's weights, or beside those that are stored in 16 bits, see [`Adapter::fuse`]; several one after
    /// another. Returns what was
    /// [left out](Adapter::left_out) of its file.
    ///
    /// # Errors
    /// If it cannot be read, or is one of another network: then the network is as it was.
    pub fn add_adapter(&mut self, file: impl AsRef<Path>, strength: f64) -> Result<Vec<String>, Error> {
        let (settings, file) = (&self.recipe.network, file.as_ref());
        let adapter = settings.adapter(Adapter::read(file)?)?;
        let inside = Adapter::FILES.iter().chain(&["adapter_config.json"]).map(|name| file.join(name));
        let inside: Vec<_> = inside.filter(|file| file.is_file()).collect();
        let beside = file.with_file_name("adapter_config.json");
        let alone = [file.to_path_buf()].into_iter().chain(Some(beside).filter(|beside| beside.is_file()));
        let files = if inside.is_empty() { alone.collect() } else { inside };
        let sha256 = files.iter().map(|file| Ok(WeightsFile::read(file)?.sha256)).collect::<Result<_, Error>>()?;
        self.network = adapter.fuse(self.network.clone(), settings.official_key(), strength)?;
        self.adapters.push(AddedAdapter { sha256, strength });
        Ok(adapter.left_out().to_vec())
    }

    /// What was [added](Self::add_adapter) to the network's weights, one after another.
    pub fn adapters(&self) -> &[AddedAdapter] {
        &self.adapters
    }

    /// One image a label, from the noise of the recipe's seed and `first` on: images of other numbers are other images.
    ///
    /// # Errors
    /// If the network does not know a label, or sampling fails.
    pub fn images(&self, labels: &[usize], first: u64) -> Result<Images, Error> {
        self.generator().images(labels, first)
    }

    /// The network with its sampler.
    pub fn generator(&self) -> Generator<'_, N::Network> {
        let (autoencoder, guide) = (self.autoencoder.as_deref(), self.guide.as_ref());
        let generator = self.recipe.generator(&self.network, &self.conditioner);
        Generator { autoencoder, guide, beside: &self.beside, ..generator }
    }

    /// Channels, height and width of the images.
    pub fn image_shape(&self) -> [usize; 3] {
        let shape = self.recipe.network.shape();
        self.recipe.autoencoder.as_ref().map_or(shape, |autoencoder| autoencoder.image_shape(shape))
    }

    /// Channels of the images.
    pub fn image_channels(&self) -> usize {
        self.image_shape()[0]
    }

    /// Which files the weights came from, and which part of them: for people to read.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }
}

impl Pipeline {
    /// The network in a folder.
    ///
    /// # Layouts
    /// - Ours: the recipe as `config.json` (or `recipe.json`, in a run's folder) and `model.safetensors`, whole or in shards
    ///   behind `model.safetensors.index.json`. Files of the autoencoder and a guide are named in the recipe: relative to the
    ///   folder, or, in what was downloaded, as `hf://org/name@revision/file`. And what else [`of_run`](Self::of_run) opens.
    /// - A published SiT, REPA, `LightningDiT` or DiT^DH: one file of weights, `.pt` or `.safetensors`. Which network and
    ///   size it is tell the names and shapes of its tensors; how to sample, the paper's recipe.
    /// - RAE's collection: `DiTs/…/stage2_model.pt`, `decoders/…/model.pt`, `stats/…/stat.pt`, `DiT^DH-XL` at 256 px first;
    ///   of other shapes than the published ones, with a recipe of ours above as `config.json`.
    /// - The autoencoder of Stable Diffusion beside or in `vae`, as `diffusers` has it. Where a download has none, the one
    ///   that the network was trained with is fetched.
    ///
    /// A training checkpoint with several networks gives the averaged one. A DiT has the tensors of a SiT, and is known by the
    /// word `dit` in the name of its file: `DiT-XL-2-256x256.pt`, `dit_xl.pt`; without either word a SiT is assumed.
    /// [`sources`](Self::sources) tells both.
    ///
    /// # Errors
    /// If the folder has none of the layouts, lacks a file, or a file does not fit.
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        StoredPipeline::in_folder(folder)?.load(device)
    }

    /// As [`from_folder`](Self::from_folder), of what was downloaded: see [`of_run_with`](Self::of_run_with).
    ///
    /// # Errors
    /// As [`from_folder`](Self::from_folder), and those of `fetch`.
    pub fn from_folder_with<E: From<Error>>(
        folder: impl AsRef<Path>,
        device: &Device,
        fetch: Option<&mut Fetch<'_, E>>,
    ) -> Result<Self, E> {
        Ok(StoredPipeline::in_folder_with(folder, fetch)?.load(device)?)
    }
}

/// Shows a pipeline without its weights.
impl<N: NetworkSettings> fmt::Debug for Pipeline<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recipe, sources, .. } = self;
        f.debug_struct("Pipeline").field("recipe", recipe).field("sources", sources).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Tensor;
    use mixflow_backbones::Backbone;
    use mixflow_backbones::weights::Weights;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;
    use crate::data::{Classes, Unconditional};
    use crate::train::{Checkpoints, TrainState};

    /// A network that is told nothing.
    #[derive(Module, Debug)]
    struct Untold {
        linear: Linear,
    }

    impl Backbone for Untold {
        type Condition = ();

        fn forward(&self, x: Tensor<4>, _: Tensor<1>, _: ()) -> Tensor<4> {
            self.linear.forward(x)
        }
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct UntoldConfig {
        side: usize,
    }

    impl NetworkSettings for UntoldConfig {
        type Network = Untold;

        fn name(&self) -> &str {
            "untold"
        }

        fn shape(&self) -> [usize; 3] {
            [1, self.side, self.side]
        }

        fn classes(&self) -> usize {
            10
        }

        fn init(&self, _: u64, device: &Device) -> Untold {
            Untold { linear: LinearConfig::new(self.side, self.side).init(device) }
        }

        fn conditioner(
            &self,
            _: &[String],
            _: &Path,
            _: &Device,
            _: &mut dyn FnMut(usize) -> Result<(), Error>,
        ) -> Result<Arc<dyn Conditioner<()>>, Error> {
            Ok(Arc::new(Unconditional))
        }
    }

    fn recipe<N: NetworkSettings>(network: &Value) -> Recipe<N> {
        Recipe::parse_value(json!({
            "name": "tiny", "network": network, "data": { "kind": "digits", "size": 8 },
            "training": { "steps": 1, "batch": 1 }, "sampling": { "solver": { "kind": "heun" }, "grid": { "steps": 2 } },
            "objective": { "condition_dropout": 0.0 }
        }))
        .unwrap()
    }

    /// Opens a run that was stopped, its checkpoint and, once there is one, its file of weights.
    fn check<N: NetworkSettings>(
        recipe: &Recipe<N>,
        conditioner: &dyn Conditioner<ConditionOf<N>>,
        open: impl Fn(&Path) -> Result<Pipeline<N>, Error>,
    ) {
        let run = tempfile::tempdir().unwrap();
        let network = recipe.network.init(1, &Device::default());
        let expected = recipe.generator(&network, conditioner).images(&[3, 1], 5).unwrap();
        fs::write(run.path().join("recipe.json"), recipe.to_value().to_string()).unwrap();
        assert!(open(run.path()).is_err());
        let checkpoints = Checkpoints::new(run.path().join("checkpoints"), 2);
        let step = checkpoints.save(&TrainState::new(network.clone()).snapshot(), &Value::Null).unwrap();
        for path in [run.path(), &step] {
            let pipeline = open(path).unwrap();
            assert_eq!(pipeline.images(&[3, 1], 5).unwrap(), expected, "{}", path.display());
            assert_eq!((pipeline.image_channels(), pipeline.sources()), (1, &[step.display().to_string()][..]));
        }
        fs::remove_dir_all(run.path().join("checkpoints")).unwrap();
        let arm = run.path().join("mixflow-0");
        for training in [arm.as_path(), run.path()] {
            fs::create_dir_all(training).unwrap();
            let file = training.join("model.safetensors");
            Weights::of(&network, recipe.network.official_key()).write(&file, &[]).unwrap();
            let pipeline = open(training).unwrap();
            assert_eq!(pipeline.images(&[3, 1], 5).unwrap(), expected, "{}", training.display());
            assert_eq!(pipeline.sources(), [file.display().to_string()]);
        }
    }

    #[test]
    fn a_run_is_opened_whatever_its_network_is_told() {
        let device = Device::default();
        check::<UntoldConfig>(&recipe(&json!({ "side": 8 })), &Unconditional, |path| Pipeline::of_run(path, &device));
        let sit = json!({
            "kind": "sit", "input_size": 8, "patch": 4, "channels": 1, "width": 16, "depth": 1, "heads": 2, "hidden": 32,
            "classes": 10
        });
        check::<NetworkConfig>(&recipe(&sit), &Classes(10), |path| Pipeline::of_run(path, &device));
        check(&recipe(&sit), &Classes(10), |path| Pipeline::from_folder(path, &device));
    }
}
