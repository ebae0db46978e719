//! Folders of `diffusers`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use mixflow::backbones::Error;
use mixflow::backbones::autoencoder::{KlAutoencoder, KlAutoencoderConfig};
use mixflow::backbones::diffusers::read_config;
use mixflow::backbones::weights::Weights;
use serde::Deserialize;

use crate::{MmDit, MmDitConfig};

/// What `diffusers` calls the weights of a network, whole or in shards.
const WEIGHTS: [&str; 3] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.fp16.safetensors",
];

/// Transformer, autoencoder and shift of a folder.
pub(crate) fn read(folder: &Path, device: &Device) -> Result<(MmDit, KlAutoencoder, f64), Error> {
    let [transformer, vae] = ["transformer", "vae"].map(|part| folder.join(part));
    for part in [&transformer, &vae] {
        if !part.join("config.json").is_file() {
            let problem = format!(
                "is no folder of Stable Diffusion 3 as diffusers writes it: there is no {}",
                part.join("config.json").display()
            );
            return Err(Error::Format { path: folder.into(), problem });
        }
    }
    // All that is small is read before all that is large.
    let shift = shift(&folder.join("scheduler").join("scheduler_config.json"))?;
    let network = MmDitConfig::from_diffusers(&transformer.join("config.json"))?;
    let autoencoder = KlAutoencoderConfig::from_diffusers(&vae.join("config.json"))?;
    if network.channels != autoencoder.latent_channels {
        let [takes, makes] = [network.channels, autoencoder.latent_channels];
        let problem =
            format!("does not belong together: the transformer has {takes} channels, the autoencoder {makes}");
        return Err(Error::Format { path: folder.into(), problem });
    }
    let [of_network, of_autoencoder] = [weights(&transformer)?, weights(&vae)?];
    Ok((
        network.init(0, device).load(Weights::read(of_network)?)?,
        autoencoder.init(0, device).load(Weights::read(of_autoencoder)?)?,
        shift,
    ))
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
