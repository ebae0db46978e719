//! The data of a comparison.

use burn::tensor::{Device, Tensor};
use mixflow_schedules::same_path;

use super::lag::{classes_of, lag_labels};
use crate::data::{Dataset, Split};
use crate::evaluation::metric::{Gaussian, MeasureOptions};
use crate::evaluation::{Measures, reference_size};
use crate::recipe::{NetworkSettings, ObjectiveConfig, PostTraining, Recipe, SamplingConfig};
use crate::sampling::correction::Correction;
use crate::sampling::solver::{SampleError, SeededNoise};
use crate::sampling::{Flow, Times};
use crate::{Error, memory};

/// The training and the held-out data of a comparison.
///
/// Whatever would stop the measuring after hours of training and can be known before is refused here.
///
/// # Errors
/// As [`Recipe::parts`], and [`Error::Recipe`] for times that MixFlow cannot slow, [`Error::Unfit`] for samplings that no network makes finite,
/// if too few images are left to train on, if images are too many for memory or too large to be measured; of networks that know
/// classes with fewer measured images than classes, or if none of some class are left to train on; of those that read captions
/// where Slow Flow is asked for and finds none that both parts have.
pub fn parts<N: NetworkSettings>(
    recipe: &Recipe<N>,
    post: &PostTraining,
    measures: &Measures<'_>,
) -> Result<(Split, Split), Error> {
    let fault = |reason: String| Error::unfit(&recipe.name, reason);
    post.trainings(&recipe.objective).map_err(|invalid| Error::recipe(&recipe.name, invalid))?;
    let others = post.other_samplings(&recipe.sampling)?;
    let candidates = post.arms.iter().map(|arm| arm.candidates(&post.lambdas)).collect::<Result<Vec<_>, _>>();
    let candidates = candidates.map_err(|invalid| Error::recipe(&recipe.name, invalid))?.concat();
    let settings = || others.iter().chain([&recipe.sampling]);
    let corrected = candidates.iter().flat_map(|correction| settings().map(|sampling| sampling.corrected(*correction)));
    check_sampling(recipe, &others.iter().cloned().chain(corrected).collect::<Vec<_>>())
        .map_err(|problem| fault(format!("sampling, or post_training.solver_steps: {problem}")))?;
    let (train, held_out) = recipe.parts(post.images)?;
    let (classes, images) = (train.classes(), post.images);
    let reads_names = recipe.network.reads_names();
    if images < classes.len() && !reads_names {
        let count = classes.len();
        return Err(fault(format!(
            "post_training.images must be at least the number of classes, so that all are measured: expected {count} or \
             more, found {images}"
        )));
    }
    let least = MeasureOptions::default().neighbours as u64 + 1;
    if let Some(left) = train.len().filter(|left| *left < least) {
        return Err(fault(format!(
            "post_training.images={images} holds out all but {left} of the images, at least {least} are needed to measure \
             against: lower it or add images"
        )));
    }
    if reads_names {
        if post.slow_flow {
            let why = |error| fault(format!("{error}; or leave it out with post_training.slow_flow=false"));
            lag_labels(1, &train, &held_out).map_err(why)?;
        }
    } else if let Some(class) = absent(&train)? {
        return Err(fault(format!(
            "post_training.images={images} holds out every image of class `{}`, so that none is left to train on: lower it, \
             or add images to the class",
            classes[class]
        )));
    }
    let columns = measures.columns(train.shape())?;
    if train.len().is_none() {
        // Features of the generated, the held-out and the reference images.
        let bytes = 8.0 * (2 * images as u64 + reference_size(&train, images)) as f64 * columns as f64;
        let available = memory::machine();
        if bytes > available as f64 {
            return Err(fault(format!(
                "measuring post_training.images={images} keeps {:.0} GB of {} in memory, there are {:.0} GB: lower it",
                bytes / 1e9,
                measures.features.name(),
                available as f64 / 1e9
            )));
        }
    }
    Gaussian::check_columns(columns)
        .map_err(|error| fault(format!("{error}, or train without a comparison with --set post_training=null")))?;
    Ok((train, held_out))
}

/// The first class that a source has no image of.
fn absent(source: &dyn Dataset) -> Result<Option<usize>, Error> {
    let present = classes_of(source)?;
    Ok((0..source.classes().len()).find(|class| !present.contains(class)))
}

/// Refuses samplings that no network makes finite, those of the recipe and others: those that take it to a time where its path is
/// singular, and those whose solver is not at hand. Tried with a network that always says one, on the CPU.
pub(crate) fn check_sampling<N: NetworkSettings>(recipe: &Recipe<N>, others: &[SamplingConfig]) -> Result<(), Error> {
    // Two rows and columns, whose means and variance corrections take.
    let (device, shape) = (Device::flex(), [1, recipe.network.shape()[0], 2, 2]);
    let ObjectiveConfig { schedule, prediction, floor, .. } = &recipe.objective;
    let validation = recipe.validation.as_ref().and_then(|validation| validation.sampling(&recipe.sampling).ok());
    for sampling in others.iter().chain([&recipe.sampling]).chain(&validation) {
        let ones = |x: Tensor<4>, _: Times| (x.ones_like(), None);
        let flow = Flow::with_variance(schedule, *prediction, ones).floored(*floor);
        let own = sampling.active_guide().map(|guide| (guide.schedule.as_ref(), guide.prediction, guide.floor));
        let flow = match (sampling.guidance, own) {
            (Some(guidance), Some((path, says, clipped))) if path.is_none_or(|path| same_path(schedule, path)) => {
                let guide = Flow::with_variance(path.unwrap_or(schedule), says.unwrap_or(*prediction), ones)
                    .floored(clipped.unwrap_or(*floor));
                flow.guided(guide, guidance)
            }
            _ => flow,
        };
        let flow = match &sampling.correction {
            Some(correction) => correction.correct(flow),
            None => flow,
        };
        let mut noise = SeededNoise::new(recipe.seed, 0, &device);
        let start = noise.start(shape);
        // An adaptive solver that gives up says nothing of other networks.
        match sampling.sampler.sample(&flow, start, &mut noise) {
            Err(SampleError::StepUnderflow { .. } | SampleError::StepLimit { .. }) | Ok(_) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use image::{Rgb, RgbImage};
    use serde_json::json;

    use super::*;
    use crate::compare::lag_labels;

    /// A folder with so many images in each class, and the recipe of a comparison on it.
    fn recipe(root: &Path, counts: &[usize], images: usize, size: usize) -> Recipe {
        for (class, &count) in counts.iter().enumerate() {
            let folder = root.join(format!("class-{class}"));
            fs::create_dir(&folder).unwrap();
            for image in 0..count {
                RgbImage::from_pixel(4, 4, Rgb([image as u8; 3])).save(folder.join(format!("{image:03}.png"))).unwrap();
            }
        }
        let data = json!({ "kind": "folder", "path": root, "size": size });
        let set = [
            format!("data={data}"),
            format!("network.classes={}", counts.len()),
            format!("network.input_size={size}"),
            format!("post_training.images={images}"),
        ];
        Recipe::read("shapes", &set).unwrap()
    }

    fn divided(recipe: &Recipe) -> Result<(Split, Split), Error> {
        parts(recipe, recipe.post_training.as_ref().unwrap(), &Measures::default())
    }

    #[test]
    fn what_would_stop_the_measuring_is_refused_before_training() {
        for (counts, images, size, words) in [
            (&[9, 9, 9, 9, 9, 9, 9, 9, 9, 9][..], 9, 32, "expected 10 or more, found 9"),
            (&[6, 5], 8, 32, "holds out all but 3 of the images"),
            (&[40, 40], 10, 128, "49152 features does not fit"),
            (&[4, 4], 8, 32, "must be fewer than the images"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let text = divided(&recipe(root.path(), counts, images, size)).unwrap_err().to_string();
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn samples_that_no_network_makes_finite_are_refused_before_training() {
        let found = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(ToString::to_string).collect();
            divided(&Recipe::read("digits", &set).unwrap()).map_or_else(|error| error.to_string(), |_| "fine".into())
        };
        // Noise read as a velocity divides by the share of data, which is none at the beginning.
        for prediction in ["noise", "score"] {
            let set = format!("objective.prediction={prediction}");
            assert!(found(&[&set]).contains("solver_steps: the samples are no longer finite"), "{}", found(&[&set]));
        }
        let ends = ["objective.prediction=noise", "sampling.grid.start=0.05", "post_training.solver_steps=[]"];
        assert_eq!(found(&ends), "fine");
        // Data is divided by what noise is left, and Heun looks at the end, where there is none.
        let data = ["objective.prediction=data", "sampling.solver={\"kind\":\"heun\"}"];
        assert!(found(&data).contains("no longer finite"), "{}", found(&data));
        assert_eq!(found(&[&data[..], &["objective.floor=0.05"]].concat()), "fine");
        assert_eq!(found(&[]), "fine");
    }

    #[test]
    fn more_images_than_memory_holds_are_refused_before_training() {
        let recipe = Recipe::read("shapes", &["post_training.images=4000000000".into()]).unwrap();
        let text = divided(&recipe).unwrap_err().to_string();
        // 6 x 4e9 images of 3 x 32 x 32 numbers of 8 bytes.
        assert!(text.contains("keeps 589824 GB of pixels"), "{text}");
    }

    #[test]
    fn a_second_gamma_is_refused_before_training() {
        let slowed = r#"objective.timesteps={"kind":"mixflow","gamma":0.5}"#;
        let text = divided(&Recipe::read("digits", &[slowed.into()]).unwrap()).unwrap_err().to_string();
        assert!(text.contains("post_training.gamma"), "{text}");
    }

    #[test]
    fn a_class_without_held_out_images_is_left_out_of_slow_flow_alone() {
        let root = tempfile::tempdir().unwrap();
        let mut recipe = recipe(root.path(), &[30, 1, 30], 20, 32);
        let mut seen = [false; 2];
        for seed in 0..40 {
            recipe.seed = seed;
            match divided(&recipe) {
                Ok((train, held_out)) => {
                    assert_eq!(lag_labels(5, &train, &held_out).unwrap(), [0, 2, 0, 2, 0]);
                    seen[0] = true;
                }
                Err(error) => {
                    assert!(error.to_string().contains("every image of class `class-1`"), "{error}");
                    seen[1] = true;
                }
            }
        }
        assert_eq!(seen, [true; 2]);
    }
}
