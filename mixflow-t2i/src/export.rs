//! A pipeline as `diffusers` opens it.

use std::fs;
use std::path::{Path, PathBuf};

use mixflow::Pipeline;
use mixflow::backbones::autoencoder::{KlAutoencoderConfig, Naming};
use mixflow::backbones::weights::Weights;
use mixflow::files::write_atomic;
use mixflow::recipe::{AutoencoderConfig, NetworkSettings};
use mixflow::schedules::ScheduleConfig;
use serde_json::{Value, json};

use crate::recipe::TextEncoderConfig;
use crate::transformer::TransformerConfig;
use crate::{Error, MmDitConfig, TextNetworkConfig};

/// What a pipeline takes of the folder of its text encoders, as it is there.
const KEPT: [&str; 6] = ["text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"];

/// Of `diffusers`, whose classes these are.
const VERSION: &str = "0.42.1";

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// Writes `pipeline` to a new `folder`, which the `StableDiffusion3Pipeline` of `diffusers` opens: its transformer with whatever was
/// added to it, its autoencoder, a scheduler with the shift of its sampling, and the text encoders and tokenizers of the folder that its
/// recipe names, whose weights are linked where the file system can. The transformer is written in 32 bits.
///
/// # Errors
/// For a pipeline that is none of Stable Diffusion 3, for a folder that is there, and if a file cannot be read or written. The folder
/// appears when it is whole.
pub fn to_diffusers(pipeline: &Pipeline<TextNetworkConfig>, folder: &Path) -> Result<(), Error> {
    let recipe = &pipeline.recipe;
    let fault = |reason: &str| Error::config(folder, reason);
    let other = |reason: &str| Error::config(Path::new(&recipe.name), reason);
    let (
        TransformerConfig::MmDit(transformer),
        TextEncoderConfig::StableDiffusion3 { folder: base, .. },
        Some(AutoencoderConfig::Kl { network: autoencoder, weights }),
    ) = (&recipe.network.transformer, &recipe.network.text, &recipe.autoencoder)
    else {
        return Err(other(
            "diffusers has no pipeline for this network: expected the transformer, the text encoders and the autoencoder of \
             Stable Diffusion 3",
        ));
    };
    if recipe.objective.schedule != (ScheduleConfig::Linear { reversed: true, noise: 1.0 }) {
        return Err(other("diffusers samples Stable Diffusion 3 on the reversed linear path alone"));
    }
    if folder.exists() {
        return Err(fault("is there: expected a new folder"));
    }
    let [inner, outer] = [folder, base.as_path()].map(|path| std::path::absolute(path).map_err(Error::reading(path)));
    let (inner, outer) = (inner?, outer?);
    if KEPT.iter().any(|part| inner.starts_with(outer.join(part))) {
        return Err(fault("lies in a folder that is part of it: choose another"));
    }
    let name = folder.file_name().ok_or_else(|| fault("is no name for a folder"))?.to_string_lossy();
    let partial = folder.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let written = write_parts(pipeline, (transformer, autoencoder, weights), base, &partial)
        .and_then(|()| fs::rename(&partial, folder).map_err(Error::io("create", folder)));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

/// The parts in a folder of their own each, and their index.
fn write_parts(
    pipeline: &Pipeline<TextNetworkConfig>,
    (transformer, autoencoder, weights): (&MmDitConfig, &KlAutoencoderConfig, &Path),
    base: &Path,
    partial: &Path,
) -> Result<(), Error> {
    let recipe = &pipeline.recipe;
    let create = |part: &str| {
        let place = partial.join(part);
        fs::create_dir_all(&place).map_err(Error::io("create", &place)).map(|()| place)
    };
    for part in KEPT {
        let from = base.join(part);
        if from.is_dir() {
            link(&from, &create(part)?)?;
        }
    }
    // That of the folder is for the sampling that was published with it.
    let shift = &json!(recipe.sampling.sampler.grid)["shift"];
    let class = "FlowMatchEulerDiscreteScheduler";
    let scheduler =
        json!({"_class_name": class, "_diffusers_version": VERSION, "num_train_timesteps": 1000, "shift": shift});
    write(&create("scheduler")?.join("scheduler_config.json"), &scheduler)?;
    let place = create("transformer")?;
    write(&place.join("config.json"), &transformer.to_diffusers())?;
    Weights::of(&pipeline.network, recipe.network.official_key()).write(place.join(WEIGHTS), &[("format", "pt")])?;
    let vae = create("vae")?;
    write(&vae.join("config.json"), &autoencoder.to_diffusers())?;
    let of_vae = Naming::Diffusers.apply(Weights::read(weights)?)?;
    let of_vae = of_vae.ok_or_else(|| Error::config(weights, "is no autoencoder of Stable Diffusion"))?;
    of_vae.write(vae.join(WEIGHTS), &[("format", "pt")])?;
    write(&partial.join("model_index.json"), &index(partial))
}

/// `model_index.json`: which class each part is, of those that there are.
fn index(folder: &Path) -> Value {
    let parts = [
        ("scheduler", "diffusers", "FlowMatchEulerDiscreteScheduler"),
        ("text_encoder", "transformers", "CLIPTextModelWithProjection"),
        ("text_encoder_2", "transformers", "CLIPTextModelWithProjection"),
        ("text_encoder_3", "transformers", "T5EncoderModel"),
        ("tokenizer", "transformers", "CLIPTokenizer"),
        ("tokenizer_2", "transformers", "CLIPTokenizer"),
        ("tokenizer_3", "transformers", "T5TokenizerFast"),
        ("transformer", "diffusers", "SD3Transformer2DModel"),
        ("vae", "diffusers", "AutoencoderKL"),
    ];
    let mut index = json!({"_class_name": "StableDiffusion3Pipeline", "_diffusers_version": VERSION});
    for (part, library, class) in parts {
        index[part] = if folder.join(part).is_dir() { json!([library, class]) } else { json!([null, null]) };
    }
    index
}

fn write(file: &Path, value: &Value) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).unwrap_or_default();
    Ok(write_atomic(file, &text)?)
}

/// The files of a folder, and of those in it: weights as links where the file system can, all else, which people edit, as copies.
fn link(from: &Path, to: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(from).map_err(Error::reading(from))?;
    for entry in entries {
        let from: PathBuf = entry.map_err(Error::reading(from))?.path();
        let to = to.join(from.file_name().unwrap_or_default());
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
