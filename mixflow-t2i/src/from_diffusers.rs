//! Folders of `diffusers`.

use std::path::{Path, PathBuf};

use mixflow::StoredPipeline;
use mixflow::backbones::autoencoder::KlAutoencoderConfig;
use mixflow::backbones::diffusers::read_config;
use mixflow::backbones::{Error, Precision};
use mixflow::recipe::AutoencoderConfig;
use mixflow::sampling::Guidance;
use mixflow::schedules::{Shift, TokenShift};
use mixflow::train::StoredNetwork;
use serde::Deserialize;

use crate::recipe::{TextEncoderConfig, published};
use crate::text::{FluxEncoders, ZImageEncoder};
use crate::{
    FluxConfig, MmDitConfig, MmJitConfig, TextNetworkConfig, TextRecipe, TextSampling, TransformerConfig, ZImageConfig,
};

/// What `diffusers` calls the weights of a network, whole or in shards.
const WEIGHTS: [&str; 3] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.fp16.safetensors",
];

/// The networks of a folder that `diffusers` has written, such as a download of `stabilityai/stable-diffusion-3.5-medium`:
/// `transformer` and `vae` with their weights in one file or in shards, and the shift of `scheduler`, of FLUX.1 and Z-Image, too; or
/// `transformer` of MiniT2I. Sampling is that of the official pipeline, in 32 bits, the seed 0; both can be changed before they are
/// read.
///
/// They have no labels: images are made of a [`TextEmbedding`](crate::TextEmbedding), see
/// [`Generator::draw`](mixflow::Generator::draw), or behind an encoder by [`TextPipeline`](crate::TextPipeline).
///
/// # Errors
/// If a file is missing or describes something else.
pub fn from_diffusers(folder: impl AsRef<Path>) -> Result<StoredPipeline<TextNetworkConfig>, crate::Error> {
    let folder = folder.as_ref();
    let transformer = folder.join("transformer");
    let config = transformer.join("config.json");
    check_part(folder, &config)?;
    let network = TransformerConfig::from_diffusers(&config)?;
    // What makes pixels has no autoencoder.
    if !matches!(network, TransformerConfig::MmJit(_)) {
        check_part(folder, &folder.join("vae").join("config.json"))?;
    }
    let recipe = match network {
        TransformerConfig::MmDit(network) => stable_diffusion(folder, network)?,
        TransformerConfig::MmJit(network) => minit2i(folder, network)?,
        TransformerConfig::Flux(network) => flux(folder, network)?,
        TransformerConfig::ZImage(network) => z_image(folder, network)?,
    };
    Ok(StoredPipeline::new(recipe, StoredNetwork::File(weights(&transformer)?), folder))
}

/// The width of MiniT2I-L/16, and what it is guided by, as the README of `minit2i-torch` says; the recipe of B/16 has its own.
const LARGE: usize = 1248;
const LARGE_GUIDANCE: f64 = 6.0;

/// A MiniT2I, whose text encoder lies in `text_encoder` and `tokenizer`.
fn minit2i(folder: &Path, network: MmJitConfig) -> Result<TextRecipe, crate::Error> {
    let (tokens, width) = (network.context_length, network.width);
    let text = TextEncoderConfig::FlanT5 { folder: folder.into(), tokens, precision: Precision::F32 };
    let network = TextNetworkConfig { transformer: network.into(), text, prompts: 1, encoder: None };
    let mut recipe = TextRecipe { seed: 0, network, ..published("minit2i-b-16")? };
    if width >= LARGE {
        let large = |guidance: Guidance| guidance.with_scale(LARGE_GUIDANCE).expect("it is finite");
        recipe.sampling.guidance = recipe.sampling.guidance.map(large);
    }
    Ok(recipe)
}

/// A FLUX.1. That of few steps is told no guidance and is not shifted by the size; one that is shifted so and told none was made of
/// that of many.
fn flux(folder: &Path, network: FluxConfig) -> Result<TextRecipe, crate::Error> {
    let side = network.input_size;
    let scheduler = Scheduler::read(folder)?;
    let shift = scheduler.by_size()?.for_latents([side; 2]);
    let (sampling, tokens) = match network.guidance.is_some() || scheduler.use_dynamic_shifting {
        true => (TextSampling::flux_1_dev(shift), FluxEncoders::T5_LENGTH),
        false => (TextSampling::flux_1_schnell(shift), FluxEncoders::SCHNELL_T5_LENGTH),
    };
    let mut sampling = sampling.map_err(mixflow::Error::from)?;
    if network.guidance.is_none() {
        sampling.sampling.distilled_guidance = None;
    }
    let text = TextEncoderConfig::Flux1 { folder: folder.into(), tokens, precision: Precision::F32 };
    of_latents(folder, network.into(), text, sampling, "flux.1-dev-mixflow")
}

/// A Z-Image. That of few steps, Turbo, is published with a shift of its own.
fn z_image(folder: &Path, network: ZImageConfig) -> Result<TextRecipe, crate::Error> {
    let sampling = match Scheduler::read(folder)?.fixed()? {
        TURBO => TextSampling::z_image_turbo(TURBO),
        shift => TextSampling::z_image(shift),
    };
    let (tokens, precision) = (ZImageEncoder::LENGTH, Precision::F32);
    let text = TextEncoderConfig::ZImage { folder: folder.into(), tokens, precision };
    of_latents(folder, network.into(), text, sampling.map_err(mixflow::Error::from)?, "z-image-lora-mixflow")
}

/// The shift of Z-Image-Turbo; that of Z-Image is 6.
const TURBO: f64 = 3.0;

/// A Stable Diffusion 3.
fn stable_diffusion(folder: &Path, network: MmDitConfig) -> Result<TextRecipe, crate::Error> {
    let sampling = TextSampling::diffusers(Scheduler::read(folder)?.fixed()?);
    let text = TextEncoderConfig::StableDiffusion3 { folder: folder.into(), precision: Precision::F32 };
    of_latents(folder, network.into(), text, sampling.map_err(mixflow::Error::from)?, "sd3.5-medium-mixflow")
}

/// Refuses a folder without the `config.json` of a part.
fn check_part(folder: &Path, config: &Path) -> Result<(), Error> {
    if config.is_file() {
        return Ok(());
    }
    Err(Error::Format {
        path: folder.into(),
        problem: format!(
            "is no folder of Stable Diffusion 3, FLUX.1 or Z-Image as diffusers writes it: there is no {}",
            config.display()
        ),
    })
}

/// The recipe of a network on the latents of the `vae` in a folder, otherwise that of the post-training of this name.
fn of_latents(
    folder: &Path,
    transformer: TransformerConfig,
    text: TextEncoderConfig,
    sampling: TextSampling,
    name: &str,
) -> Result<TextRecipe, crate::Error> {
    let vae = folder.join("vae");
    let autoencoder = KlAutoencoderConfig::from_diffusers(&vae.join("config.json"))?;
    let ([takes, ..], makes) = (transformer.shape(), autoencoder.latent_channels);
    if takes != makes {
        let problem =
            format!("does not belong together: the transformer has {takes} channels, the autoencoder {makes}");
        return Err(Error::Format { path: folder.into(), problem }.into());
    }
    Ok(TextRecipe {
        seed: 0,
        network: TextNetworkConfig { transformer, text, prompts: 1, encoder: None },
        autoencoder: Some(AutoencoderConfig::Kl { network: autoencoder, weights: weights(&vae)? }),
        adapter: None,
        sampling: sampling.sampling,
        validation: None,
        post_training: None,
        ..published(name)?
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
#[serde(default)]
struct Scheduler {
    shift: f64,
    num_train_timesteps: u64,
    shift_terminal: Option<f64>,
    use_dynamic_shifting: bool,
    base_shift: f64,
    max_shift: f64,
    base_image_seq_len: usize,
    max_image_seq_len: usize,
    time_shift_type: String,
    invert_sigmas: bool,
    use_karras_sigmas: bool,
    use_exponential_sigmas: bool,
    use_beta_sigmas: bool,
    stochastic_sampling: bool,
    #[serde(skip)]
    file: PathBuf,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            shift: 1.0,
            num_train_timesteps: 1000,
            shift_terminal: None,
            use_dynamic_shifting: false,
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            time_shift_type: "exponential".into(),
            invert_sigmas: false,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            stochastic_sampling: false,
            file: PathBuf::new(),
        }
    }
}

impl Scheduler {
    /// That of a folder, if it shifts and does nothing else.
    fn read(folder: &Path) -> Result<Self, Error> {
        let file = folder.join("scheduler").join("scheduler_config.json");
        let scheduler = Self { file: file.clone(), ..read_config(&file, "FlowMatchEulerDiscreteScheduler")? };
        let others = [
            ("invert_sigmas", scheduler.invert_sigmas),
            ("use_karras_sigmas", scheduler.use_karras_sigmas),
            ("use_exponential_sigmas", scheduler.use_exponential_sigmas),
            ("use_beta_sigmas", scheduler.use_beta_sigmas),
            ("stochastic_sampling", scheduler.stochastic_sampling),
            ("shift_terminal", scheduler.shift_terminal.is_some()),
        ];
        if let Some((name, _)) = others.iter().find(|(_, set)| *set) {
            return Err(scheduler.unknown(name));
        }
        if scheduler.num_train_timesteps != 1000 {
            return Err(scheduler.fault(format!("has {} training steps; expected 1000", scheduler.num_train_timesteps)));
        }
        if !(scheduler.shift.is_finite() && scheduler.shift > 0.0) {
            return Err(scheduler.fault(format!("has the shift {}; expected one above 0", scheduler.shift)));
        }
        Ok(scheduler)
    }

    /// A shift that does not go by the size of the images.
    fn fixed(&self) -> Result<f64, Error> {
        if self.use_dynamic_shifting { Err(self.unknown("use_dynamic_shifting")) } else { Ok(self.shift) }
    }

    /// One that may go by the size, here of images of 1024 pixels.
    fn by_size(&self) -> Result<Shift, Error> {
        if !self.use_dynamic_shifting {
            return Ok(Shift::Factor(self.shift));
        }
        let line = (self.base_image_seq_len, self.max_image_seq_len, self.time_shift_type.as_str());
        if line != (256, 4096, "exponential") {
            let reason =
                format!("shifts by {line:?}; expected base_image_seq_len 256, max_image_seq_len 4096, exponential");
            return Err(self.fault(reason));
        }
        Ok(Shift::Tokens(TokenShift { tokens: 4096, base: self.base_shift, max: self.max_shift }))
    }

    fn unknown(&self, name: &str) -> Error {
        self.fault(format!("asks for {name}, which this network does not have: only `shift` is known here"))
    }

    fn fault(&self, problem: String) -> Error {
        Error::Format { path: self.file.clone(), problem }
    }
}
