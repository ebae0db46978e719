//! The finished network in the folder of a run.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use mixflow::Device;
use mixflow::backbones::Backbone;
use mixflow::backbones::json::explain;
use mixflow::backbones::weights::Weights;
use mixflow::data::Fingerprint;
use mixflow::recipe::{NetworkSettings, PostTraining, Recipe};
use mixflow::train::{Checkpoints, Start};

use super::MODEL;
use crate::Error;

/// Which weights of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Averaging {
    /// Their moving average, which is what samples well.
    #[default]
    Average,
    /// As the last step left them, from the newest checkpoint.
    Last,
}

impl Averaging {
    /// The weights in words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Average => "moving average",
            Self::Last => "as the last step left them",
        }
    }
}

/// A network that was trained to the end, and what is known about it.
#[derive(Debug)]
pub(super) struct Finished<N: NetworkSettings> {
    /// The run's folder.
    pub(super) run: PathBuf,
    /// The folder of the training: that of the run, or an arm's in it.
    pub(super) folder: PathBuf,
    /// Name of the network in a comparison; none of a run that trained one alone.
    pub(super) arm: Option<String>,
    /// The recipe as it is written in the run.
    pub(super) text: String,
    pub(super) recipe: Recipe<N>,
    /// Names of the labels, as the run has recorded them.
    pub(super) names: Vec<String>,
    pub(super) averaging: Averaging,
    /// Steps of its training.
    pub(super) steps: u64,
    /// The file that the run left. None for weights that are in no file of their own.
    pub(super) file: Option<PathBuf>,
    /// The weights, unless others can use that file as it is: then no value is read before images are made.
    pub(super) read: Option<RewrittenWeights<N::Network>>,
    pub(super) parameters: usize,
    /// The device that it is loaded on.
    pub(super) device: Device,
    /// The weights that the run was given to start from.
    pub(super) start: Option<Start>,
}

/// Weights that are written anew, under official names.
#[derive(Debug)]
pub(super) enum RewrittenWeights<B> {
    Network(B),
    /// The weights of a checkpoint, of which no value was read yet.
    Checkpoint(Weights),
}

impl<N: NetworkSettings> Finished<N> {
    /// The first prompts that it was trained on, where it is told prompts.
    pub(super) fn prompts(&self, count: usize) -> Option<Vec<&String>> {
        let prompts = self.names.iter().filter(|name| !name.is_empty()).take(count);
        self.recipe.network.reads_names().then(|| prompts.collect())
    }

    /// The network with its weights.
    pub(super) fn network(&self) -> Result<N::Network, Error> {
        let settings = &self.recipe.network;
        let load = |weights| Ok(settings.load(settings.init(self.recipe.seed, &self.device), weights)?);
        match (&self.read, &self.file) {
            (None, Some(file)) => load(Weights::read(file)?),
            (Some(RewrittenWeights::Network(network)), _) => Ok(network.clone()),
            (Some(RewrittenWeights::Checkpoint(weights)), _) => load(weights.clone()),
            (None, None) => unreachable!("weights without a file were read"),
        }
    }

    /// The weights under official names, where they are written anew: finite numbers all of them.
    pub(super) fn rewritten(&self) -> Result<Option<Weights>, Error> {
        Ok(match &self.read {
            None => None,
            Some(RewrittenWeights::Network(network)) => Some(Weights::of(network, self.recipe.network.official_key())),
            Some(RewrittenWeights::Checkpoint(weights)) => {
                weights.check_values()?;
                Some(weights.clone())
            }
        })
    }

    /// Reads the network of a run that has ended, to be used on `device`. `arm` names a network of a comparison, `mixflow-0`
    /// if none is named, and nothing else.
    pub(super) fn read(run: &Path, arm: Option<&str>, averaging: Averaging, device: &Device) -> Result<Self, Error> {
        let (text, recipe) = recipe::<N>(run)?;
        let (arm, planned) = find_arm(run, &recipe, arm)?;
        let folder = arm.as_ref().map_or_else(|| run.to_path_buf(), |arm| run.join(arm));
        let trained = require_trained(run, arm.as_deref(), &folder, planned)?;
        let network = recipe.network.init(recipe.seed, device);
        let parameters = parameters(&network);
        let read = choose_weights(&recipe, network, &folder, averaging)?;
        let file = folder.join(MODEL);
        Ok(Self {
            run: run.into(),
            start: Start::read(run)?,
            names: Fingerprint::read(run)?.map_or_else(Vec::new, |data| data.classes),
            steps: trained.unwrap_or(planned),
            device: device.clone(),
            folder,
            arm,
            text,
            recipe,
            averaging,
            file: (averaging == Averaging::Average).then_some(file),
            read,
            parameters,
        })
    }
}

/// The network that `arm` names, none where the run trained one alone, and the steps of its training.
fn find_arm<N>(run: &Path, recipe: &Recipe<N>, arm: Option<&str>) -> Result<(Option<String>, u64), Error> {
    let fault = |reason: String| Error::Layout { folder: run.into(), reason };
    let Some(post) = &recipe.post_training else {
        return match arm {
            None => Ok((None, recipe.training.steps)),
            Some(arm) => Err(fault(format!("is no comparison: it has one network, and none called {arm}"))),
        };
    };
    let arm = arm.unwrap_or("mixflow-0");
    let trained = post.arms.iter().filter(|arm| arm.of().is_none());
    let folders = trained.map(|arm| format!("{}-N", arm.name.to_lowercase()));
    let steps = steps(recipe, post, arm).ok_or_else(|| {
        fault(format!(
            "has no network {arm}: expected pretraining, {}, with N from 0 to {}",
            folders.collect::<Vec<_>>().join(" or "),
            post.seeds.saturating_sub(1)
        ))
    })?;
    Ok((Some(arm.to_string()), steps))
}

/// The newest step of a training's checkpoints, if there is one; an error unless it has ended and left its weights.
fn require_trained(run: &Path, arm: Option<&str>, folder: &Path, planned: u64) -> Result<Option<u64>, Error> {
    let fault = |reason: String| Err(Error::Layout { folder: run.into(), reason });
    let done = newest_step(&folder.join("checkpoints"));
    match done {
        Some(done) if done < planned => fault(format!(
            "{}stands at step {done} of {planned}: continue its training with `train --resume` first",
            arm.map_or(String::new(), |arm| format!("{arm} ")),
        )),
        _ if !folder.join(MODEL).is_file() => fault(format!(
            "has no weights: expected {} once training has ended",
            arm.map_or(MODEL.into(), |arm| format!("{arm}/{MODEL}")),
        )),
        _ => Ok(done),
    }
}

/// The weights of a training; none where its file is published as it is.
fn choose_weights<N: NetworkSettings>(
    recipe: &Recipe<N>,
    network: N::Network,
    folder: &Path,
    averaging: Averaging,
) -> Result<Option<RewrittenWeights<N::Network>>, Error> {
    let (file, key) = (folder.join(MODEL), recipe.network.official_key());
    Ok(match averaging {
        Averaging::Average if is_official(&file, &network, key)? => None,
        Averaging::Average => Some(RewrittenWeights::Network(recipe.network.load(network, Weights::read(&file)?)?)),
        Averaging::Last => Some(RewrittenWeights::Checkpoint(last(folder, &network, key)?)),
    })
}

/// How many numbers a network has; none is drawn.
fn parameters(network: &impl Backbone) -> usize {
    network.num_params()
}

/// Whether others can use a file of weights as it is: it is safetensors, and has this network's tensors under official
/// names, and no others. No value is read.
pub(super) fn is_official(file: &Path, network: &impl Backbone, key: fn(&str) -> String) -> Result<bool, Error> {
    let weights = Weights::read(file)?;
    Ok(is_safetensors(file)? && weights.choices().is_empty() && weights.check(network, key).is_ok())
}

/// Whether a file of weights is safetensors; the others of those that are read are archives or pickles.
pub(super) fn is_safetensors(file: &Path) -> Result<bool, Error> {
    let mut start = vec![];
    let read = File::open(file).and_then(|file| file.take(9).read_to_end(&mut start));
    read.map_err(Error::io("read", file))?;
    Ok(start.get(8) == Some(&b'{'))
}

/// The recipe of a run, with its text.
fn recipe<N: NetworkSettings>(run: &Path) -> Result<(String, Recipe<N>), Error> {
    let fault = |reason: String| Error::Layout { folder: run.into(), reason };
    if !run.is_dir() {
        return Err(fault("is no folder: expected that of a run, such as runs/digits".into()));
    }
    let file = run.join("recipe.json");
    if !file.is_file() {
        let reason = "has no recipe.json: expected the folder of a run, as `cargo xtask train` leaves it";
        return Err(fault(reason.into()));
    }
    let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
    let fault = |reason: String| Error::Layout { folder: file.clone(), reason };
    let value = serde_json::from_str(&text).map_err(|error| fault(format!("is no JSON: {}", explain(&error))))?;
    let recipe = Recipe::parse_value(value).map_err(|wrong| fault(wrong.to_string()))?;
    Ok((text, recipe))
}

/// Steps of the training of an arm; none if there is no such arm.
fn steps<N>(recipe: &Recipe<N>, post: &PostTraining, arm: &str) -> Option<u64> {
    if arm == "pretraining" {
        return Some(recipe.training.steps);
    }
    post.arm_in(arm).map(|_| post.steps)
}

/// The last step of the checkpoints in a folder, whole or not.
fn newest_step(folder: &Path) -> Option<u64> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("step-")?.parse().ok()).max()
}

/// The weights of the last step, those of this network.
fn last(folder: &Path, network: &impl Backbone, key: fn(&str) -> String) -> Result<Weights, Error> {
    let fault = |reason: String| Error::Layout {
        folder: folder.into(),
        reason: format!("the weights of the last step are in its checkpoint only, but {reason}"),
    };
    let found = Checkpoints::new(folder.join("checkpoints"), 2).last_weights(network, key);
    let weights = found.map_err(|error| fault(error.to_string()))?.ok_or_else(|| fault("there is none".into()))?;
    weights.check(network, key)?;
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_training_of_a_comparison_has_its_steps() {
        let arms = r#"post_training.arms=["standard", { "name": "M-0" }, { "name": "best", "of": "M-0",
            "correction": { "kind": "schedule-corrector", "a": 0.1, "b": 1 } }]"#;
        let recipe = Recipe::read("digits", &[arms.into()]).unwrap();
        let post = recipe.post_training.as_ref().unwrap();
        let of = |arm| steps(&recipe, post, arm);
        assert_eq!([of("pretraining"), of("standard-2"), of("m-0-1")], [Some(800), Some(100), Some(100)]);
        assert_eq!([of("standard-3"), of("mixflow-0"), of("best-0"), of("standard")], [None; 4]);
    }
}
