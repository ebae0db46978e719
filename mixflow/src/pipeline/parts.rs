//! The files that a recipe names, found in a folder or fetched.

use std::fs;
use std::path::{Component, Path, PathBuf};

use mixflow_backbones::autoencoder::KlAutoencoderConfig;
use mixflow_backbones::json::explain;
use mixflow_backbones::not_data::why_not_data;
use mixflow_backbones::weights::Weights;
use mixflow_backbones::{Network, NetworkConfig};
use serde_json::Value;

use super::infer;
use crate::Error;
use crate::recipe::{AutoencoderConfig, NetworkSettings, Recipe};

/// Gets a file of another place by its address, `hf://org/name@revision/file`, and says where on this machine it is.
pub type Fetch<'f, E> = dyn FnMut(&str) -> Result<PathBuf, E> + 'f;

/// The repositories of the autoencoders that the published networks were trained with.
const SIT_AUTOENCODER: &str = "stabilityai/sd-vae-ft-ema";
const REPA_AUTOENCODER: &str = "stabilityai/sd-vae-ft-mse";

/// The repository of RAE's encoder.
const RAE_ENCODER: &str = "facebook/dinov2-with-registers-base";

/// What `diffusers` calls the weights of an autoencoder.
const DIFFUSERS_WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// What an address begins with.
const SCHEME: &str = "hf://";

/// Where the files are looked for that a recipe names.
pub(super) struct Parts<'a, 'f, E> {
    pub(super) folder: &'a Path,
    /// The file of the network.
    pub(super) weights: &'a Path,
    /// Gets files of other repositories; none for a folder of one's own.
    pub(super) fetch: Option<&'a mut Fetch<'f, E>>,
}

impl<E: From<Error>> Parts<'_, '_, E> {
    /// Names the files of a recipe by paths where they are; `rae` are decoder and statistics that lie elsewhere in the folder.
    pub(super) fn locate<N: NetworkSettings>(
        &mut self,
        recipe: &mut Recipe<N>,
        rae: &[Option<String>; 2],
    ) -> Result<(), E> {
        // REPA's networks are those with projectors.
        let published = if recipe.network.projections().is_empty() { SIT_AUTOENCODER } else { REPA_AUTOENCODER };
        match &mut recipe.autoencoder {
            Some(AutoencoderConfig::Kl { network, weights }) => match self.named(weights)? {
                Some(file) => *weights = file,
                None => (*network, *weights) = self.stable_diffusion(weights, published)?,
            },
            Some(AutoencoderConfig::Rae { encoder_weights, decoder_weights, statistics, .. }) => {
                for (path, beside) in [decoder_weights, statistics].into_iter().zip(rae) {
                    *path = match beside {
                        Some(file) => self.folder.join(file),
                        None => self.required(path)?,
                    };
                }
                *encoder_weights = match self.named(encoder_weights)? {
                    Some(file) => file,
                    None => self.encoder(encoder_weights)?,
                };
            }
            Some(AutoencoderConfig::TrainedRae(_)) | None => {}
        }
        recipe.check_autoencoder().map_err(|reason| self.fault(format!("autoencoder.{reason}")))?;
        if let Some(guide) = &mut recipe.sampling.guide {
            guide.weights = self.required(&guide.weights)?;
        }
        Ok(())
    }

    /// The file that a recipe names, if it is there: elsewhere, by its address, or in the folder.
    fn named(&mut self, path: &Path) -> Result<Option<PathBuf>, E> {
        if let Some(address) = path.to_str().filter(|path| path.starts_with(SCHEME)) {
            return self.fetched(address).map(Some);
        }
        // What was downloaded may name files of its own folder only; nor does a path of another machine mean anything.
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let own = inside.then(|| self.folder.join(path)).filter(|path| path.is_file());
        // In a folder of one's own, any path is one's own business: a guide may be the folder of a run.
        let elsewhere = || Some(path.to_path_buf()).filter(|path| self.fetch.is_none() && path.exists());
        // Any network may be called as this one is, and none is its own guide.
        let same_name =
            || Some(self.folder.join(path.file_name()?)).filter(|file| file.is_file() && file != self.weights);
        Ok(own.or_else(elsewhere).or_else(same_name))
    }

    fn required(&mut self, path: &Path) -> Result<PathBuf, E> {
        match self.named(path)? {
            Some(file) => Ok(file),
            None => Err(self.fault(format!("expected {}, which is not there", path.display()))),
        }
    }

    /// The autoencoder in the folder `vae`, or the published one.
    fn stable_diffusion(&mut self, wanted: &Path, published: &str) -> Result<(KlAutoencoderConfig, PathBuf), E> {
        let [config, weights] = ["config.json", DIFFUSERS_WEIGHTS].map(|file| self.folder.join("vae").join(file));
        let [config, weights] = if config.is_file() && weights.is_file() {
            [config, weights]
        } else if self.fetch.is_none() {
            return Err(self.fault(format!(
                "has no autoencoder for the latents of the network: put {} or a folder `vae` with config.json and \
                 {DIFFUSERS_WEIGHTS} there, such as {published} of the Hub",
                wanted.display()
            )));
        } else {
            let config = self.fetched(&format!("{SCHEME}{published}/config.json"))?;
            [config, self.fetched(&format!("{SCHEME}{published}/{DIFFUSERS_WEIGHTS}"))?]
        };
        let config = KlAutoencoderConfig::from_diffusers(&config).map_err(Error::from)?;
        Ok((config, weights))
    }

    /// The file of RAE's encoder: beside the network, or the published one.
    fn encoder(&mut self, wanted: &Path) -> Result<PathBuf, E> {
        let beside = self.folder.join("encoder").join("model.safetensors");
        if beside.is_file() {
            return Ok(beside);
        }
        if self.fetch.is_none() {
            return Err(self.fault(format!(
                "has no encoder: put {} or encoder/model.safetensors there, such as that of {RAE_ENCODER} of the Hub",
                wanted.display()
            )));
        }
        self.fetched(&format!("{SCHEME}{RAE_ENCODER}/model.safetensors"))
    }

    fn fetched(&mut self, address: &str) -> Result<PathBuf, E> {
        match &mut self.fetch {
            Some(fetch) => fetch(address),
            None => Err(self.fault(format!(
                "needs {address}, and a folder is opened without the network: download it first, or open the repository \
                 with mixflow-hub"
            ))),
        }
    }

    fn fault(&self, reason: String) -> E {
        Error::Layout { folder: self.folder.into(), reason }.into()
    }
}

/// The paper's recipe, for the network that the weights in a file belong to; and what was assumed, where the file does not tell.
pub(super) fn published(file: &Path) -> Result<(Recipe, Option<&'static str>), Error> {
    let weights = Network::select_weights(Weights::read(file)?)?;
    let shapes = weights.iter().map(|(name, data)| (name.into(), data.shape().to_vec())).collect();
    let fault = |reason| Error::Layout { folder: weights.source().into(), reason };
    let mut assumed = None;
    let network = match infer::network(&shapes).map_err(fault)? {
        // A DiT has the names and shapes of a SiT; what its file is called tells.
        NetworkConfig::Sit(config) => match is_dit(file) {
            Some(true) => NetworkConfig::Dit(config),
            told => {
                let words =
                    "taken for a SiT: a DiT has the same tensors, and `dit` without `sit` in the name of its file";
                assumed = told.is_none().then_some(words);
                NetworkConfig::Sit(config)
            }
        },
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
    Ok((Recipe { network, ..Recipe::read(name, &[])? }, assumed))
}

/// Whether a file is called as one of DiT or of SiT, with that word in its name: `DiT-XL-2-256x256.pt`, `sit_xl.pt`.
fn is_dit(file: &Path) -> Option<bool> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let has = |word| name.split(|c: char| !c.is_alphabetic()).any(|found| found == word);
    let [dit, sit] = ["dit", "sit"].map(has);
    (dit != sit).then_some(dit)
}

/// The recipe in a file, if it is one: not what another program calls `config.json`.
pub(super) fn read_recipe<N: NetworkSettings>(file: &Path) -> Result<Option<Recipe<N>>, Error> {
    let fault = |reason: String| Error::Layout { folder: file.into(), reason };
    let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
    if let Some(problem) = why_not_data(text.as_bytes()) {
        return Err(fault(problem));
    }
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| fault(format!("is no JSON: {}", explain(&error))))?;
    if value.get("network").is_none() {
        return Ok(None);
    }
    Recipe::parse_value(value).map(Some).map_err(|fault| Error::recipe(file.display(), fault))
}

#[cfg(test)]
mod tests {
    use mixflow_backbones::sit::{SitConfig, official_key};

    use super::*;

    #[test]
    fn a_dit_is_told_from_a_sit_by_the_name_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = SitConfig { depth: 1, classes: 3, input_size: 8, ..SitConfig::small(4) };
        let weights = Weights::of(&config.init(0, &Default::default()), official_key);
        for (name, told) in [
            ("DiT-XL-2-256x256.pt", Some(true)),
            ("facebook_DiT-XL-2-256x256.pt", Some(true)),
            ("dit_xl.pt", Some(true)),
            ("my.dit2.safetensors", Some(true)),
            ("SiT-XL-2-256.pt", Some(false)),
            ("xl-sit.pt", Some(false)),
            ("edited.pt", None),
            ("LightningDiT-XL.pt", None),
            ("from-dit-to-sit.pt", None),
        ] {
            let file = folder.path().join(name);
            weights.write(&file, &[]).unwrap();
            let (found, assumed) = published(&file).unwrap();
            let dit = told == Some(true);
            let recipe = if dit { "dit-xl-2-256" } else { "sit-xl-2-256" };
            assert_eq!((matches!(found.network, NetworkConfig::Dit(_)), found.name.as_str()), (dit, recipe), "{name}");
            assert_eq!((found.objective.learned_variance, assumed.is_some()), (dit, told.is_none()), "{name}");
        }
    }
}
