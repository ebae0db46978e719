//! A trained network against its recipe's data.

use std::path::Path;

use mixflow_backbones::{Backbone, ClassLabels};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::data::Dataset;
use crate::generate::{Visit, balanced_labels};
use crate::metric::{Features, MeasureOptions, Measurement, measure};
use crate::recipe::{Recipe, SamplingConfig};

/// How good images are, and how they were made. Pixels are the features: these are not the numbers of an Inception
/// network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Solver, times and guidance.
    pub sampling: SamplingConfig,
    /// Network evaluations for each image.
    pub evaluations: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// The numbers, with the real-against-real floor.
    pub measurement: Measurement,
}

/// Makes `count` images, every class equally often, and measures them against the training data.
///
/// The floor is held-out data as [`Recipe::parts`] divides it: `count` images, or fewer where there are fewer.
/// `visit` sees every state on the way.
///
/// # Errors
/// If the data cannot be read, sampling fails, or `count` is too small for a metric.
pub fn evaluate<B: Backbone<Condition = ClassLabels>>(
    recipe: &Recipe,
    network: &B,
    count: usize,
    visit: &mut Visit<'_>,
) -> Result<Evaluation, Error> {
    let (train, held_out) = recipe.parts(count)?;
    let reference = features(&train, reference_size(&train, count))?;
    let floor = features(&held_out, held_out.len().map_or(count as u64, |len| len.min(count as u64)))?;
    let images = recipe.generator(network).trajectories(&balanced_labels(count, train.classes().len()), 0, visit)?;
    Ok(Evaluation {
        sampling: recipe.sampling.clone(),
        evaluations: images.evaluations,
        seed: recipe.seed,
        measurement: measure(&reference, &floor, &images.features()?, MeasureOptions::default())?,
    })
}

/// SHA-256 of a file, in hexadecimal: which weights were measured.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Real images that `count` others are measured against: all, at most 10,000, or four times as many of an endless source.
pub(crate) fn reference_size(data: &dyn Dataset, count: usize) -> u64 {
    data.len().map_or(4 * count as u64, |len| len.min(10_000))
}

/// The first images of a source as features, in its own order.
pub(crate) fn features(data: &dyn Dataset, count: u64) -> Result<Features, Error> {
    let pixels = (0..count).map(|index| Ok(data.example(index)?.pixels)).collect::<Result<Vec<_>, Error>>()?;
    let width: usize = data.shape().iter().product();
    Ok(Features::new(count as usize, width, pixels.into_iter().flatten().map(f64::from).collect())?)
}
