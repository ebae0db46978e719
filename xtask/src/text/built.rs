//! A program with text.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::Device;
use mixflow::backbones::weights::Weights;
use mixflow::check_memory;
use mixflow::data::Dataset;
use mixflow::evaluation::reached;
use mixflow::recipe::ObjectiveConfig;
use mixflow::sampling::{Export, Guidance};
use mixflow::train::{ClassRows, StoredNetwork};
use mixflow_t2i::mmdit::official_key;
use mixflow_t2i::recipe::{TextRecipe, read_text_recipe};
use mixflow_t2i::{MmDit, TextPipeline, TextSampling};

use super::{Preset, Request};
use crate::compare::nothing_to_compare;
use crate::hub::is_address;
use crate::learning::Learner;
use crate::progress::Progress;
use crate::run::{RecipeArguments, Result, note, note_choices, say};
use crate::train::{ClassArguments, Destination, StartFrom, train_any};

/// The recipe of a network for text.
pub(crate) struct Recipe(TextRecipe);

impl Recipe {
    /// None if it is a recipe of another kind.
    pub(crate) fn read(arguments: &RecipeArguments) -> Result<Option<Self>> {
        Ok(arguments.read_with(read_text_recipe)?.map(Self))
    }

    pub(crate) fn train(&self, from: Option<&Path>, to: &Destination) -> Result<ExitCode> {
        self.run(from, to, PathBuf::from("runs").join(&self.0.name))
    }

    pub(crate) fn compare(&self, from: &Path, to: &Destination) -> Result<ExitCode> {
        if self.0.post_training.is_none() {
            return Err(nothing_to_compare(&self.0.name).into());
        }
        self.run(Some(from), to, PathBuf::from("runs").join(format!("{}-compare", self.0.name)))
    }

    fn run(&self, from: Option<&Path>, to: &Destination, folder: PathBuf) -> Result<ExitCode> {
        let learner = |recipe: &TextRecipe, start: Option<MmDit>, data: &dyn Dataset, folder: &Path| {
            let mut progress = Progress::new();
            let prompts = data.classes();
            progress.begin("prompts", Some(prompts.len() as u64));
            let told = &mut |done| progress.images(done, prompts.len());
            let network = recipe.network.init(recipe.seed, prompts, &folder.join("prompts"), told)?;
            progress.end();
            let start = start.map(|start| network.clone().try_map(|_| Ok::<_, std::convert::Infallible>(start)));
            let start = start.transpose()?;
            let key = |path: &str| official_key(path.strip_prefix("network.").unwrap_or(path));
            Ok(Learner { network, start, key, objective: ObjectiveConfig::flow_matching })
        };
        let none = ClassArguments::default();
        train_any(&self.0, StartFrom { weights: from, classes: &none }, to, folder, load, learner)
    }
}

/// Names of the recipes of networks for text.
pub(crate) fn recipe_names() -> impl Iterator<Item = &'static str> {
    mixflow_t2i::recipe::names()
}

/// The recipe's network with the weights of a file, a run or a checkpoint.
fn load(recipe: &TextRecipe, from: &Path, _: Option<&ClassRows>) -> Result<MmDit> {
    let stored = StoredNetwork::find(from)?;
    if let StoredNetwork::File(file) = &stored {
        note_choices(from, MmDit::own(Weights::read(file)?)?.choices());
    }
    Ok(recipe.network.transformer.init(recipe.seed, &Device::default()).stored(&stored)?)
}

/// Draws what the prompts say.
pub(crate) fn sample(request: &Request<'_>) -> Result<ExitCode> {
    let Request { prompts, out, .. } = request;
    let export = Export::new(*out, 3)?;
    let count = request.count.unwrap_or(prompts.prompts.len());
    let mut pipeline = TextPipeline::from_folder(folder(request)?)?;
    let sampling = &mut pipeline.text_to_image.sampling;
    if let Some(preset) = prompts.preset {
        *sampling = match preset {
            Preset::Diffusers => TextSampling::diffusers(3.0)?,
            Preset::Medium => TextSampling::stable_diffusion_3_5_medium(),
            Preset::MediumSkipLayers => TextSampling::stable_diffusion_3_5_medium_skip_layers(),
            Preset::Large => TextSampling::stable_diffusion_3_5_large(),
            Preset::LargeTurbo => TextSampling::stable_diffusion_3_5_large_turbo(),
        };
    }
    if let Some(steps) = request.steps {
        sampling.sampler.grid = sampling.sampler.grid.with_steps(steps)?;
    }
    if let Some(scale) = request.guidance {
        sampling.guidance = (scale != 1.0).then(|| Guidance::new(scale)).transpose()?;
    }
    pipeline.size = prompts.size.unwrap_or(pipeline.size);
    pipeline.negative = prompts.negative.clone().unwrap_or_default();
    pipeline.text_to_image.seed = request.seed.unwrap_or(pipeline.text_to_image.seed);

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
    let images = pipeline.text_to_image.images_with(&text, pipeline.size, 0, &mut |t, first, x| {
        progress.counted(reached(t, first, x), "image");
    })?;
    let (evaluations, seconds) = (images.evaluations, started.elapsed().as_secs_f64());
    export.write(count, columns, [Ok(images)])?;
    progress.end();
    say(format_args!(
        "{count} images of {} in {}\n{evaluations} network evaluations for each, seed {}, {:.2} s an image",
        request.path.display(),
        out.display(),
        pipeline.text_to_image.seed,
        seconds / count as f64,
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of `diffusers`, or the weights of a run.
fn folder(request: &Request<'_>) -> Result<PathBuf> {
    if is_address(request.path) {
        return crate::hub::text(request.path);
    }
    let of_diffusers = ["transformer", "model_index.json"].iter().any(|name| request.path.join(name).exists());
    if of_diffusers { Ok(request.path.into()) } else { (request.weights)() }
}
