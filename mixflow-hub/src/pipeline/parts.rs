//! The pieces of a pipeline, from a folder and, where there is a client, from other repositories.

use std::fs;
use std::path::{Path, PathBuf};

use mixflow::backbones::autoencoder::KlAutoencoderConfig;
use mixflow::backbones::mistaken::instead_of_data;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Network, NetworkConfig};
use mixflow::data::Classes;
use mixflow::recipe::{AutoencoderConfig, Recipe};
use serde_json::Value;

use super::layout::Layout;
use super::{Pipeline, infer};
use crate::cache::relative;
use crate::progress::Tell;
use crate::{Address, Client, Error, Repository, Revision};

/// The autoencoders that the published networks were trained with.
const SIT_AUTOENCODER: &str = "stabilityai/sd-vae-ft-ema";
const REPA_AUTOENCODER: &str = "stabilityai/sd-vae-ft-mse";

/// RAE's encoder.
const RAE_ENCODER: &str = "facebook/dinov2-with-registers-base";

/// What `diffusers` calls the weights of an autoencoder.
const DIFFUSERS_WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// Where to look for pieces.
pub(super) struct Parts<'a> {
    pub(super) folder: &'a Path,
    /// The file of the network.
    pub(super) weights: PathBuf,
    /// None where the network must not be touched.
    pub(super) client: Option<&'a Client>,
    pub(super) tell: Tell<'a>,
    pub(super) sources: Vec<String>,
}

impl Parts<'_> {
    pub(super) fn pipeline(mut self, layout: &Layout) -> Result<Pipeline, Error> {
        let weights = Network::own(Weights::read(self.folder.join(&layout.weights))?)?;
        self.sources.push(weights.source().into());
        let recipe = layout.recipe.as_ref().map(|recipe| read_recipe(&self.folder.join(recipe))).transpose()?;
        let mut recipe = match recipe.flatten() {
            Some(recipe) => recipe,
            None => published(&weights)?,
        };
        if let Some(autoencoder) = recipe.autoencoder.take() {
            recipe.autoencoder = Some(self.located(autoencoder, layout, &recipe)?);
        }
        if let Some(guide) = &mut recipe.sampling.guide {
            guide.weights = self.required(None, &guide.weights)?;
            self.sources.push(guide.weights.display().to_string());
        }
        let guide = recipe.guide(self.folder)?;
        let network = recipe.network.init(recipe.seed, &Default::default()).load(weights)?;
        let autoencoder = recipe.autoencoder.as_ref().map(|config| config.load(self.folder)).transpose()?;
        let classes = Classes(recipe.network.classes());
        Ok(Pipeline { recipe, network, autoencoder, guide, classes, sources: self.sources })
    }

    /// The autoencoder with paths of files that are there.
    fn located(
        &mut self,
        autoencoder: AutoencoderConfig,
        layout: &Layout,
        recipe: &Recipe,
    ) -> Result<AutoencoderConfig, Error> {
        Ok(match autoencoder {
            AutoencoderConfig::Kl { network, weights } => {
                let (network, weights) = match self.named(&weights)? {
                    Some(file) => (network, file),
                    None => self.stable_diffusion(&weights, &recipe.network)?,
                };
                self.sources.push(weights.display().to_string());
                AutoencoderConfig::Kl { network, weights }
            }
            AutoencoderConfig::Rae { encoder, decoder, encoder_weights, decoder_weights, statistics } => {
                let beside = |index: usize| Some(self.folder.join(layout.rae[index].as_ref()?));
                let (decoder_beside, statistics_beside) = (beside(0), beside(1));
                let decoder_weights = self.required(decoder_beside, &decoder_weights)?;
                let statistics = self.required(statistics_beside, &statistics)?;
                let encoder_weights = match self.named(&encoder_weights)? {
                    Some(file) => file,
                    None => self.encoder(&encoder_weights)?,
                };
                for file in [&encoder_weights, &decoder_weights, &statistics] {
                    self.sources.push(file.display().to_string());
                }
                AutoencoderConfig::Rae { encoder, decoder, encoder_weights, decoder_weights, statistics }
            }
            trained @ AutoencoderConfig::TrainedRae(_) => {
                self.sources.push(self.folder.join("autoencoder.safetensors").display().to_string());
                trained
            }
        })
    }

    /// The file that a recipe names, if it is there: of another repository, by its [`Address`], or in the folder.
    fn named(&mut self, path: &Path) -> Result<Option<PathBuf>, Error> {
        if let Some(address) = path.to_str().filter(|path| Address::is_one(path)) {
            let address: Address = address.parse()?;
            let Some(file) = &address.file else {
                return Err(self.fault(format!("{address} names no file: expected hf://org/name@revision/file")));
            };
            return self.fetched(&address.repository, &address.revision(), file).map(Some);
        }
        // What was downloaded may name files of its own folder only; nor does a path of another machine mean anything.
        let inside = path.to_str().is_some_and(relative);
        let own = inside.then(|| self.folder.join(path)).filter(|path| path.is_file());
        let same_name = || Some(self.folder.join(path.file_name()?)).filter(|path| path.is_file());
        // In a folder of one's own, any path is one's own business: a guide may be the folder of a run.
        let elsewhere = || Some(path.to_path_buf()).filter(|path| self.client.is_none() && path.exists());
        // Any network may be called as this one is, and none is its own guide.
        let same_name = || same_name().filter(|file| *file != self.weights);
        Ok(own.or_else(elsewhere).or_else(same_name))
    }

    fn required(&mut self, beside: Option<PathBuf>, path: &Path) -> Result<PathBuf, Error> {
        let file = match beside {
            Some(file) => Some(file),
            None => self.named(path)?,
        };
        file.ok_or_else(|| self.fault(format!("expected {}, which is not there", path.display())))
    }

    /// The autoencoder in `vae`, or the published one.
    fn stable_diffusion(
        &mut self,
        wanted: &Path,
        network: &NetworkConfig,
    ) -> Result<(KlAutoencoderConfig, PathBuf), Error> {
        let [config, weights] = ["config.json", DIFFUSERS_WEIGHTS].map(|file| self.folder.join("vae").join(file));
        if config.is_file() && weights.is_file() {
            return Ok((KlAutoencoderConfig::from_diffusers(&config)?, weights));
        }
        let repository = if matches!(network, NetworkConfig::Repa(_)) { REPA_AUTOENCODER } else { SIT_AUTOENCODER };
        if self.client.is_none() {
            return Err(self.fault(format!(
                "has no autoencoder for the latents of the network: put {} or a folder `vae` with config.json and \
                 {DIFFUSERS_WEIGHTS} there, such as {repository} of the Hub",
                wanted.display()
            )));
        }
        let config = self.published(repository, "config.json")?;
        Ok((KlAutoencoderConfig::from_diffusers(&config)?, self.published(repository, DIFFUSERS_WEIGHTS)?))
    }

    /// RAE's encoder, beside or published.
    fn encoder(&mut self, wanted: &Path) -> Result<PathBuf, Error> {
        let beside = self.folder.join("encoder").join("model.safetensors");
        if beside.is_file() {
            return Ok(beside);
        }
        if self.client.is_none() {
            return Err(self.fault(format!(
                "has no encoder: put {} or encoder/model.safetensors there, such as that of {RAE_ENCODER} of the Hub",
                wanted.display()
            )));
        }
        self.published(RAE_ENCODER, "model.safetensors")
    }

    /// A file of a published network.
    fn published(&mut self, repository: &str, file: &str) -> Result<PathBuf, Error> {
        self.fetched(&repository.parse()?, &Revision::default(), file)
    }

    fn fetched(&mut self, repository: &Repository, revision: &Revision, file: &str) -> Result<PathBuf, Error> {
        let Some(client) = self.client else {
            return Err(self.fault(format!(
                "needs {file} of {repository}, and a folder is opened without the network: download it first, or use \
                 `Pipeline::open`"
            )));
        };
        client.file(repository, revision, file, |event| (self.tell)(event))
    }

    fn fault(&self, reason: String) -> Error {
        Error::Layout { folder: self.folder.into(), reason }
    }
}

/// The paper's recipe, for the network that the weights belong to.
fn published(weights: &Weights) -> Result<Recipe, Error> {
    let shapes = weights.iter().map(|(name, data)| (name.into(), data.shape().to_vec())).collect();
    let fault = |reason| Error::Layout { folder: weights.source().into(), reason };
    let network = match infer::network(&shapes).map_err(fault)? {
        // A DiT has the names and shapes of a SiT; what its file is called tells.
        NetworkConfig::Sit(config) if is_dit(weights.source()) => NetworkConfig::Dit(config),
        network => network,
    };
    let [_, side, _] = network.shape();
    let name = match network {
        NetworkConfig::Sit(_) if side == 64 => "paper/sit-xl-2-512",
        NetworkConfig::Sit(_) => "paper/sit-xl-2-256",
        NetworkConfig::Repa(_) => "paper/repa-xl-2-256",
        NetworkConfig::LightningDit(_) => "paper/lightning-dit-xl-256",
        NetworkConfig::DitDh(_) if side == 32 => "paper/dit-dh-xl-512",
        NetworkConfig::DitDh(_) => "paper/dit-dh-xl-256",
        NetworkConfig::Dit(_) => "paper/dit-xl-2-256",
    };
    Ok(Recipe { network, ..Recipe::read(name, &[])? })
}

/// Whether a file is called as those of DiT are: `DiT-XL-2-256x256.pt`.
fn is_dit(source: &str) -> bool {
    let name = Path::new(source).file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("DiT-")
}

/// The recipe in a file, if it is one: not what another program calls `config.json`.
fn read_recipe(file: &Path) -> Result<Option<Recipe>, Error> {
    let fault = |reason: String| Error::Layout { folder: file.into(), reason };
    let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
    if let Some(problem) = instead_of_data(text.as_bytes()) {
        return Err(fault(problem));
    }
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| fault(format!("is no JSON: {}", mixflow::backbones::json::explain(&error))))?;
    if value.get("network").is_none() {
        return Ok(None);
    }
    Recipe::from_value(value).map(Some).map_err(fault)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use mixflow::backbones::sit::{SitConfig, official_key};

    use super::*;

    #[test]
    fn a_dit_is_told_from_a_sit_by_the_name_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = SitConfig { depth: 1, classes: 3, input_size: 8, ..SitConfig::small(4) };
        let weights = Weights::of(&config.init(0, &Default::default()), official_key);
        for (name, is_dit, recipe) in
            [("DiT-XL-2-256x256.pt", true, "dit-xl-2-256"), ("SiT-XL-2-256.pt", false, "sit-xl-2-256")]
        {
            let file = folder.path().join(name);
            weights.write(&file, &[]).unwrap();
            let found = published(&Weights::read(&file).unwrap()).unwrap();
            assert_eq!((matches!(found.network, NetworkConfig::Dit(_)), found.name.as_str()), (is_dit, recipe));
            assert_eq!(found.objective.learned_variance, is_dit);
        }
    }
}
