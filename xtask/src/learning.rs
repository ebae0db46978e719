//! The trainings of a recipe, of any network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mixflow::backbones::Autoencoder;
use mixflow::backbones::encoder::Encoder;
use mixflow::backbones::weights::Weights;
use mixflow::compare::{self, Study, StudyOutcome};
use mixflow::data::{Conditioner, Dataset, learned};
use mixflow::objective::TargetEncoder;
use mixflow::recipe::{ConditionOf, Guide, NetworkSettings, Preparation, Recipe};
use mixflow::train::{Outcome, Run, check_same_frozen};

use crate::progress::Progress;
use crate::run::{Result, STOP, say};
use crate::tracking::Tracking;

/// A recipe with all that its training needs besides its network.
pub(crate) struct Prepared<'a, N: NetworkSettings> {
    recipe: &'a Recipe<N>,
    folder: PathBuf,
    data: Arc<dyn Dataset>,
    conditioner: Arc<dyn Conditioner<ConditionOf<N>>>,
    autoencoder: Option<Box<dyn Autoencoder>>,
    encoder: Option<Encoder>,
    guide: Option<Guide>,
}

impl<'a, N: NetworkSettings> Prepared<'a, N> {
    /// Reads or trains the frozen networks, and prepares what the network is told; `local` is the recipe with files of this machine. None if stopped in between.
    pub(crate) fn new(
        [recipe, local]: [&'a Recipe<N>; 2],
        folder: PathBuf,
        data: Arc<dyn Dataset>,
        guide: Option<Guide>,
    ) -> Result<Option<Self>> {
        let (mut progress, mut autoencoder, mut encoder) = (Progress::new(), None, None);
        let conditioner = conditioner(&local.network, data.classes(), &folder)?;
        let value = recipe.to_value();
        let preparation = Preparation { folder: &folder, recipe: &value, data: &data, stop: &STOP };
        if let Some(config) = local.encoding() {
            progress.begin("autoencoder", config.training_steps());
            autoencoder = config.prepare(&preparation, |event| progress.training(&event))?;
            if autoencoder.is_none() {
                return Ok(None);
            }
        }
        if let Some(config) = &local.target_encoder {
            progress.begin("target encoder", config.training_steps());
            encoder = config.prepare(&preparation, |event| progress.training(&event))?;
            if encoder.is_none() {
                return Ok(None);
            }
        }
        progress.end();
        // The folder tells more by now: its classes, and the autoencoder that was trained first.
        if guide.is_some() {
            local.guide(&folder)?;
        }
        check_same_frozen(&folder, &local.frozen_files(&folder))?;
        Ok(Some(Self { recipe, folder, data, conditioner, autoencoder, encoder, guide }))
    }

    fn encoder(&self) -> Option<&dyn TargetEncoder> {
        self.encoder.as_ref().map(|encoder| encoder as _)
    }

    /// Pre-training, both post-trainings, their comparison; `seen` is what a given start has seen. False if interrupted.
    pub(crate) fn study(
        &self,
        network: N::Network,
        start: Option<N::Network>,
        seen: Option<String>,
        tracking: &mut Tracking,
    ) -> Result<bool> {
        let mut progress = Progress::new();
        let study = Study {
            recipe: self.recipe,
            folder: self.folder.clone(),
            conditioner: self.conditioner.clone(),
            autoencoder: self.autoencoder.as_deref(),
            guide: self.guide.as_ref(),
            encoder: self.encoder(),
            seen,
            stop: &STOP,
        };
        let objective = |config: &_| self.recipe.network.objective(config);
        let outcome = study.run(network, start, objective, |event| match event {
            compare::Progress::Begin(name, steps) => {
                tracking.trained();
                progress.begin(name, steps);
            }
            compare::Progress::Images(done) => progress.counted(done, "image"),
            compare::Progress::Training { folder, event } => {
                progress.training(&event);
                tracking.training(folder, &event, &progress);
            }
        })?;
        progress.end();
        match outcome {
            StudyOutcome::Finished(report, page) => {
                tracking.report(&report);
                say(format_args!("\n{}\n\n{}\n", report.table, report.summary_text()))?;
                say(format_args!("report: {}", page.display()))?;
                Ok(true)
            }
            StudyOutcome::Interrupted => Ok(false),
        }
    }

    /// One training. False if interrupted.
    pub(crate) fn single(&self, network: N::Network, tracking: &mut Tracking) -> Result<bool> {
        let recipe = self.recipe;
        let mut progress = Progress::new();
        progress.begin(&recipe.name, Some(recipe.training.steps));
        let run = Run {
            folder: self.folder.clone(),
            recipe: recipe.to_value(),
            config: &recipe.training,
            seed: recipe.seed,
            data: learned(self.data.clone(), self.autoencoder.as_deref())?,
            conditioner: self.conditioner.clone(),
            flip: recipe.data.flip(),
            encoder: self.encoder(),
            stop: &STOP,
        };
        let outcome = run.train(network, &recipe.network.objective(&recipe.objective), |event| {
            progress.training(&event);
            tracking.training(&self.folder, &event, &progress);
        })?;
        progress.end();
        match outcome {
            Outcome::Finished(state) => {
                let file = self.folder.join("model.safetensors");
                let weights = Weights::of(&state.average(), recipe.network.official_key());
                weights.write(&file, &[("format", "pt"), ("library_name", "mixflow")])?;
                say(format_args!("weights (moving average): {}", file.display()))?;
                Ok(true)
            }
            Outcome::Interrupted { .. } => Ok(false),
        }
    }
}

/// What a network is told of labels of these names; `folder` keeps what that is made of.
pub(crate) fn conditioner<N: NetworkSettings>(
    network: &N,
    labels: &[String],
    folder: &Path,
) -> Result<Arc<dyn Conditioner<ConditionOf<N>>>> {
    let mut progress = Progress::new();
    let (mut begun, count) = (false, labels.len());
    let conditioner = network.conditioner(labels, folder, &mut |done| {
        if !std::mem::replace(&mut begun, true) {
            progress.begin("prompts", Some(count as u64));
        }
        progress.images(done, count);
    })?;
    progress.end();
    Ok(conditioner)
}
