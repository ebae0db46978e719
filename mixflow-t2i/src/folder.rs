//! Folders of `diffusers`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use mixflow::Pipeline;
use mixflow::backbones::autoencoder::KlAutoencoderConfig;
use mixflow::backbones::diffusers::{is_config, read_config};
use mixflow::backbones::{Error, Precision};
use mixflow::recipe::AutoencoderConfig;
use mixflow::train::StoredNetwork;
use serde::Deserialize;

use crate::recipe::{TextEncoderConfig, published};
use crate::{MmDitConfig, MmJitConfig, TextNetworkConfig, TextRecipe, TextSampling};

/// What `diffusers` calls the weights of a network, whole or in shards.
const WEIGHTS: [&str; 3] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.fp16.safetensors",
];

/// The networks of a folder that `diffusers` has written, such as a download of `stabilityai/stable-diffusion-3.5-medium`:
/// `transformer` and `vae` with their weights in one file or in shards, and the shift of `scheduler`; or `transformer` of
/// MiniT2I. Sampling is that of the official pipeline, the seed 0; both can be changed.
///
/// It has no labels: images are made of a [`TextEmbedding`](crate::TextEmbedding), see
/// [`Generator::draw`](mixflow::Generator::draw), or behind an encoder by [`TextPipeline`](crate::TextPipeline).
///
/// # Errors
/// If a file is missing or describes something else, or weights do not fit.
pub fn from_diffusers(folder: impl AsRef<Path>, device: &Device) -> Result<Pipeline<TextNetworkConfig>, crate::Error> {
    let folder = folder.as_ref();
    let (recipe, weights) = recipe_of(folder)?;
    Ok(Pipeline::load(recipe, &StoredNetwork::File(weights), folder, device)?)
}

/// What a folder of `diffusers` holds, as a recipe, and the weights of its transformer.
pub(crate) fn recipe_of(folder: &Path) -> Result<(TextRecipe, PathBuf), crate::Error> {
    let transformer = folder.join("transformer");
    match is_config(&transformer.join("config.json"), MmJitConfig::CLASS) {
        true => Ok((minit2i(folder, &transformer)?, weights(&transformer)?)),
        false => Ok((stable_diffusion(folder, &transformer)?, weights(&transformer)?)),
    }
}

/// A MiniT2I, whose text encoder lies in `text_encoder` and `tokenizer`.
fn minit2i(folder: &Path, transformer: &Path) -> Result<TextRecipe, crate::Error> {
    let network = MmJitConfig::from_diffusers(&transformer.join("config.json"))?;
    let tokens = network.context_length;
    let text = TextEncoderConfig::FlanT5 { folder: folder.into(), tokens, precision: Precision::F32 };
    let network = TextNetworkConfig { transformer: network.into(), text, prompts: 1 };
    Ok(TextRecipe { seed: 0, network, ..published("minit2i-b-16")? })
}

fn stable_diffusion(folder: &Path, transformer: &Path) -> Result<TextRecipe, crate::Error> {
    let vae = folder.join("vae");
    let fault = |problem| Error::Format { path: folder.into(), problem };
    for part in [transformer, &vae] {
        if !part.join("config.json").is_file() {
            return Err(fault(format!(
                "is no folder of Stable Diffusion 3 as diffusers writes it: there is no {}",
                part.join("config.json").display()
            ))
            .into());
        }
    }
    let sampling = TextSampling::diffusers(shift(&folder.join("scheduler").join("scheduler_config.json"))?);
    let network = MmDitConfig::from_diffusers(&transformer.join("config.json"))?;
    let autoencoder = KlAutoencoderConfig::from_diffusers(&vae.join("config.json"))?;
    if network.channels != autoencoder.latent_channels {
        let [takes, makes] = [network.channels, autoencoder.latent_channels];
        return Err(fault(format!(
            "does not belong together: the transformer has {takes} channels, the autoencoder {makes}"
        ))
        .into());
    }
    Ok(TextRecipe {
        seed: 0,
        network: TextNetworkConfig {
            transformer: network.into(),
            text: TextEncoderConfig::StableDiffusion3 { folder: folder.into(), precision: Precision::F32 },
            prompts: 1,
        },
        autoencoder: Some(AutoencoderConfig::Kl { network: autoencoder, weights: weights(&vae)? }),
        sampling: sampling.map_err(mixflow::Error::from)?.sampling,
        validation: None,
        post_training: None,
        ..published("sd3.5-medium-mixflow")?
    })
}

fn weights(folder: &Path) -> Result<PathBuf, Error> {
    let found = WEIGHTS.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| Error::Format {
        path: folder.into(),
        problem: format!("has no weights: expected {}", WEIGHTS.join(" or ")),
    })
}

/// `scheduler/scheduler_config.json`, of `diffusers` 0.42; what is not named has the class's default.
#[derive(Deserialize)]
struct Scheduler {
    #[serde(default = "one")]
    shift: f64,
    #[serde(default = "thousand")]
    num_train_timesteps: u64,
    shift_terminal: Option<f64>,
    #[serde(default)]
    use_dynamic_shifting: bool,
    #[serde(default)]
    invert_sigmas: bool,
    #[serde(default)]
    use_karras_sigmas: bool,
    #[serde(default)]
    use_exponential_sigmas: bool,
    #[serde(default)]
    use_beta_sigmas: bool,
    #[serde(default)]
    stochastic_sampling: bool,
}

fn one() -> f64 {
    1.0
}

fn thousand() -> u64 {
    1000
}

/// The shift of a scheduler that does nothing else.
fn shift(file: &Path) -> Result<f64, Error> {
    let scheduler: Scheduler = read_config(file, "FlowMatchEulerDiscreteScheduler")?;
    let fault = |problem: String| Err(Error::Format { path: file.into(), problem });
    let others = [
        ("use_dynamic_shifting", scheduler.use_dynamic_shifting),
        ("invert_sigmas", scheduler.invert_sigmas),
        ("use_karras_sigmas", scheduler.use_karras_sigmas),
        ("use_exponential_sigmas", scheduler.use_exponential_sigmas),
        ("use_beta_sigmas", scheduler.use_beta_sigmas),
        ("stochastic_sampling", scheduler.stochastic_sampling),
        ("shift_terminal", scheduler.shift_terminal.is_some()),
    ];
    if let Some((name, _)) = others.iter().find(|(_, set)| *set) {
        return fault(format!("asks for {name}, which no Stable Diffusion 3 has: only `shift` is known here"));
    }
    if scheduler.num_train_timesteps != 1000 {
        return fault(format!("has {} training steps; expected 1000", scheduler.num_train_timesteps));
    }
    if !(scheduler.shift.is_finite() && scheduler.shift > 0.0) {
        return fault(format!("has the shift {}; expected one above 0", scheduler.shift));
    }
    Ok(scheduler.shift)
}
