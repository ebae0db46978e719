//! Text to image.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use clap::Args;
use clap::builder::ValueParser;
use mixflow::backbones::{Backbone, Precision};
use mixflow::numbers::counted;
use mixflow::objective::InPrecision;
use mixflow::recipe::{NetworkSettings, Recipe, SamplingConfig};
use mixflow::sampling::{Export, Guidance};
use mixflow::schedules::{Linear, MixFlow, Reversed};
use mixflow::{Batch, Device, FlowMatching, StoredPipeline, check_memory};
use mixflow_t2i::evaluator::prompt_lines;
pub(crate) use mixflow_t2i::selftest::compare as selftest;
use mixflow_t2i::text::Truncation;
use mixflow_t2i::{
    Evaluator, MmDitConfig, TextEmbedding, TextNetworkConfig, TextPipeline, TextSampling, TransformerConfig,
    from_diffusers,
};
use serde_json::{Value, json};

use crate::adapter::{self, AdapterArgument};
use crate::bench_case::{images, sample as sample_network, train_with};
use crate::hub::is_address;
use crate::progress::Progress;
use crate::record;
use crate::terminal::{Result, note, print};
use crate::trained::TrainedArguments;

/// What to draw, and how large.
#[derive(Args)]
pub(crate) struct Prompts {
    /// What to draw, with a network for text; may be given more than once
    #[arg(long = "prompt", value_name = "TEXT", group = "asked")]
    prompts: Vec<String>,
    /// A file of what to draw, a prompt a line; with --layout, prompts as the evaluator has them
    #[arg(long = "prompts", value_name = "FILE", group = "asked")]
    file: Option<PathBuf>,
    /// Images in the files that an evaluator reads, in a folder; what is there already stays
    #[arg(long, value_name = "EVALUATOR", requires = "file", conflicts_with = "prompts")]
    pub(crate) layout: Option<Layout>,
    /// Images of each prompt [default: as many as the evaluator's authors draw]
    #[arg(long, value_name = "N", requires = "layout")]
    each: Option<usize>,
    /// What not to draw, where there is guidance
    #[arg(long, value_name = "TEXT", requires = "asked")]
    negative: Option<String>,
    /// Height and width in pixels, as 768 for both or as 768x1024 [default: the network's own]
    #[arg(long, value_parser = ValueParser::new(size), requires = "asked")]
    size: Option<[usize; 2]>,
    /// Published settings of Stable Diffusion 3's solver and guidance [default: diffusers, or a run's own]
    #[arg(long, requires = "asked")]
    preset: Option<Preset>,
}

impl Prompts {
    /// Whether there is something to draw.
    pub(crate) fn are_given(&self) -> bool {
        self.file.is_some() || !self.prompts.is_empty()
    }

    /// Those of the flags or of the file.
    fn read(&self) -> Result<Vec<String>> {
        let Some(file) = &self.file else { return Ok(self.prompts.clone()) };
        Ok(prompt_lines(file)?.into_iter().map(|(_, prompt)| prompt).collect())
    }
}

/// Evaluators of text-to-image models.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Layout {
    Geneval,
    Geneval2,
    Dpg,
    T2iCompbench,
}

impl Layout {
    pub(crate) fn evaluator(self) -> Evaluator {
        match self {
            Self::Geneval => Evaluator::GenEval,
            Self::Geneval2 => Evaluator::GenEval2,
            Self::Dpg => Evaluator::DpgBench,
            Self::T2iCompbench => Evaluator::T2iCompBench,
        }
    }
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
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) trained: &'a TrainedArguments,
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
    if request.prompts.each.is_some() && request.prompts.layout.is_none() {
        return Err("--each is for --layout: without, it is --count that says how many images".into());
    }
    match (request.prompts.layout, &request.prompts.file) {
        (Some(layout), Some(file)) => laid_out(request, layout.evaluator(), file),
        _ => together(request),
    }
}

/// Draws the prompts of an evaluator into its files.
fn laid_out(request: &Request<'_>, evaluator: Evaluator, file: &Path) -> Result<ExitCode> {
    let (prompts, out) = (request.prompts, request.out);
    let each = prompts.each.unwrap_or(evaluator.images());
    let wanted = evaluator.read(file, each)?;
    // At the commits of the images that are there, or that addresses stand for now: what is drawn with is what is written down.
    let noted = record::recorded(out);
    let [for_weights, for_adapters] =
        ["weights", "adapters"].map(|key| noted.as_ref().and_then(|noted| noted.get(key)));
    let (trained, adapters) = (request.trained.pinned(for_weights)?, adapter::pinned(request.adapters, for_adapters)?);
    let request = &Request { trained: &trained, adapters: &adapters, ..*request };
    let pipeline = open(request)?;
    let recipe = &pipeline.pipeline.recipe;
    let mut settings = settings(request, &pipeline)?;
    settings["prompts"] = wanted.iter().map(|wanted| wanted.prompt.as_str()).collect();
    settings["each"] = each.into();
    let all: Vec<&str> = wanted.iter().map(|wanted| wanted.prompt.as_str()).collect();
    Truncation::summary(&pipeline.encoder.truncations(&all)?, all.len()).iter().for_each(note);
    let [height, width] = pipeline.size;
    let at_once = recipe.sampling.batch.max(each) as u64;
    check_memory(
        || format!("{} at a time", counted(at_once, "image")),
        &[at_once, height as u64, width as u64, 3 * 4],
    )?;
    record::same_settings(out, &settings)?;
    let count = wanted.len() * each;
    let mut progress = Progress::new();
    progress.begin("sampling", Some(count as u64));
    evaluator.draw(&pipeline, &wanted, each, out, &mut |done| progress.counted(done, "image"))?;
    progress.end();
    let [images, prompts] = [(count, "image"), (wanted.len(), "prompt")].map(|(count, one)| counted(count as u64, one));
    print(format_args!("{images} of {prompts} in {}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// What the images of prompts depend on: settings, and files by what tells them from others.
fn settings(request: &Request<'_>, pipeline: &TextPipeline) -> Result<Value> {
    let trained = request.trained;
    let weights = if is_address(&trained.path) { trained.path.clone() } else { place(trained)? };
    let TextPipeline { pipeline, skip_layers, negative, size, .. } = pipeline;
    let recipe = &pipeline.recipe;
    // Images do not depend on how many are drawn at a time.
    let mut sampling = serde_json::to_value(&recipe.sampling)?;
    sampling.as_object_mut().and_then(|sampling| sampling.remove("batch"));
    let run = weights.parent().unwrap_or(Path::new(""));
    let autoencoder = recipe.autoencoder.as_ref().map_or(vec![], |config| config.files(run));
    let mut text = recipe.network.text.clone();
    let text = text.folder_mut().map_or(Ok(vec![]), |folder| record::encoder_files(folder))?;
    Ok(json!({
        "weights": record::files(&record::weights_files(&weights)?)?, "network": recipe.network,
        "text encoder": record::files(&text)?, "autoencoder": [json!(recipe.autoencoder), record::files(&autoencoder)?],
        "guide": pipeline.guide.as_ref().map(|guide| &guide.weights.sha256), "sampling": sampling,
        "skip_layers": skip_layers, "seed": recipe.seed, "size": size, "negative": negative,
        "adapters": adapter::described(request.adapters)?,
    }))
}

/// The pipeline, with all that flags change.
fn open(request: &Request<'_>) -> Result<TextPipeline> {
    let prompts = request.prompts;
    let mut stored = stored(request.trained)?;
    let recipe = &mut stored.recipe;
    let mut skip_layers = None;
    if let Some(preset) = prompts.preset {
        let config = &recipe.network;
        if !matches!(config.transformer, TransformerConfig::MmDit(_)) {
            let reason = format!("--preset is for Stable Diffusion 3, not for {}: leave it out", config.name());
            return Err(reason.into());
        }
        let preset = match preset {
            Preset::Diffusers => TextSampling::diffusers(3.0)?,
            Preset::Medium => TextSampling::stable_diffusion_3_5_medium(),
            Preset::MediumSkipLayers => TextSampling::stable_diffusion_3_5_medium_skip_layers(),
            Preset::Large => TextSampling::stable_diffusion_3_5_large(),
            Preset::LargeTurbo => TextSampling::stable_diffusion_3_5_large_turbo(),
        };
        if recipe.sampling.correction.is_some() {
            note("warning: --preset draws without sampling.correction, which is for the recipe's own sampler");
        }
        // How it is computed is what the machine and the weights are for, and stays.
        let SamplingConfig { precision, tiles, batch, .. } = recipe.sampling;
        let batch = batch.min(preset.sampling.batch);
        recipe.sampling = SamplingConfig { precision, tiles, batch, ..preset.sampling };
        skip_layers = preset.skip_layers;
    }
    if !request.set.is_empty() {
        *recipe = changed(recipe, request.set)?;
    }
    if let Some(steps) = request.steps {
        recipe.sampling = recipe.sampling.with_steps(steps)?;
    }
    let told = recipe.network.is_told_guidance();
    if told && request.guidance.is_some() {
        recipe.sampling.distilled_guidance = request.guidance;
    } else if let Some(scale) = request.guidance {
        let guidance = recipe.sampling.guidance;
        let guidance = guidance.map_or_else(|| Guidance::new(scale), |guidance| guidance.with_scale(scale))?;
        recipe.sampling.guidance = Some(guidance).filter(|_| scale != 1.0);
    }
    recipe.seed = request.seed.unwrap_or(recipe.seed);
    if prompts.negative.is_some() && !recipe.sampling.guides() {
        return Err("--negative has no effect without guidance away from it: add --guidance, such as 4".into());
    }
    let mut pipeline = TextPipeline { skip_layers, ..TextPipeline::load(stored, request.device)? };
    adapter::add(&mut pipeline.pipeline, request.adapters)?;
    pipeline.pipeline.beside = request.beside.to_vec();
    pipeline.size = prompts.size.unwrap_or(pipeline.size);
    pipeline.negative = prompts.negative.clone().unwrap_or_default();
    // Encoders can take minutes.
    pipeline
        .check()
        .map_err(|error| if prompts.size.is_some() { format!("--size: {error}") } else { error.to_string() })?;
    Ok(pipeline)
}

/// Draws all prompts into one picture, array or folder.
fn together(request: &Request<'_>) -> Result<ExitCode> {
    let (prompts, out) = (request.prompts.read()?, request.out);
    let export = Export::new(out, 3)?;
    let count = request.count.unwrap_or(prompts.len());
    let pipeline = open(request)?;
    let seed = pipeline.pipeline.recipe.seed;

    let columns = prompts.len().clamp(1, 8);
    let [height, width] = pipeline.size;
    export.check(count, columns, [3, height, width])?;
    let what = || {
        let images = counted(count as u64, "image");
        format!("{images} of {height} x {width} pixels, which are made before they are written,")
    };
    check_memory(what, &[count as u64, height as u64, width as u64, 3 * 4])?;
    let all: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let mut progress = Progress::new();
    progress.begin("reading prompts", None);
    for cut in pipeline.encoder.truncations(&all[..count.min(all.len())])? {
        note(cut);
    }
    let (progress, mut evaluations) = (RefCell::new(progress), 0);
    let blocks = pipeline.image_batches(&all, count, |done| progress.borrow_mut().counted(done, "image"))?;
    progress.borrow_mut().begin("sampling", Some(count as u64));
    let started = Instant::now();
    let blocks = blocks.inspect(|images| {
        evaluations = images.as_ref().map_or(evaluations, |images| images.evaluations.max(evaluations));
    });
    export.write(count, columns, blocks)?;
    let seconds = started.elapsed().as_secs_f64();
    progress.into_inner().end();
    print(format_args!(
        "{} of {} in {}\n{} for each, seed {seed}, {:.2} s an image",
        counted(count as u64, "image"),
        request.trained.path.display(),
        out.display(),
        counted(evaluations as u64, "network evaluation"),
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

/// The network for text of a folder of `diffusers`, a run, a file of weights or an address of the Hub.
pub(crate) fn stored(trained: &TrainedArguments) -> Result<StoredPipeline<TextNetworkConfig>> {
    let given = [("--arm", trained.arm.is_some()), ("--recipe", trained.recipe.is_some())];
    if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given && is_address(&trained.path)) {
        return Err(
            format!("{flag} is for runs and files of weights, but {} is a repository", trained.path.display()).into()
        );
    }
    match is_address(&trained.path) {
        true => crate::hub::text(&trained.path),
        false if is_of_diffusers(&trained.path) => Ok(from_diffusers(place(trained)?)?),
        false => trained.text(),
    }
}

fn is_of_diffusers(path: &Path) -> bool {
    ["transformer", "model_index.json"].iter().any(|name| path.join(name).exists())
}

/// A folder of `diffusers`, or the weights of a run.
fn place(trained: &TrainedArguments) -> Result<PathBuf> {
    let TrainedArguments { path, arm, recipe, .. } = trained;
    if !is_of_diffusers(path) {
        return trained.weights();
    }
    match [("--arm", arm.is_some()), ("--recipe", recipe.is_some())].into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(format!("{flag} is for runs, but {} is a folder of diffusers", path.display()).into()),
        None => Ok(path.clone()),
    }
}
