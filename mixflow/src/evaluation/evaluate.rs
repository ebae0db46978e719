//! A trained network against its recipe's data.

use mixflow_backbones::Backbone;
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Labels, Permutation, own_len};
use crate::evaluation::decoded::{decoded, decoder};
use crate::evaluation::metric::{self, Features, Gaussian, MeasureOptions, Measurement, Reference};
use crate::evaluation::scenes::SceneScores;
use crate::evaluation::{Generator, Measured, Measures, Visited, are_pixels, pixels};
use crate::files::{Parts, WeightsFile};
use crate::random::Stream;
use crate::recipe::{NetworkSettings, Recipe, SamplingConfig};
use crate::sampling::Images;
use crate::{Error, device};

/// How good images are, and how they were made. Unless `features` are those of an Inception network, these are not its
/// numbers.
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
    /// How the classes of the images were chosen; results that do not say took every class equally often.
    #[serde(default = "balanced")]
    pub labels: Labels,
    /// Whether the network was trained on the real images of the floor too, since nothing was held out from it.
    #[serde(default)]
    pub trained_on_floor: Option<bool>,
    /// Whether the real images are stored latents that the autoencoder decoded, so that what it loses is not measured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decoded: bool,
    /// What the features were: pixels, in results that do not say.
    #[serde(default = "pixels", skip_serializing_if = "are_pixels")]
    pub features: String,
    /// The numbers, with the real-against-real floor.
    pub measurement: Measurement,
    /// Those of one's own measures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Measured>,
    /// Lines to tell the user of the data: which files are broken and why, and what of others is not in their images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

fn balanced() -> Labels {
    Labels::Balanced
}

/// What measuring tells while it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measuring {
    /// A part begins: its name and, where they are counted, its number of images.
    Begin(&'static str, Option<u64>),
    /// So many images of the part are done.
    Images(u64),
}

/// Makes `count` images, their classes in the shares of the real ones, and measures them against the training data.
///
/// The floor is the other part of the data as [`Recipe::parts`] divides it, whatever `generator` draws with: `count`
/// images, or fewer where there are fewer. `parts` are images of [`evaluated_labels`] that were made before, as
/// [`PartValues::F32`](crate::files::PartValues::F32); of what, is for the caller to compare.
///
/// # Errors
/// If the data cannot be read or are no images, sampling fails, or `count` is too small for a metric. What can be known
/// before is said before the first image is made.
pub fn evaluate<N: NetworkSettings, B: Backbone>(
    recipe: &Recipe<N>,
    generator: &Generator<'_, B>,
    count: usize,
    measures: &Measures<'_>,
    parts: Option<&Parts>,
    progress: &mut dyn FnMut(Measuring),
) -> Result<Evaluation, Error> {
    let (decoder, device) = (decoder(recipe, generator)?, device::of(generator.network));
    let (train, held_out) = recipe.parts(count)?;
    let (classes, options) = (train.classes().len(), MeasureOptions::default());
    // Of captions some are drawn.
    let measured = if recipe.network.reads_names() { 0 } else { classes };
    let least = measured.max(options.neighbours + 1);
    if count < least {
        let reason = format!("there are {measured} classes to measure: expected {least} images or more, found {count}");
        return Err(Error::unfit(&recipe.name, reason));
    }
    let shape = match decoder {
        Some(decoder) => {
            let [_, channels, height, width] =
                decoded(&train, 1, decoder, &device).next().expect("there is an example")?.shape;
            [channels, height, width]
        }
        None => train.shape(),
    };
    Gaussian::check_columns(measures.columns(shape)?)?;
    let floor_size = held_out.len().map_or(count as u64, |len| len.min(count as u64));
    let size = reference_size(&train, count);
    progress(Measuring::Begin("real images", Some(size + floor_size)));
    let mut features = |data: &dyn Dataset, count: u64, before: u64| {
        let progress = &mut |done| progress(Measuring::Images(before + done));
        match decoder {
            Some(decoder) => measures.of_batches(decoded(data, count, decoder, &device), count as usize, progress),
            None => measures.of_data(data, count, progress),
        }
    };
    let (real, floor) = (features(&train, size, 0)?, features(&held_out, floor_size, size)?);
    progress(Measuring::Begin("measuring real images", None));
    let against = measures.against(&real, &floor)?;
    let labels = || Ok::<_, Error>(LABELS.draw(count, &class_counts(&train, size)?, generator.seed));
    let images = match parts {
        Some(parts) => {
            progress(Measuring::Begin("reading images", None));
            let images = Images { rounding: generator.sampling.bytes, ..parts.images()? };
            if images.shape[0] != count {
                let reason = format!("holds {} images, expected {count}", images.shape[0]);
                return Err(Error::Images { path: parts.folder().into(), reason });
            }
            images
        }
        None => {
            progress(Measuring::Begin("sampling", Some(count as u64)));
            generator.trajectories(&labels()?, 0, &mut |state| progress(Measuring::Images(state.done)))?
        }
    };
    progress(Measuring::Begin("measuring", None));
    let (measurement, mut more) = against.measure(&images)?;
    if let Some(scenes) = SceneScores::of(&recipe.data, count)? {
        more.extend(scenes.seen(&labels()?).measure(&images));
        progress(Measuring::Begin("sampling unseen captions", Some(count as u64)));
        let unseen = scenes.unseen();
        let told = &mut |state: Visited<'_>| progress(Measuring::Images(state.done));
        more.extend(unseen.measure(&generator.trajectories(&unseen.labels, 2 * count as u64, told)?));
    }
    Ok(Evaluation {
        sampling: generator.sampling.clone(),
        guide: generator.guide.map(|guide| guide.weights.clone()),
        evaluations: images.evaluations,
        seed: generator.seed,
        labels: LABELS,
        trained_on_floor: Some(recipe.post_training.is_none()),
        decoded: decoder.is_some(),
        features: measures.features.name().into(),
        measurement,
        more,
        remarks: train.remarks(),
    })
}

/// How [`evaluate`] chooses classes.
const LABELS: Labels = Labels::Reference;

/// The labels that [`evaluate`] draws `count` images of.
///
/// # Errors
/// If the data cannot be read.
pub fn evaluated_labels<N: NetworkSettings>(recipe: &Recipe<N>, count: usize, seed: u64) -> Result<Vec<usize>, Error> {
    let (train, _) = recipe.parts(count)?;
    Ok(LABELS.draw(count, &class_counts(&train, reference_size(&train, count))?, seed))
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

/// Pairs of images that [`evaluate_features`] compares: with `n` images it takes time in `n²`.
pub fn evaluation_pairs(generated: usize, real: usize) -> u64 {
    let [generated, real] = [generated, real].map(|rows| rows as u64);
    let floor = generated.min(real / 2);
    // A set is compared with itself for the kernel distance and for the radii, with another for the distance and both shares.
    let between = |a: u64, b: u64| 2 * a * a + 3 * a * b;
    let others = real - floor;
    2 * others * others + between(floor, others) + 2 * real * real + between(generated, real)
}

/// Real images that `count` others are measured against: all, at most 10,000, or four times as many of an endless source.
pub(crate) fn reference_size(data: &dyn Dataset, count: usize) -> u64 {
    own_len(data).map_or(4 * count as u64, |len| len.min(10_000))
}

/// How many of the first images of a source are in each class.
///
/// # Errors
/// If one cannot be read.
pub fn class_counts(data: &dyn Dataset, count: u64) -> Result<Vec<u64>, Error> {
    let mut counts = vec![0; data.classes().len()];
    for index in 0..count {
        counts[data.label(index)?] += 1;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::DataConfig;
    use crate::evaluation::metric::fixture::noise;
    use crate::evaluation::metric::frechet_distance;

    fn gaussian(features: &Features) -> Gaussian {
        Gaussian::from_features(features).unwrap()
    }

    #[test]
    fn measuring_tells_how_far_it_is() {
        let changes = [
            "data.size=8",
            "network.input_size=8",
            "network.patch=4",
            "network.width=24",
            "network.depth=1",
            r#"sampling.grid={"steps":2,"end":0.9}"#,
            "sampling.batch=7",
            "post_training.images=20",
        ];
        let mut recipe = Recipe::read("digits", &changes.map(String::from)).unwrap();
        let network = recipe.network.init(0, &Device::default());
        let (mut parts, measures) = (vec![], Measures::default());
        let found = evaluate(
            &recipe,
            &recipe.generator(&network, &crate::data::Classes(10)),
            20,
            &measures,
            None,
            &mut |event| match event {
                Measuring::Begin(name, images) => parts.push((name, images, vec![])),
                Measuring::Images(done) => parts.last_mut().unwrap().2.push(done),
            },
        );
        let found = found.unwrap();
        let names: Vec<_> = parts.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, ["real images", "measuring real images", "sampling", "measuring"]);
        for (name, images, done) in &parts {
            assert_eq!(done.last(), images.as_ref(), "{name}");
            assert!(done.is_sorted(), "{name}: {done:?}");
        }
        assert_eq!((parts[0].1, parts[2].1), (Some(1797), Some(20)));
        assert_eq!((found.labels, found.trained_on_floor), (Labels::Reference, Some(false)));

        // Stored latents are no images: said before they are opened, and before anything is drawn.
        recipe.data =
            DataConfig::Latents { path: "nowhere".into(), posterior: Default::default(), flip: false, prior: None };
        let error =
            evaluate(&recipe, &recipe.generator(&network, &crate::data::Classes(10)), 20, &measures, None, &mut |_| {
                panic!("nothing is done")
            })
            .unwrap_err();
        assert!(error.to_string().contains("stored latents"), "{error}");
    }

    #[test]
    fn pairs_are_those_that_are_compared() {
        // 6 others and 4 of the floor of 10 real images; 4 generated ones: sets with themselves twice, with others thrice.
        assert_eq!(evaluation_pairs(4, 10), 2 * 36 + (2 * 16 + 3 * 24) + 2 * 100 + (2 * 16 + 3 * 40));
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
