//! Text to image.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use clap::Args;
use clap::builder::ValueParser;
use mixflow::backbones::{Backbone, Precision};
use mixflow::objective::InPrecision;
use mixflow::recipe::{NetworkSettings, Recipe};
use mixflow::sampling::{Export, Guidance};
use mixflow::schedules::{Linear, MixFlow, Reversed};
use mixflow::{Batch, Device, FlowMatching, check_memory};
pub(crate) use mixflow_t2i::selftest::compare as selftest;
use mixflow_t2i::{MmDitConfig, TextEmbedding, TextPipeline, TextSampling};

use crate::adapter::{self, AdapterArgument};
use crate::bench_case::{images, sample as sample_network, train_with};
use crate::hub::is_address;
use crate::progress::Progress;
use crate::run::{Result, note, say};

/// What to draw, and how large.
#[derive(Args)]
pub(crate) struct Prompts {
    /// What to draw, with a network for text; may be given more than once
    #[arg(long = "prompt", value_name = "TEXT")]
    pub(crate) prompts: Vec<String>,
    /// What not to draw, where there is guidance
    #[arg(long, value_name = "TEXT", requires = "prompts")]
    pub(crate) negative: Option<String>,
    /// Height and width in pixels, as 768 for both or as 768x1024 [default: the network's own]
    #[arg(long, value_parser = ValueParser::new(size), requires = "prompts")]
    pub(crate) size: Option<[usize; 2]>,
    /// Published settings of the sampler [default: diffusers, or a run's own]
    #[arg(long, requires = "prompts")]
    pub(crate) preset: Option<Preset>,
}

/// Published settings of Stable Diffusion 3.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Preset {
    Diffusers,
    #[value(name = "sd3.5-medium")]
    Medium,
    #[value(name = "sd3.5-medium-skip-layers")]
    MediumSkipLayers,
    #[value(name = "sd3.5-large")]
    Large,
    #[value(name = "sd3.5-large-turbo")]
    LargeTurbo,
}

/// Height and width.
fn size(text: &str) -> std::result::Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    match (height.parse(), width.parse()) {
        (Ok(height), Ok(width)) => Ok([height, width]),
        _ => Err("expected a number of pixels, or two such as 768x1024".into()),
    }
}

/// What `sample` was asked for, where it was asked for images of prompts.
pub(crate) struct Request<'a> {
    /// A folder, a file of weights or an address of the Hub.
    pub(crate) path: &'a Path,
    /// The weights in the folder of a run.
    pub(crate) weights: &'a dyn Fn() -> Result<PathBuf>,
    pub(crate) prompts: &'a Prompts,
    pub(crate) count: Option<usize>,
    pub(crate) steps: Option<usize>,
    pub(crate) guidance: Option<f64>,
    pub(crate) seed: Option<u64>,
    pub(crate) adapters: &'a [AdapterArgument],
    /// Other changes to the recipe.
    pub(crate) set: &'a [String],
    pub(crate) out: &'a Path,
    /// The first, and those that draw some of the batches.
    pub(crate) device: &'a Device,
    pub(crate) beside: &'a [Device],
}

/// Seconds of steps of Stable Diffusion 3.5 medium at 512 px with prompts of 333 tokens, and multiplications with addition of one
/// image.
pub(crate) fn bench(
    training: bool,
    batch: usize,
    steps: usize,
    precision: Precision,
    device: &Device,
) -> Result<(Vec<f64>, u64)> {
    const TOKENS: usize = 77 + 256;
    let config = MmDitConfig { input_size: 64, ..MmDitConfig::stable_diffusion_3_5_medium() };
    let device = &if training { device.clone().autodiff() } else { device.clone() };
    let random = Distribution::Normal(0.0, 1.0);
    let tokens = Tensor::random([batch, TOKENS, config.context_width], random, device);
    let text = TextEmbedding::new(tokens, Tensor::random([batch, config.pooled_width], random, device));
    let (network, latents) =
        (config.init(0, &device.clone().inner()), images([config.channels, 64, 64], batch, device));
    let times = match training {
        true => {
            let objective = &FlowMatching::new(Reversed(Linear)).timesteps(MixFlow::new(0.8));
            let objective = InPrecision { objective, precision };
            train_with(&objective, network, &Batch::new(latents, text, 0), steps, |_| {})
        }
        false => {
            let network = network.in_precision(precision).ok_or("expected a precision it knows")?;
            sample_network(&network, &latents, &text, steps)
        }
    };
    Ok((times, config.multiply_adds(TOKENS)))
}

/// Draws what the prompts say.
pub(crate) fn sample(request: &Request<'_>) -> Result<ExitCode> {
    let Request { prompts, out, .. } = request;
    let export = Export::new(*out, 3)?;
    let count = request.count.unwrap_or(prompts.prompts.len());
    let mut pipeline = match is_address(request.path) {
        true => crate::hub::text(request.path, request.device)?,
        false => TextPipeline::from_folder(folder(request)?, request.device)?,
    };
    if let Some(preset) = prompts.preset {
        pipeline = pipeline.sampled_as(match preset {
            Preset::Diffusers => TextSampling::diffusers(3.0)?,
            Preset::Medium => TextSampling::stable_diffusion_3_5_medium(),
            Preset::MediumSkipLayers => TextSampling::stable_diffusion_3_5_medium_skip_layers(),
            Preset::Large => TextSampling::stable_diffusion_3_5_large(),
            Preset::LargeTurbo => TextSampling::stable_diffusion_3_5_large_turbo(),
        });
    }
    adapter::add(&mut pipeline.pipeline, request.adapters)?;
    pipeline.pipeline.beside = request.beside.to_vec();
    let recipe = &mut pipeline.pipeline.recipe;
    if !request.set.is_empty() {
        *recipe = changed(recipe, request.set)?;
    }
    if let Some(steps) = request.steps {
        recipe.sampling = recipe.sampling.with_steps(steps)?;
    }
    if let Some(scale) = request.guidance {
        let guidance = recipe.sampling.guidance;
        let guidance = guidance.map_or_else(|| Guidance::new(scale), |guidance| guidance.with_scale(scale))?;
        recipe.sampling.guidance = Some(guidance).filter(|_| scale != 1.0);
    }
    recipe.seed = request.seed.unwrap_or(recipe.seed);
    let seed = recipe.seed;
    pipeline.size = prompts.size.unwrap_or(pipeline.size);
    pipeline.negative = prompts.negative.clone().unwrap_or_default();

    let columns = prompts.prompts.len().clamp(1, 8);
    let [height, width] = pipeline.size;
    export.check(count, columns, [3, height, width])?;
    let what = || format!("{count} images of {height} x {width} pixels, which are made before they are written,");
    check_memory(what, &[count as u64, height as u64, width as u64, 3 * 4])?;
    let all: Vec<&str> = prompts.prompts.iter().map(String::as_str).cycle().take(count).collect();
    let mut progress = Progress::new();
    progress.begin("reading prompts", None);
    for cut in pipeline.encoder.cuts(&all[..count.min(prompts.prompts.len())])? {
        note(cut);
    }
    let text = pipeline.encode(&all)?;
    progress.begin("sampling", Some(count as u64));
    let started = Instant::now();
    let images = pipeline.draw(&text, 0, &mut |state| progress.counted(state.done, "image"))?;
    let (evaluations, seconds) = (images.evaluations, started.elapsed().as_secs_f64());
    export.write(count, columns, [Ok(images)])?;
    progress.end();
    say(format_args!(
        "{count} images of {} in {}\n{evaluations} network evaluations for each, seed {seed}, {:.2} s an image",
        request.path.display(),
        out.display(),
        seconds / count as f64,
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A recipe of which more than how to sample stays: its networks are read.
fn changed<N: NetworkSettings>(recipe: &Recipe<N>, set: &[String]) -> Result<Recipe<N>> {
    let changed = recipe.with(set)?;
    let same = Recipe { sampling: recipe.sampling.clone(), seed: recipe.seed, ..changed.clone() };
    if same.to_value() != recipe.to_value() {
        return Err("--set changes `sampling` or `seed` where prompts are drawn: all else is read already".into());
    }
    Ok(changed)
}

/// The folder of `diffusers`, or the weights of a run.
fn folder(request: &Request<'_>) -> Result<PathBuf> {
    let of_diffusers = ["transformer", "model_index.json"].iter().any(|name| request.path.join(name).exists());
    if of_diffusers { Ok(request.path.into()) } else { (request.weights)() }
}
