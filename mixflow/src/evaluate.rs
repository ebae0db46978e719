//! A trained network against its recipe's data.

use std::path::PathBuf;

use mixflow_backbones::{Backbone, ClassLabels};
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Permutation};
use crate::generate::{Generator, Visit, balanced_labels};
use crate::metric::{self, Features, MeasureOptions, Measurement, Reference, measure};
use crate::random::Stream;
use crate::recipe::{NetworkSettings, Recipe, SamplingConfig};
use crate::{Error, digest};

/// How good images are, and how they were made. Pixels are the features: these are not the numbers of an Inception
/// network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Solver, times and guidance.
    pub sampling: SamplingConfig,
    /// Weights of the guide, where the guidance is away from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guide: Option<WeightsFile>,
    /// Network evaluations for each image.
    pub evaluations: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// The numbers, with the real-against-real floor.
    pub measurement: Measurement,
    /// Lines to tell the user of the data: which files are broken and why, and what of others is not in their images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// Makes `count` images, every class equally often, and measures them against the training data.
///
/// The floor is held-out data as [`Recipe::parts`] divides it: `count` images, or fewer where there are fewer.
/// `visit` sees every state on the way.
///
/// # Errors
/// If the data cannot be read, sampling fails, or `count` is too small for a metric.
pub fn evaluate<N: NetworkSettings, B: Backbone<Condition = ClassLabels>>(
    recipe: &Recipe<N>,
    generator: &Generator<'_, B>,
    count: usize,
    visit: &mut Visit<'_>,
) -> Result<Evaluation, Error> {
    let (train, held_out) = recipe.parts(count)?;
    let classes = train.classes().len();
    if count < classes {
        let reason = format!("there are {classes} classes to measure: expected as many images or more, found {count}");
        return Err(Error::Recipe { origin: recipe.name.clone(), reason });
    }
    let reference = features(&train, reference_size(&train, count))?;
    let floor = features(&held_out, held_out.len().map_or(count as u64, |len| len.min(count as u64)))?;
    let images = generator.trajectories(&balanced_labels(count, classes), 0, visit)?;
    Ok(Evaluation {
        sampling: recipe.sampling.clone(),
        guide: generator.guide.map(|guide| guide.weights.clone()),
        evaluations: images.evaluations,
        seed: recipe.seed,
        measurement: measure(&reference, &floor, &images.features()?, MeasureOptions::default())?,
        remarks: train.remarks(),
    })
}

/// Measures generated images against all of some real ones, both as features of one extractor.
///
/// For the floor, as many real images as there are generated ones, but no more than half, are chosen at random and
/// measured against the others.
///
/// # Errors
/// If the sets differ in width or are too small: 8 real and 4 generated images are the least.
pub fn evaluate_features(generated: &Features, real: &Features, seed: u64) -> Result<Measurement, Error> {
    if real.rows() < 8 {
        let metric = "a reference with its floor";
        return Err(metric::Error::TooFewRows { metric, needed: 8, found: real.rows() }.into());
    }
    let order = Permutation::new(seed, Stream::Split, 0, real.rows() as u64);
    let order: Vec<usize> = (0..real.rows() as u64).map(|row| order.apply(row) as usize).collect();
    let (floor, others) = order.split_at(generated.rows().min(real.rows() / 2));
    Ok(Reference::with_floor_inside(real, [floor, others], MeasureOptions::default())?.measure(generated)?)
}

/// Which weights: a file and what was in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsFile {
    /// Its path.
    pub file: PathBuf,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

impl WeightsFile {
    /// # Errors
    /// If the file cannot be read.
    pub fn read(file: impl Into<PathBuf>) -> Result<Self, Error> {
        let file = file.into();
        let sha256 = digest::file(&file).map_err(Error::io("read", &file))?;
        Ok(Self { file, sha256 })
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::metric::fixture::noise;
    use crate::metric::{Gaussian, frechet_distance};

    fn gaussian(features: &Features) -> Gaussian {
        Gaussian::from_features(features).unwrap()
    }

    #[test]
    fn two_halves_of_one_set_reach_the_floor() {
        // In 40 dimensions a distance of 200 images varies by few per cent from draw to draw.
        let (generated, real) = (noise(200, 40, 1), noise(500, 40, 2));
        let found = evaluate_features(&generated, &real, 0).unwrap();
        assert_eq!((found.reference_rows, found.floor.rows, found.generated.rows), (500, 200, 200));
        assert!((found.generated.frechet / found.floor.frechet - 1.0).abs() < 0.5, "{found}");
        assert!(found.to_string().contains("200 of the real images against the other 300"), "{found}");
        // What is generated sees the whole reference; only the floor knows of a split.
        let whole = frechet_distance(&gaussian(&generated), &gaussian(&real)).unwrap();
        assert!((found.generated.frechet - whole).abs() < 1e-9 * whole, "{found}");
        assert_eq!(evaluate_features(&generated, &real, 0).unwrap(), found);
        assert_ne!(evaluate_features(&generated, &real, 1).unwrap().floor, found.floor);
    }

    #[test]
    fn half_of_the_real_images_are_a_reference_of_the_floor_at_least() {
        let found = evaluate_features(&noise(50, 3, 1), &noise(41, 3, 2), 0).unwrap();
        assert_eq!((found.reference_rows, found.floor_reference_rows, found.floor.rows), (41, 21, 20));
        assert!(!found.sizes_match());
        let few = evaluate_features(&noise(50, 3, 1), &noise(7, 3, 2), 0).unwrap_err();
        assert!(few.to_string().contains("at least 8 rows, found 7"), "{few}");
    }
}
