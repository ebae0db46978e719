//! What is published of a run, file by file.

use std::fs;
use std::path::{Path, PathBuf};

use mixflow::backbones::weights::Weights;
use mixflow::files::{WeightsFile, write_atomic};
use mixflow::recipe::{AutoencoderConfig, GuideConfig, NetworkSettings};
use mixflow::train::StoredNetwork;

use super::card::Card;
use super::files::{self, RequiredFile};
use super::finished::{Finished, is_official, is_safetensors};
use super::results::MeasuredScores;
use super::samples::{self, SamplePicture};
use super::{AUTOENCODER, MODEL, Publication, SampleImages, adapter};
use crate::listing::Tree;
use crate::progress::Progress;
use crate::upload_file::{self, UploadFile};
use crate::{Client, Error, Repository, TransferProgress};

/// What is in a folder for publication, and what belongs to it.
pub(super) struct StagedModel {
    /// Files that are published as they are, where they are.
    pub(super) elsewhere: Vec<UploadFile>,
    /// What was left out, and why.
    pub(super) left_out: Vec<String>,
    /// Whether the branch has the sample images already.
    pub(super) keeps_samples: bool,
}

impl<N: NetworkSettings> Publication<N> {
    /// Writes what the run has not as it is published into a folder; `there` is what the branch has.
    pub(super) fn stage(
        &self,
        client: Option<&Client>,
        folder: &Path,
        (repository, branch): (&Repository, &str),
        there: &Tree,
        progress: Progress<'_>,
    ) -> Result<StagedModel, Error> {
        let model = self.model(folder)?;
        let mut elsewhere = self.needed(folder)?;
        let config = self.config()?;
        if self.adapter.is_none() {
            write_atomic(&folder.join("config.json"), config.as_bytes())?;
        }
        progress(TransferProgress::Hashing { file: MODEL, size: model.size });
        let mut measured = self.write_results(&model, folder)?;
        match &self.adapter {
            Some(file) => elsewhere.push(UploadFile::at(adapter::FILE, file.clone())?),
            None if self.finished.read.is_none() => elsewhere.push(model),
            None => {}
        }
        let write_card = |sampled: Option<&SamplePicture>, measured: &MeasuredScores| {
            let card = Card {
                finished: &self.finished,
                choice: &self.choice,
                repository,
                branch,
                measured,
                needed: &self.needed,
                sampled,
                parameters: self.finished.parameters,
                config: &config,
            };
            write_atomic(&folder.join("README.md"), card.text().as_bytes()).map_err(Error::from)
        };
        let expected = samples::expected(&self.choice.samples, &self.finished);
        if let Some(expected) = expected.filter(|expected| there.contains_key(&expected.name)) {
            write_card(Some(&expected), &measured)?;
            // The card has the recipe and the caption in it: with it and the weights, the picture would be the same.
            if all_there(upload_file::files_of(folder)?.iter().chain(&elsewhere), there)? {
                return Ok(StagedModel { elsewhere, left_out: measured.left_out, keeps_samples: true });
            }
        }
        let loaded = self.adapter.is_none() && self.choice.samples == SampleImages::Made;
        // What is there was checked before.
        if !loaded && !all_there(elsewhere.iter(), there)? {
            let mut own = elsewhere.iter().filter(|file| [MODEL, adapter::FILE].contains(&file.name.as_str()));
            own.try_for_each(|file| Weights::read(&file.path)?.check_values())?;
        }
        let sampled = match samples::write(&self.choice.samples, &self.finished, folder, client, progress)? {
            Ok(sampled) => sampled,
            Err(reason) => {
                measured.left_out.push(reason);
                None
            }
        };
        write_card(sampled.as_ref(), &measured)?;
        Ok(StagedModel { elsewhere, left_out: measured.left_out, keeps_samples: false })
    }

    /// The recipe as it is published: with the names of published files, and of the network and a weaker one what the run
    /// knows.
    fn config(&self) -> Result<String, Error> {
        let Finished { run, text, recipe, .. } = &self.finished;
        let guide = recipe.sampling.guide.as_ref().filter(|guide| guide.weights.exists());
        let guide = guide.map(GuideConfig::resolved).transpose()?;
        files::published(text, &self.needed)
            .and_then(|config| files::with_guide(config, recipe, guide.as_ref()))
            .and_then(|config| files::with_network(config, recipe.network.published(run)))
            .map_err(|reason| Error::Layout { folder: run.join("recipe.json"), reason })
    }

    /// Writes what was measured of these very weights into `results/`.
    fn write_results(&self, model: &UploadFile, folder: &Path) -> Result<MeasuredScores, Error> {
        let sha256 = model.sha256()?.as_str().into();
        let measured = MeasuredScores::read(&self.finished, &WeightsFile { file: MODEL.into(), sha256 })?;
        for (name, value) in &measured.files {
            let file = folder.join(name);
            fs::create_dir_all(folder.join("results")).map_err(Error::io("create", &file))?;
            let text = serde_json::to_vec_pretty(value).expect("what was read as JSON is JSON");
            write_atomic(&file, &text)?;
        }
        Ok(measured)
    }

    /// The network that was measured: the run's own file, or one that is written into a folder.
    fn model(&self, folder: &Path) -> Result<UploadFile, Error> {
        // Of an adapter it is the network with that in it, which stays behind.
        let rewritten = if self.adapter.is_some() { None } else { self.finished.rewritten()? };
        match (rewritten, &self.finished.file) {
            (Some(weights), _) => {
                let file = folder.join(MODEL);
                weights.write(&file, &self.metadata(&self.finished.steps.to_string()))?;
                UploadFile::at(MODEL, file)
            }
            (None, Some(file)) => UploadFile::at(MODEL, file.clone()),
            (None, None) => unreachable!("weights without a file are written anew"),
        }
    }

    /// What sampling needs beside the network: written into a folder, but for the files that are given.
    fn needed(&self, folder: &Path) -> Result<Vec<UploadFile>, Error> {
        let Finished { run, recipe, .. } = &self.finished;
        let mut elsewhere = vec![];
        if self.adapter.is_none() && matches!(recipe.autoencoder, Some(AutoencoderConfig::TrainedRae(_))) {
            elsewhere.push(UploadFile::at(AUTOENCODER, run.join(AUTOENCODER))?);
        }
        for needed in self.needed.iter().filter(|needed| needed.is_copied()) {
            match self.official(needed)? {
                Ok(file) => elsewhere.push(UploadFile::at(&needed.name, file)?),
                Err(weights) => {
                    weights.write(folder.join(&needed.name), &[("format", "pt"), ("library_name", "mixflow")])?;
                }
            }
        }
        Ok(elsewhere)
    }

    /// The file to be published of one that the recipe names, where that can be used as it is; otherwise its weights under
    /// official names.
    fn official(&self, needed: &RequiredFile) -> Result<Result<PathBuf, Weights>, Error> {
        let device = &self.finished.device;
        let guide = self.finished.recipe.sampling.guide.as_ref();
        if let Some(guide) = guide.filter(|guide| needed.key == files::GUIDE && guide.weights == needed.path) {
            let stored = StoredNetwork::find(&guide.weights)?;
            return match stored {
                StoredNetwork::File(file)
                    if is_official(&file, &guide.network.init(0, device), guide.network.official_key())? =>
                {
                    Ok(Ok(file))
                }
                _ => Ok(Err(guide.load(device)?.network.weights())),
            };
        }
        let weights = Weights::read(&needed.path)?;
        let whole = is_safetensors(&needed.path)? && weights.choices().is_empty();
        Ok(if whole { Ok(needed.path.clone()) } else { Err(weights) })
    }

    /// What the file of the weights says about itself.
    fn metadata<'a>(&'a self, step: &'a str) -> Vec<(&'a str, &'a str)> {
        let Finished { recipe, arm, averaging, .. } = &self.finished;
        let mut metadata = vec![
            ("format", "pt"),
            ("library_name", "mixflow"),
            ("mixflow_version", env!("CARGO_PKG_VERSION")),
            ("recipe", recipe.name.as_str()),
            ("weights", averaging.name()),
            ("step", step),
        ];
        metadata.extend(arm.as_deref().map(|arm| ("network", arm)));
        metadata
    }
}

/// Whether a branch has all of these files as they are.
fn all_there<'a>(mut files: impl Iterator<Item = &'a UploadFile>, there: &Tree) -> Result<bool, Error> {
    files.try_fold(true, |all, file| Ok(all && there.get(&file.name).map_or(Ok(false), |found| file.is(found))?))
}
