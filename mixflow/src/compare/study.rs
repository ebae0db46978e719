//! What a comparison is made of, and what its parts have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::Device;
use mixflow_backbones::{Autoencoder, NetworkConfig};

use super::arms;
use crate::data::{Conditioner, Dataset};
use crate::evaluation::{Generator, Measures, ValidationImages};
use crate::objective::{AdapterDropout, TargetEncoder};
use crate::recipe::{ConditionOf, Guide, NetworkSettings, ObjectiveConfig, PostTraining, Recipe};
use crate::report::Arm;
use crate::train::{Checkpoints, Event, Outcome, Run, TrainConfig};
use crate::{Error, Objective};

/// A comparison in a folder; whatever is finished there is not done again.
#[derive(Debug)]
pub struct Study<'a, N: NetworkSettings = NetworkConfig> {
    /// What to do; its post-training must be there.
    pub recipe: &'a Recipe<N>,
    /// Its network, with files of this machine where that names some of the Hub.
    pub local: &'a N,
    /// Where it writes.
    pub folder: PathBuf,
    /// What the networks are told of the data's labels.
    pub conditioner: Arc<dyn Conditioner<ConditionOf<N>>>,
    /// Between the images and what the network learns, where that is latents.
    pub autoencoder: Option<&'a dyn Autoencoder>,
    /// The weaker network that all arms are guided by, where the recipe's sampling names one.
    pub guide: Option<&'a Guide>,
    /// Encoders of the clean images, where the objective aligns with them.
    pub encoder: Option<&'a dyn TargetEncoder>,
    /// By what images are measured.
    pub measures: Measures<'a>,
    /// What a given start has seen of the held-out images, as [`seen_by_start`](super::seen_by_start) says it.
    pub seen: Option<String>,
    /// Devices beside the network's that its trainings are shared with, see [`Run::beside`], and the drawing of images.
    pub beside: &'a [Device],
    /// Set from elsewhere, it ends the study after the step in progress.
    pub stop: &'a AtomicBool,
}

impl<N: NetworkSettings> Study<'_, N> {
    pub(super) fn generator<'a>(&'a self, network: &'a N::Network) -> Generator<'a, N::Network> {
        let generator = self.recipe.generator(network, &self.conditioner);
        Generator { autoencoder: self.autoencoder, guide: self.guide, beside: self.beside, ..generator }
    }

    pub(super) fn fault(&self, reason: String) -> Error {
        Error::unfit(&self.recipe.name, reason)
    }

    pub(super) fn arm_folders(
        &self,
        post: &PostTraining,
        trainings: &[(Arm, ObjectiveConfig)],
    ) -> impl Iterator<Item = PathBuf> {
        let arms = (0..post.seeds).flat_map(move |seed| trainings.iter().map(move |(arm, _)| arms::folder(arm, seed)));
        arms.map(|folder| self.folder.join(folder))
    }

    /// Refuses to train the start any longer once arms have begun from it: afterwards it would be another.
    pub(super) fn check_arms_wait(
        &self,
        post: &PostTraining,
        trainings: &[(Arm, ObjectiveConfig)],
    ) -> Result<(), Error> {
        let begun = self.arm_folders(post, trainings).find(|arm| arm.join("checkpoints").is_dir());
        let taken = Checkpoints::new(self.folder.join("pretraining/checkpoints"), 2).newest_step()?;
        match (begun, taken) {
            (Some(arm), Some(taken)) if taken != self.recipe.training.steps => Err(self.fault(format!(
                "{} has started from a pre-training of {taken} steps, the recipe has training.steps={}: continue with \
                 training.steps={taken}, or choose another --out",
                arm.display(),
                self.recipe.training.steps
            ))),
            _ => Ok(()),
        }
    }

    /// Trains in a folder of the study and returns the averaged network; none if interrupted.
    #[expect(clippy::too_many_arguments, reason = "one call for each of two kinds of training")]
    pub(super) fn train<O: Objective<N::Network>>(
        &self,
        folder: &str,
        network: N::Network,
        (settings, objective): (&ObjectiveConfig, &impl Fn(&ObjectiveConfig) -> O),
        (config, stop): (&TrainConfig, &AtomicBool),
        seed: u64,
        data: &Arc<dyn Dataset>,
        validation: Option<&ValidationImages<'_, N>>,
        progress: &mut dyn FnMut(Event),
    ) -> Result<Option<N::Network>, Error> {
        let recipe = Recipe { objective: settings.clone(), training: config.clone(), ..self.recipe.clone() };
        let run = Run {
            folder: self.folder.join(folder),
            recipe: recipe.to_value(),
            config,
            seed: self.recipe.seed + seed,
            data: data.clone(),
            conditioner: self.conditioner.clone(),
            flip: self.recipe.data.flip(),
            encoder: self.encoder,
            beside: self.beside,
            stop,
        };
        let validation = validation.map(ValidationImages::validation);
        let objective = AdapterDropout { objective: &objective(settings), rate: self.recipe.adapter_dropout() };
        let outcome = run.train_validated(network, &objective, validation, progress)?;
        let Outcome::Finished(state) = outcome else { return Ok(None) };
        let network = state.average();
        self.recipe.store(&network, &run.folder)?;
        Ok(Some(network.materialize()))
    }
}
