//! The frozen networks that a training needs, trained first where they have to be.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use mixflow_backbones::autoencoder::Autoencoder;
use mixflow_backbones::encoder::Encoder;
use mixflow_backbones::rae::Rae;
use mixflow_backbones::weights::Weights;
use serde_json::Value;

use crate::Error;
use crate::autoencoder_training::{Judges, RaeRun};
use crate::data::Dataset;
use crate::recipe::{AutoencoderConfig, DecoderRecipe, TargetEncoderConfig, TrainedRae};
use crate::train::{Checkpoints, Event, check_same_frozen, has_begun};

/// Where and on what a run trains its frozen networks first. What was trained already is read from its folder. Each gives
/// nothing if it was asked to stop; a checkpoint is written then.
#[derive(Debug)]
pub struct Preparation<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// The run's recipe, stored with every checkpoint.
    pub recipe: &'a Value,
    /// Its images.
    pub data: &'a Arc<dyn Dataset>,
    /// What it computes on.
    pub device: &'a Device,
    /// Set from elsewhere, it ends the training after the step in progress.
    pub stop: &'a AtomicBool,
}

impl Preparation<'_> {
    /// The autoencoder of a recipe.
    ///
    /// # Errors
    /// As [`AutoencoderConfig::load`] and [`RaeRun::from_scratch`].
    pub fn autoencoder(
        &self,
        config: &AutoencoderConfig,
        progress: impl FnMut(Event),
    ) -> Result<Option<Box<dyn Autoencoder>>, Error> {
        match config {
            AutoencoderConfig::TrainedRae(trained) => Ok(self.rae(trained, progress)?.map(|rae| Box::new(rae) as _)),
            _ => config.load(self.folder, self.device).map(Some),
        }
    }

    /// The target encoder of a recipe.
    ///
    /// # Errors
    /// As [`autoencoder`](Self::autoencoder).
    pub fn target_encoder(
        &self,
        config: &TargetEncoderConfig,
        progress: impl FnMut(Event),
    ) -> Result<Option<Encoder>, Error> {
        match config {
            TargetEncoderConfig::File { encoder, weights } => {
                Ok(Some(encoder.init(0, self.device).load(Weights::read(weights)?)?))
            }
            TargetEncoderConfig::Trained(trained) => Ok(self.rae(trained, progress)?.map(|rae| rae.encoder)),
        }
    }

    fn rae(&self, config: &TrainedRae, progress: impl FnMut(Event)) -> Result<Option<Rae>, Error> {
        let (file, folder) = (TrainedRae::file(self.folder), self.folder.join("autoencoder"));
        if file.is_file() {
            // What was trained after it knows its latents or features.
            let taken = Checkpoints::new(folder.join("checkpoints"), 2).newest_step()?;
            if let Some(taken) = taken.filter(|taken| *taken != config.training.steps) {
                let reason = format!(
                    "it was trained for {taken} steps, the recipe has {} for it: continue with {taken}, or choose another \
                     --out",
                    config.training.steps
                );
                return Err(Error::unfit(file.display(), reason));
            }
        } else {
            let judges = Judges::load(&config.training, self.device)?;
            let losses = config.training.files();
            if !losses.is_empty() {
                fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
                if !has_begun(&folder) {
                    // That of a training which came to nothing.
                    let _ = fs::remove_file(folder.join("frozen.json"));
                }
                check_same_frozen(&folder, &losses)?;
            }
            let run = RaeRun {
                folder,
                recipe: self.recipe.clone(),
                training: &config.training,
                judges,
                data: Arc::clone(self.data),
                stop: self.stop,
            };
            let Some(rae) = run.from_scratch(&config.encoder, &config.decoder, self.device, progress)? else {
                return Ok(None);
            };
            Weights::of(&rae, str::to_string).write(&file, &[("library_name", "mixflow")])?;
        }
        // What is used is what the file holds, whether the run was stopped in between or not.
        config.load(self.folder, self.device).map(Some)
    }
}

/// The training of a decoder alone on a device, in a folder.
///
/// # Errors
/// If the file of a loss cannot be read or does not fit.
pub fn decoder_run<'a>(
    recipe: &'a DecoderRecipe,
    folder: &Path,
    data: Arc<dyn Dataset>,
    device: &Device,
    stop: &'a AtomicBool,
) -> Result<RaeRun<'a>, Error> {
    let training = &recipe.training;
    Ok(RaeRun {
        folder: folder.into(),
        recipe: recipe.to_value(),
        training,
        judges: Judges::load(training, device)?,
        data,
        stop,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::tests::trained;

    #[test]
    fn an_autoencoder_that_was_trained_for_other_steps_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let prepare = |steps: u64| {
            let recipe = trained(steps);
            let (value, data, stop) = (recipe.to_value(), recipe.open().unwrap(), AtomicBool::new(false));
            let device = &Device::default();
            let preparation = Preparation { folder: folder.path(), recipe: &value, data: &data, device, stop: &stop };
            preparation
                .autoencoder(recipe.autoencoder.as_ref().unwrap(), |_| {})
                .map(|autoencoder| autoencoder.is_some())
        };
        let file = folder.path().join("autoencoder.safetensors");
        assert!(prepare(1).unwrap());
        let first = fs::read(&file).unwrap();
        assert!(prepare(1).unwrap());
        let error = prepare(2).unwrap_err().to_string();
        assert!(error.contains("trained for 1 steps, the recipe has 2"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), first);
        // Without the file its training goes on.
        fs::remove_file(&file).unwrap();
        assert!(prepare(2).unwrap());
        assert_ne!(fs::read(&file).unwrap(), first);
    }
}
