//! A recipe from its data to its weights, and of a comparison to its report, in a folder.

mod frozen;
mod page;
mod start;
#[cfg(test)]
mod tests;
mod train;

pub use frozen::{Preparation, decoder_run};
pub use start::StartWeights;
pub use train::train;

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use mixflow_backbones::encoder::Encoder;
use mixflow_backbones::{Autoencoder, Invalid};
use serde_json::Value;

use crate::compare::{self, Progress, Study, StudyOutcome, encoding, seen_by_start};
use crate::data::latents::Verified;
use crate::data::{Conditioner, DataConfig, Dataset, Fingerprint, rare_buckets};
use crate::device::{describe, is_cpu};
use crate::evaluation::{Measures, ValidationImages};
use crate::objective::{AdapterDropout, TargetEncoder};
use crate::recipe::{ConditionOf, Guide, NetworkSettings, Recipe};
use crate::report::Report;
use crate::train::{Change, ClassRows, Event, Outcome, Run, RunFolder, Start, StoredNetwork, check_same_frozen};
use crate::{Error, memory};
use start::load_start;

/// What to run. [`check`](Self::check) says what is wrong with recipe, folder, data and given weights before anything is
/// written; [`Ready::run`] reads or trains the frozen networks, and does the rest.
///
/// ```no_run
/// use std::{path::Path, sync::atomic::AtomicBool};
///
/// use mixflow::device;
/// use mixflow::launch::Launch;
/// use mixflow::recipe::Recipe;
/// use mixflow::train::RunFolder;
///
/// let (recipe, device, stop) = (Recipe::read("digits", &[])?, device::chosen()?, AtomicBool::new(false));
/// let folder = RunFolder::begin(Path::new("runs/digits"), recipe.to_value())?;
/// let ready = Launch::new(&recipe, &device, &stop).check(folder, &mut |_| {})?;
/// assert!(ready.run(&mut |_| {})?.is_some(), "nobody stops it");
/// # Ok::<(), mixflow::Error>(())
/// ```
#[derive(Debug)]
pub struct Launch<'a, N: NetworkSettings> {
    /// The recipe as the folder and its checkpoints keep it.
    pub recipe: &'a Recipe<N>,
    /// The same with files of this machine where the other names some of the Hub; otherwise the same.
    pub local: &'a Recipe<N>,
    /// Weights to start from.
    pub start: Option<StartWeights>,
    /// Which rows of the label table of these weights the classes start from, as [`ClassRows::parse`] takes it.
    pub class_rows: Option<&'a str>,
    /// By what the arms of a comparison are measured.
    pub measures: Measures<'a>,
    /// What it computes on; a run can go on with another device.
    pub device: &'a Device,
    /// Devices beside it that trainings of the network are shared with, see [`Run::beside`]; all else is done by the first.
    pub beside: &'a [Device],
    /// Set from elsewhere, it ends the run after the step in progress.
    pub stop: &'a AtomicBool,
}

/// A run that can begin, or go on.
#[derive(Debug)]
pub struct Ready<'a, N: NetworkSettings> {
    recipe: &'a Recipe<N>,
    local: &'a Recipe<N>,
    folder: RunFolder,
    data: Arc<dyn Dataset>,
    fingerprint: Fingerprint,
    /// Shards of stored latents that were found whole.
    verified: Option<Verified>,
    start: Option<(N::Network, Start)>,
    /// What a given start has seen of held-out images.
    seen: Option<String>,
    guide: Option<Guide>,
    measures: Measures<'a>,
    /// The first, and those beside it.
    devices: (&'a Device, &'a [Device]),
    stop: &'a AtomicBool,
}

/// How a run ended.
#[derive(Debug)]
pub enum Finish {
    /// The file of the weights, their moving average.
    Trained(PathBuf),
    /// Of a comparison: the report, and where the page is.
    Compared(Box<Report>, PathBuf),
}

impl<'a, N: NetworkSettings> Launch<'a, N> {
    /// A recipe that names no files of the Hub, from initial values on.
    pub fn new(recipe: &'a Recipe<N>, device: &'a Device, stop: &'a AtomicBool) -> Self {
        let measures = Measures::default();
        Self { recipe, local: recipe, start: None, class_rows: None, measures, device, beside: &[], stop }
    }

    /// Reads data and weights, and refuses what does not belong together or cannot fit memory.
    ///
    /// # Errors
    /// What is wrong with recipe, data, weights or folder.
    pub fn check(self, folder: RunFolder, progress: &mut dyn FnMut(Progress)) -> Result<Ready<'a, N>, Error> {
        let Self { recipe, local, start, class_rows, measures, device, beside, stop } = self;
        if *folder.recipe() != recipe.to_value() {
            let reason = format!("it was taken for another recipe than {}, which is to run in it", recipe.name);
            return Err(Error::unfit(folder.path().display(), reason));
        }
        recipe.check_memory(memory(device), start.is_some())?;
        recipe.training.check_devices(1 + beside.len()).map_err(|invalid| Error::unfit(&recipe.name, invalid))?;
        let draws = recipe.post_training.is_some() || recipe.validation.is_some();
        let sampled = draws.then_some(("sampling", recipe.sampling.precision));
        for (key, precision) in [Some(("training", recipe.training.precision)), sampled].into_iter().flatten() {
            if let Some(device) = [device].into_iter().chain(beside).find(|device| !precision.is_supported(device)) {
                let reason = format!("{} does not compute in {precision}: set {key}.precision=f32", describe(device));
                return Err(Error::unfit(&recipe.name, reason));
            }
            if !precision.is_full() && is_cpu(device) {
                progress(Progress::Note(format!("{key}.precision={precision}: the CPU rounds to it, which is slower")));
            }
        }
        let data: Arc<dyn Dataset> = match &recipe.post_training {
            Some(post) => Arc::new(compare::parts(recipe, post, &measures)?.0),
            None if draws => {
                compare::check_sampling(recipe, &[])
                    .map_err(|problem| Error::unfit(&recipe.name, format!("sampling, or validation: {problem}")))?;
                recipe.open()?
            }
            None => {
                // Sampling is no part of the training, and can be changed afterwards.
                if let Err(problem) = compare::check_sampling(recipe, &[]) {
                    let warning =
                        format!("warning: images cannot be made of this network as the recipe says: {problem}");
                    progress(Progress::Note(warning));
                }
                recipe.open()?
            }
        };
        let fingerprint = folder.check_data(&*data)?;
        progress(Progress::Note(format!("{}: {fingerprint}", recipe.data.describe())));
        let rare = rare_buckets(&*data, recipe.training.batch);
        data.notices().into_iter().chain(rare).for_each(|notice| progress(Progress::Note(notice)));
        let rows = class_rows.map(|text| ClassRows::parse(text, data.classes())).transpose();
        let rows = rows.map_err(|invalid| Error::recipe("--class-rows", invalid))?;
        if let Some(rows) = &rows {
            let rows = rows.describe(data.classes());
            progress(Progress::Note(format!("classes start from the weights' label table: {rows}")));
        }
        let start =
            start.map(|given| StartWeights { start: Start { class_rows: rows.clone(), ..given.start }, ..given });
        folder.check_start(start.as_ref().map(|given| &given.start))?;
        if recipe.adapter.is_some() && recipe.post_training.is_none() && start.is_none() {
            let reason = "is for weights that are there already: name them with --from";
            return Err(Error::recipe(&recipe.name, Invalid::new("adapter", reason)));
        }
        let network = recipe.adapted(recipe.network.init(recipe.seed, device))?;
        ValidationImages::check(recipe, &network, data.classes())?;
        let mut seen = None;
        let start = match start {
            None => None,
            Some(StartWeights { path, start }) => {
                let stored = StoredNetwork::find(&path)?;
                seen = recipe.post_training.as_ref().map(|post| seen_by_start(recipe, post, &*data, &stored));
                seen.iter().for_each(|seen| progress(Progress::Note(seen.clone())));
                Some((load_start(local, &path, &stored, rows.as_ref(), device, progress)?, start))
            }
        };
        let guide = if draws { local.guide(folder.path(), device)? } else { None };
        // Captions can take hours to read, before the networks are.
        for file in local.given_files(folder.path()) {
            File::open(&file).map_err(Error::io("read", &file))?;
        }
        let verified = verified(local, folder.path(), progress)?;
        let devices = (device, beside);
        Ok(Ready { recipe, local, folder, data, fingerprint, verified, start, seen, guide, measures, devices, stop })
    }
}

/// The stored latents that a recipe learns, if it learns any, compared with their hashes; not those again that the run in
/// `folder` has found whole.
///
/// # Errors
/// If they are damaged, or were not made by the recipe's autoencoder.
pub fn verified<N: NetworkSettings>(
    recipe: &Recipe<N>,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Verified>, Error> {
    let Some(latents) = recipe.stored_latents()? else { return Ok(None) };
    progress(Progress::Note(format!("data: {}", latents.manifest())));
    progress(Progress::Begin("checking latents", Some(mebibytes(latents.manifest().bytes()))));
    let before = Verified::read(&folder.join(VERIFIED));
    Ok(Some(latents.verify(&before, |done, _| progress(Progress::Mebibytes(mebibytes(done))))?))
}

/// Where a run notes which shards it has found whole.
const VERIFIED: &str = "latents.json";

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// What a network is told of labels of these names; `folder` keeps what that is made of, on `device`, unless it is there
/// beside `stored` latents.
///
/// # Errors
/// As [`NetworkSettings::stored_conditioner`], and [`Error::Stopped`] once `stop` is set; what is there by then is kept.
pub fn conditioner<N: NetworkSettings>(
    network: &N,
    labels: &[String],
    stored: Option<&Path>,
    folder: &Path,
    device: &Device,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Arc<dyn Conditioner<ConditionOf<N>>>, Error> {
    let mut begun = false;
    let mut prepared = |done| {
        if !std::mem::replace(&mut begun, true) {
            progress(Progress::Begin("prompts", Some(labels.len() as u64)));
        }
        progress(Progress::Labels(done as u64));
        Error::if_set(stop)
    };
    let conditioner = match stored {
        Some(stored) => network.stored_conditioner(labels, stored, folder, device, &mut prepared),
        None => network.conditioner(labels, folder, device, &mut prepared),
    }?;
    conditioner.notices().into_iter().for_each(|notice| progress(Progress::Note(notice)));
    Ok(conditioner)
}

impl<N: NetworkSettings> Ready<'_, N> {
    /// Does it; nothing if it was stopped in the middle: with a checkpoint, or with what is prepared of prompts and latents.
    ///
    /// # Errors
    /// As [`RunFolder::run`], [`Run::train`] and [`Study::run`].
    pub fn run(self, progress: &mut dyn FnMut(Progress)) -> Result<Option<Finish>, Error> {
        let Self { recipe, local, folder, data, fingerprint, verified, start, seen, guide, measures, devices, stop } =
            self;
        let (start, origin) = start.unzip();
        let path = folder.path().to_path_buf();
        let progress = RefCell::new(progress);
        let changed = |change: Change| progress.borrow_mut()(Progress::Note(change.to_string()));
        let work = || {
            let (mut progress, value) = (progress.borrow_mut(), recipe.to_value());
            let progress = &mut |event: Progress| {
                // With a checkpoint the folder is one of this recipe, should somebody kill the process.
                if matches!(event, Progress::Training { event: Event::Saved(_), .. }) {
                    let _ = RunFolder::record(&path, &value);
                }
                progress(event);
            };
            if let Some(verified) = verified {
                verified.write(&path.join(VERIFIED))?;
            }
            let Some(parts) = Parts::prepare(recipe, local, &path, data, guide, devices, stop, progress)? else {
                return Ok(None);
            };
            let network = recipe.network.init(recipe.seed, devices.0);
            match recipe.post_training {
                Some(_) => parts.study(network, start, seen, measures, progress),
                None => parts.train(start.unwrap_or(network), progress),
            }
        };
        let work = || Error::unless_stopped(work()).map(Option::flatten);
        folder.run(&fingerprint, origin.as_ref(), changed, work)
    }
}

/// All that a training needs besides its network.
struct Parts<'a, N: NetworkSettings> {
    recipe: &'a Recipe<N>,
    local: &'a Recipe<N>,
    folder: &'a Path,
    data: Arc<dyn Dataset>,
    conditioner: Arc<dyn Conditioner<ConditionOf<N>>>,
    autoencoder: Option<Box<dyn Autoencoder>>,
    /// What makes images of stored latents, where images are made.
    decoder: Option<Box<dyn Autoencoder>>,
    encoder: Option<Encoder>,
    guide: Option<Guide>,
    devices: (&'a Device, &'a [Device]),
    stop: &'a AtomicBool,
}

impl<'a, N: NetworkSettings> Parts<'a, N> {
    /// Reads or trains the frozen networks, and prepares what the network is told; nothing if stopped in between.
    #[expect(clippy::too_many_arguments, reason = "each is a part of what is ready")]
    fn prepare(
        recipe: &'a Recipe<N>,
        local: &'a Recipe<N>,
        folder: &'a Path,
        data: Arc<dyn Dataset>,
        guide: Option<Guide>,
        devices: (&'a Device, &'a [Device]),
        stop: &'a AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Self>, Error> {
        let (device, _) = devices;
        let stored = match &local.data {
            DataConfig::Latents { path, .. } => Some(path.as_path()),
            _ => None,
        };
        let conditioner = conditioner(&local.network, data.classes(), stored, folder, device, stop, progress)?;
        let value: Value = recipe.to_value();
        let preparation = Preparation { folder, recipe: &value, data: &data, device, stop };
        let (mut autoencoder, mut decoder, mut encoder) = (None, None, None);
        let training = &folder.join("autoencoder");
        if let Some(config) = local.encoding() {
            progress(Progress::Begin("autoencoder", config.training_steps()));
            let progress = |event: Event| progress(Progress::Training { folder: training, event });
            let Some(ready) = preparation.autoencoder(config, progress)? else { return Ok(None) };
            autoencoder = Some(ready);
        } else if let (Some(config), Some(_)) = (&local.autoencoder, &recipe.validation) {
            decoder = Some(config.load(folder, device)?);
        }
        if let Some(config) = &local.target_encoder {
            progress(Progress::Begin("target encoder", config.training_steps()));
            let progress = |event: Event| progress(Progress::Training { folder: training, event });
            let Some(ready) = preparation.target_encoder(config, progress)? else { return Ok(None) };
            encoder = Some(ready);
        }
        // The folder tells more by now: its classes, and the autoencoder that was trained first.
        if guide.is_some() {
            local.check_guide(folder)?;
        }
        check_same_frozen(folder, &local.frozen_files(folder))?;
        Ok(Some(Self { recipe, local, folder, data, conditioner, autoencoder, decoder, encoder, guide, devices, stop }))
    }

    fn encoder(&self) -> Option<&dyn TargetEncoder> {
        self.encoder.as_ref().map(|encoder| encoder as _)
    }

    /// Pre-training, both post-trainings, their comparison; `seen` is what a given start has seen.
    fn study(
        &self,
        network: N::Network,
        start: Option<N::Network>,
        seen: Option<String>,
        measures: Measures<'a>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Finish>, Error> {
        let study = Study {
            recipe: self.recipe,
            local: &self.local.network,
            folder: self.folder.into(),
            conditioner: self.conditioner.clone(),
            autoencoder: self.autoencoder.as_deref(),
            guide: self.guide.as_ref(),
            encoder: self.encoder(),
            measures,
            seen,
            beside: self.devices.1,
            stop: self.stop,
        };
        Ok(match study.run(network, start, |config| self.recipe.network.objective(config), progress)? {
            StudyOutcome::Finished(report, page) => Some(Finish::Compared(report, page)),
            StudyOutcome::Interrupted => None,
        })
    }

    /// One training.
    fn train(&self, network: N::Network, progress: &mut dyn FnMut(Progress)) -> Result<Option<Finish>, Error> {
        let recipe = self.recipe;
        let (data, autoencoder) = (self.data.clone(), self.autoencoder.as_deref());
        let (images, device) = (data.len(), self.devices.0);
        let data = recipe.learned(
            self.folder,
            "training",
            data,
            autoencoder,
            device,
            &mut encoding(self.stop, images, progress),
        )?;
        progress(Progress::Begin(&recipe.name, Some(recipe.training.steps)));
        let run = Run {
            folder: self.folder.into(),
            recipe: recipe.to_value(),
            config: &recipe.training,
            seed: recipe.seed,
            data,
            conditioner: self.conditioner.clone(),
            flip: recipe.data.flip(),
            encoder: self.encoder(),
            beside: self.devices.1,
            stop: self.stop,
        };
        let (network, objective) = (recipe.adapted(network)?, recipe.network.objective(&recipe.objective));
        let images = ValidationImages::of(
            recipe,
            &self.local.network,
            &network,
            (self.data.classes(), &self.conditioner),
            (autoencoder.or(self.decoder.as_deref()), self.guide.as_ref()),
            self.folder,
            &mut |done| {
                progress(Progress::Labels(done as u64));
                Error::if_set(self.stop)
            },
        )?;
        images.iter().flat_map(ValidationImages::notices).for_each(|notice| progress(Progress::Note(notice)));
        let validation = images.as_ref().map(ValidationImages::validation);
        let on_event = |event: Event| progress(Progress::Training { folder: self.folder, event });
        let objective = AdapterDropout { objective: &objective, rate: recipe.adapter_dropout() };
        let Outcome::Finished(state) = run.train_validated(network, &objective, validation, on_event)? else {
            return Ok(None);
        };
        let file = recipe.store(&state.average(), self.folder)?;
        // What an earlier part of the run has drawn is on a page that tells of less than this.
        if images.is_some() || self.folder.join(page::FILE).is_file() {
            progress(Progress::Note(format!("report: {}", self.page()?.display())));
        }
        Ok(Some(Finish::Trained(file)))
    }
}
