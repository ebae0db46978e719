//! Images from a repository or a folder.

mod fetch;
mod infer;
mod layout;
mod parts;
#[cfg(feature = "t2i")]
mod text;

use std::fmt;
use std::path::Path;

use mixflow::backbones::{Autoencoder, Network};
use mixflow::data::Classes;
use mixflow::evaluation::Generator;
use mixflow::recipe::{AutoencoderConfig, Guide, Recipe};
use mixflow::sampling::Images;

use crate::address::SCHEME;
use crate::pattern::literally;
use crate::progress::Tell;
use crate::{Address, Client, Error, Progress, Repository, Revision};
#[cfg(feature = "t2i")]
pub use text::text_from_hub;

use layout::Layout;
use parts::Parts;

/// A trained network with everything that makes images with it.
///
/// ```no_run
/// use mixflow::sampling::Export;
/// use mixflow_hub::Pipeline;
///
/// let pipeline = Pipeline::from_hub("org/name")?;
/// let images = pipeline.images(&[207, 360, 387, 974], 0)?;
/// Export::new("images.png", pipeline.image_channels())?.write(4, 2, [Ok(images)])?;
/// # Ok::<(), mixflow_hub::Error>(())
/// ```
///
/// # Layouts
/// - Ours: the recipe as `config.json` (or `recipe.json`, in a run's folder) and `model.safetensors`, whole or in shards
///   behind `model.safetensors.index.json`. Files of the autoencoder and a guide are named in the recipe: relative to the folder, or
///   as `hf://org/name@revision/file`, an [`Address`].
/// - A published SiT, REPA, `LightningDiT` or DiT^DH: one file of weights, `.pt` or `.safetensors`. Which network and size
///   it is tell the names and shapes of its tensors; how to sample, the paper's recipe.
/// - RAE's collection: `DiTs/…/stage2_model.pt`, `decoders/…/model.pt`, `stats/…/stat.pt`, `DiT^DH-XL` at 256 px first; of
///   other shapes than the published ones, with a recipe of ours above as `config.json`.
/// - The autoencoder of Stable Diffusion beside or in `vae`, as `diffusers` has it. Where a repository has none, the one
///   that the network was trained with is fetched.
///
/// A training checkpoint with several networks gives the averaged one; [`sources`](Self::sources) tells.
pub struct Pipeline {
    /// The network's recipe: shape, path, sampling.
    pub recipe: Recipe,
    /// The network.
    pub network: Network,
    /// What makes images of its latents, unless it makes images itself.
    pub autoencoder: Option<Box<dyn Autoencoder>>,
    /// The weaker network that it is guided away from, where the recipe has one.
    pub guide: Option<Guide>,
    classes: Classes,
    sources: Vec<String>,
}

impl Pipeline {
    /// The network in a repository of the Hub, `org/name` or `org/name@revision`, with what the environment says about
    /// server, token and cache. Progress is not shown; [`open`](Self::open) tells it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_hub(repository: &str) -> Result<Self, Error> {
        let client = Client::from_env()?;
        if !repository.contains('@') && !Address::is_one(repository) {
            return Self::open(&client, &repository.parse()?, &Revision::default(), |_| {});
        }
        let address = address_of(repository)?;
        match &address.file {
            None => Self::open(&client, &address.repository, &address.revision(), |_| {}),
            Some(_) => {
                let reason = "names a file, which alone is no pipeline: leave it out";
                Err(Error::Name { what: "the address", name: address.to_string(), reason })
            }
        }
    }

    /// The network in a repository at a revision. Only the files that are needed are fetched.
    ///
    /// # Errors
    /// As [`Client::snapshot`], and [`from_folder`](Self::from_folder).
    pub fn open(
        client: &Client,
        repository: &Repository,
        revision: &Revision,
        mut tell: impl FnMut(Progress<'_>),
    ) -> Result<Self, Error> {
        let tell: Tell<'_> = &mut tell;
        let (commit, names) = client.names(repository, revision, &mut *tell)?;
        let layout = Layout::of(&names).map_err(|reason| Error::Layout {
            folder: client.cache().folder().join(repository.folder_name()),
            reason,
        })?;
        let (wanted, pinned) = (layout.wanted(&names), Revision::from(commit));
        let wanted: Vec<String> = wanted.iter().map(|name| literally(name)).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let snapshot = client.snapshot(repository, &pinned, &wanted, &mut *tell)?;
        let weights = snapshot.folder.join(&layout.weights);
        Parts { folder: &snapshot.folder, weights, client: Some(client), tell, sources: vec![] }.pipeline(&layout)
    }

    /// The network in a folder. The network is not touched.
    ///
    /// # Errors
    /// If the folder has none of the layouts, lacks a file, or a file does not fit.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let names = layout::names(folder)?;
        let layout = Layout::of(&names).map_err(|reason| Error::Layout { folder: folder.into(), reason })?;
        let weights = folder.join(&layout.weights);
        Parts { folder, weights, client: None, tell: &mut |_| {}, sources: vec![] }.pipeline(&layout)
    }

    /// One image a label, from the noise of the recipe's seed and `first` on: images of other numbers are other images.
    ///
    /// # Errors
    /// If a label is none of the network's classes, or sampling fails.
    pub fn images(&self, labels: &[usize], first: u64) -> Result<Images, Error> {
        Ok(self.generator().images(labels, first)?)
    }

    /// The network with its sampler.
    pub fn generator(&self) -> Generator<'_, Network> {
        let (autoencoder, guide) = (self.autoencoder.as_deref(), self.guide.as_ref());
        Generator { autoencoder, guide, ..self.recipe.generator(&self.network, &self.classes) }
    }

    /// Channels of the images.
    pub fn image_channels(&self) -> usize {
        let [channels, ..] = self.recipe.network.shape();
        self.recipe.autoencoder.as_ref().map_or(channels, AutoencoderConfig::image_channels)
    }

    /// Which files the weights came from, and which part of them: for people to read.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }
}

/// The address of `org/name` or `org/name@revision`, with or without what stands before one.
fn address_of(repository: &str) -> Result<Address, Error> {
    format!("{SCHEME}{}", repository.trim_start_matches(SCHEME)).parse()
}

/// Without the weights.
impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recipe, sources, .. } = self;
        f.debug_struct("Pipeline").field("recipe", recipe).field("sources", sources).finish_non_exhaustive()
    }
}
