//! A pipeline as `diffusers` opens it.

use std::fs;
use std::path::{Path, PathBuf};

use mixflow::Pipeline;
use mixflow::backbones::Precision;
use mixflow::backbones::autoencoder::{KlAutoencoderConfig, Naming};
use mixflow::backbones::unfinished::Unfinished;
use mixflow::backbones::weights::Weights;
use mixflow::files::write_atomic;
use mixflow::recipe::{AutoencoderConfig, NetworkSettings};
use mixflow::schedules::{Prediction, ScheduleConfig};
use serde_json::{Value, json};

use crate::recipe::TextEncoderConfig;
use crate::transformer::TransformerConfig;
use crate::{Error, TextNetworkConfig, TextRecipe};

/// A pipeline of `diffusers`, as far as one differs from the other.
struct Target<'a> {
    class: &'static str,
    /// Text encoders and tokenizers, each with its class in Transformers. They are taken from `folder`, as they are there.
    text: &'static [[&'static str; 2]],
    folder: &'a Path,
    /// The `config.json` of the transformer.
    transformer: Value,
    /// Whether time runs from data to noise.
    reversed: bool,
    autoencoder: (&'a KlAutoencoderConfig, &'a Path),
}

const STABLE_DIFFUSION_3: [[&str; 2]; 6] = [
    ["text_encoder", "CLIPTextModelWithProjection"],
    ["text_encoder_2", "CLIPTextModelWithProjection"],
    ["text_encoder_3", "T5EncoderModel"],
    ["tokenizer", "CLIPTokenizer"],
    ["tokenizer_2", "CLIPTokenizer"],
    ["tokenizer_3", "T5TokenizerFast"],
];

const FLUX_1: [[&str; 2]; 4] = [
    ["text_encoder", "CLIPTextModel"],
    ["text_encoder_2", "T5EncoderModel"],
    ["tokenizer", "CLIPTokenizer"],
    ["tokenizer_2", "T5TokenizerFast"],
];

const Z_IMAGE: [[&str; 2]; 2] = [["text_encoder", "Qwen3Model"], ["tokenizer", "Qwen2Tokenizer"]];

impl<'a> Target<'a> {
    /// The pipeline for the network of a recipe, if there is one.
    fn of(recipe: &'a TextRecipe) -> Option<Self> {
        let Some(AutoencoderConfig::Kl { network, weights }) = &recipe.autoencoder else { return None };
        let (class, text, folder, transformer, reversed): (_, &[_], _, _, _) =
            match (&recipe.network.transformer, &recipe.network.text) {
                (TransformerConfig::MmDit(network), TextEncoderConfig::StableDiffusion3 { folder, .. }) => {
                    ("StableDiffusion3Pipeline", &STABLE_DIFFUSION_3, folder, network.to_diffusers(), true)
                }
                (TransformerConfig::Flux(network), TextEncoderConfig::Flux1 { folder, .. }) => {
                    ("FluxPipeline", &FLUX_1, folder, network.to_diffusers(), true)
                }
                (TransformerConfig::ZImage(network), TextEncoderConfig::ZImage { folder, .. }) => {
                    ("ZImagePipeline", &Z_IMAGE, folder, network.to_diffusers(), false)
                }
                _ => return None,
            };
        Some(Self { class, text, folder, transformer, reversed, autoencoder: (network, weights) })
    }

    /// `model_index.json`: which class each part is, of those that there are in `folder`.
    fn index(&self, folder: &Path) -> Value {
        let text = self.text.iter().map(|[part, class]| (*part, "transformers", json!(class)));
        let own = [
            ("scheduler", "diffusers", json!(SCHEDULER)),
            ("transformer", "diffusers", self.transformer["_class_name"].clone()),
            ("vae", "diffusers", json!("AutoencoderKL")),
        ];
        let mut index = json!({"_class_name": self.class, "_diffusers_version": VERSION});
        for (part, library, class) in text.chain(own) {
            index[part] = if folder.join(part).is_dir() { json!([library, class]) } else { json!([null, null]) };
        }
        index
    }
}

/// Of `diffusers`, whose classes these are.
const VERSION: &str = "0.42.1";

const SCHEDULER: &str = "FlowMatchEulerDiscreteScheduler";

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// Writes `pipeline` to a new `folder`, which the `StableDiffusion3Pipeline`, the `FluxPipeline` or the
/// `ZImagePipeline` of `diffusers` opens: its transformer with whatever was added to it, its autoencoder, a scheduler
/// with the shift of its sampling, and the text encoders and tokenizers of the folder that its recipe names, whose
/// weights are linked where the file system can; those in half precision alone get the name that `diffusers` asks for.
/// The transformer is written in 32 bits. What calls of these pipelines say is not in it: steps, guidance (which the
/// `ZImagePipeline` counts from 0, one less than here) and the length of prompts.
///
/// # Errors
/// For a pipeline that is none of Stable Diffusion 3, FLUX.1 or Z-Image, or whose network says something else than
/// velocities on the linear path, reversed but for Z-Image; for one whose weights are rounded to 16 bits; where a text
/// encoder or a tokenizer lacks, but for the third of Stable Diffusion 3; for a folder that is there, and if a file
/// cannot be read or written. The folder appears when it is whole.
pub fn to_diffusers(pipeline: &Pipeline<TextNetworkConfig>, folder: &Path) -> Result<(), Error> {
    let recipe = &pipeline.recipe;
    let fault = |reason: &str| Error::config(folder, reason);
    let other = |reason: &str| Error::config(Path::new(&recipe.name), reason);
    let Some(target) = Target::of(recipe) else {
        return Err(other(
            "diffusers has no pipeline for this network: expected the transformer, the text encoders and the autoencoder of \
             Stable Diffusion 3, of FLUX.1 or of Z-Image",
        ));
    };
    let objective = (recipe.objective.schedule, recipe.objective.prediction);
    if objective != (ScheduleConfig::Linear { reversed: target.reversed, noise: 1.0 }, Prediction::Velocity) {
        let path = if target.reversed { "reversed linear path" } else { "linear path that is not reversed" };
        return Err(other(&format!("diffusers samples this network on the {path} alone, and takes velocities alone")));
    }
    if Precision::is_stored_low(&pipeline.network) {
        return Err(other(
            "its weights are rounded to 16 bits: read them with sampling.precision f32 to write them whole",
        ));
    }
    // Stable Diffusion 3 is published without its third encoder, too.
    let needed = target.text.iter().map(|[part, _]| *part).filter(|part| !part.ends_with("_3"));
    let missing: Vec<String> = needed.filter(|part| !target.folder.join(part).is_dir()).map(Into::into).collect();
    if !missing.is_empty() {
        let reason = format!("has no {}, which network.text.folder is to hold", missing.join(", "));
        return Err(Error::config(target.folder, reason));
    }
    if folder.exists() {
        return Err(fault("is there: expected a new folder"));
    }
    let [inner, outer] = [folder, target.folder].map(|path| std::path::absolute(path).map_err(Error::reading(path)));
    let (inner, outer) = (inner?, outer?);
    if target.text.iter().any(|[part, _]| inner.starts_with(outer.join(part))) {
        return Err(fault("lies in a folder that is part of it: choose another"));
    }
    let partial = Unfinished::of(folder).map_err(|_| fault("is no name for a folder"))?;
    write_parts(pipeline, &target, partial.path())?;
    partial.finish().map_err(Error::io("create", folder))
}

/// The parts in a folder of their own each, and their index.
fn write_parts(pipeline: &Pipeline<TextNetworkConfig>, target: &Target<'_>, partial: &Path) -> Result<(), Error> {
    let recipe = &pipeline.recipe;
    let create = |part: &str| {
        let place = partial.join(part);
        fs::create_dir_all(&place).map_err(Error::io("create", &place)).map(|()| place)
    };
    for [part, _] in target.text {
        let from = target.folder.join(part);
        if from.is_dir() {
            link(&from, &create(part)?)?;
        }
    }
    // That of the folder is for the sampling that was published with it.
    let scheduler = scheduler(&json!(recipe.sampling.sampler.grid)["shift"]);
    write(&create("scheduler")?.join("scheduler_config.json"), &scheduler)?;
    let place = create("transformer")?;
    write(&place.join("config.json"), &target.transformer)?;
    Weights::of(&pipeline.network, recipe.network.official_key()).write(place.join(WEIGHTS), &[("format", "pt")])?;
    let (vae, (autoencoder, weights)) = (create("vae")?, target.autoencoder);
    let mut config = autoencoder.to_diffusers();
    // `enable_tiling` takes it for the side of a tile.
    config["sample_size"] = pipeline.image_shape()[1].into();
    write(&vae.join("config.json"), &config)?;
    let of_vae = Naming::Diffusers.apply(Weights::read(weights)?)?;
    let of_vae = of_vae.ok_or_else(|| Error::config(weights, "is no autoencoder of Stable Diffusion"))?;
    of_vae.write(vae.join(WEIGHTS), &[("format", "pt")])?;
    write(&partial.join("model_index.json"), &target.index(partial))
}

/// The scheduler of a shift as a recipe has it: a number, or one that goes by the size of the images.
fn scheduler(shift: &Value) -> Value {
    let mut scheduler = json!({"_class_name": SCHEDULER, "_diffusers_version": VERSION, "num_train_timesteps": 1000});
    if shift.is_object() {
        scheduler["use_dynamic_shifting"] = true.into();
        scheduler["base_shift"] = shift["base"].clone();
        scheduler["max_shift"] = shift["max"].clone();
        // What these are the shifts at.
        scheduler["base_image_seq_len"] = 256.into();
        scheduler["max_image_seq_len"] = 4096.into();
    } else {
        scheduler["shift"] = shift.clone();
    }
    scheduler
}

fn write(file: &Path, value: &Value) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).unwrap_or_default();
    Ok(write_atomic(file, &text)?)
}

/// The files of a folder, and of those in it: weights as links where the file system can, all else, which people edit, as copies.
/// Weights in half precision alone are given the name of others.
fn link(from: &Path, to: &Path) -> Result<(), Error> {
    const FULL: [&str; 3] = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];
    let half_alone = !FULL.iter().any(|name| from.join(name).exists());
    if half_alone && from.join("model.safetensors.index.fp16.json").exists() {
        let reason = "has weights in half precision alone, in shards, which diffusers opens by `variant` alone: expected one file";
        return Err(Error::config(from, reason));
    }
    let entries = fs::read_dir(from).map_err(Error::reading(from))?;
    for entry in entries {
        let from: PathBuf = entry.map_err(Error::reading(from))?.path();
        let to = match from.file_name().unwrap_or_default() {
            name if half_alone && name == "model.fp16.safetensors" => to.join("model.safetensors"),
            name => to.join(name),
        };
        if from.is_dir() {
            fs::create_dir_all(&to).map_err(Error::io("create", &to))?;
            link(&from, &to)?;
        } else {
            // The cache of the Hub holds links to files: the file itself is meant.
            let file = fs::canonicalize(&from).map_err(Error::reading(&from))?;
            let linked =
                from.extension().is_some_and(|ending| ending == "safetensors") && fs::hard_link(&file, &to).is_ok();
            if !linked {
                fs::copy(&file, &to).map_err(Error::io("create", &to))?;
            }
        }
    }
    Ok(())
}
