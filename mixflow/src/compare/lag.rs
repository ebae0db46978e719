//! Slow Flow of a network: how far its states lag behind their time.

use std::collections::BTreeSet;

use mixflow_backbones::Backbone;
use mixflow_schedules::{Schedule, noise_scale};

use crate::Error;
use crate::data::{self, Dataset};
use crate::evaluation::slow_flow::{Band, SlowFlow};
use crate::evaluation::{Generator, Visited};

/// Bands of generated states and, as calibration, of true interpolations.
#[derive(Clone, Debug, PartialEq)]
pub struct Lag {
    /// Of the network's states.
    pub generated: Vec<Band>,
    /// Of interpolations of held-out real images with the same noise.
    pub real: Vec<Band>,
    /// Trajectories that were followed.
    pub trajectories: usize,
    /// Network evaluations of each.
    pub evaluations: usize,
}

/// Measures the trajectories of one image a label against real images of the same class; `progress` hears how many images are
/// done. Both sources hold what the network makes: images, or latents.
///
/// # Errors
/// If sampling fails, an image cannot be read, or the sources do not hold what the network makes.
pub fn lag<B: Backbone>(
    generator: &Generator<'_, B>,
    labels: &[usize],
    real: &dyn Dataset,
    held_out: &dyn Dataset,
    progress: &mut dyn FnMut(u64),
) -> Result<Lag, Error> {
    for source in [real, held_out] {
        let ([channels, height, width], [made, high, wide]) = (source.shape(), generator.shape);
        if source.shape() != generator.shape {
            let reason = format!(
                "Slow Flow compares what the network makes, {made} x {high} x {wide} (channels, height, width), with real \
                 examples of {channels} x {height} x {width}: both must be the same"
            );
            return Err(Error::unfit("data", reason));
        }
    }
    let data = of_classes(real, labels)?;
    let others = of_classes(held_out, labels)?;
    let width: usize = generator.shape.iter().product();
    let schedule = &generator.objective.schedule;
    // Of the noise that trajectories start from.
    let noise = noise_scale(schedule);
    let path = |t: f64| {
        let at = schedule.at(t);
        (at.alpha, at.sigma / noise)
    };
    let times = generator.sampling.sampler.grid.times();
    let mut generated = SlowFlow::new(path, times.clone());
    let mut control = SlowFlow::new(path, times.clone());
    let mut noise: Vec<f32> = vec![0.0; data.len()];
    let mut failed = None;
    // States are followed, not the images that an autoencoder makes of the last.
    let generator = Generator { autoencoder: None, ..*generator };
    let made = generator.trajectories(labels, 0, &mut |Visited { t, first, x, done }| {
        progress(done);
        let states: Vec<f32> = x.to_data().iter::<f32>().collect();
        let rows = first * width..first * width + states.len();
        let step = times.iter().position(|time| *time == t).expect("solvers visit the grid's times");
        if step == 0 {
            noise[rows.clone()].copy_from_slice(&states);
        }
        if let Err(error) = generated.record(step, width, &noise[rows.clone()], &data[rows], &states) {
            failed.get_or_insert(error);
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    control.record_interpolations(width, &noise, &data, &others)?;
    let (trajectories, evaluations) = (labels.len(), made.evaluations);
    Ok(Lag { generated: generated.bands(), real: control.bands(), trajectories, evaluations })
}

/// The labels of `count` trajectories: the classes that both sources have images of, in turn.
///
/// A class without a held-out image cannot be calibrated and is left out; an endless source has all of its classes.
///
/// # Errors
/// If an image cannot be read, or no class is in both sources.
pub fn lag_labels(count: usize, real: &dyn Dataset, held_out: &dyn Dataset) -> Result<Vec<usize>, Error> {
    let (real_classes, held_out_classes) = (classes_of(real)?, classes_of(held_out)?);
    let both: Vec<usize> = real_classes.intersection(&held_out_classes).copied().collect();
    if both.is_empty() {
        let reason = "Slow Flow compares held-out images with others of their class or caption in the training data, and none is \
                      in both: it is not for data in which each image has a caption of its own";
        return Err(Error::unfit("data", reason));
    }
    Ok(both.iter().copied().cycle().take(count).collect())
}

/// The classes that a source has images of.
pub(super) fn classes_of(source: &dyn Dataset) -> Result<BTreeSet<usize>, Error> {
    match source.len() {
        Some(len) => Ok((0..len).map(|index| source.label(index)).collect::<Result<_, _>>()?),
        None => Ok((0..source.classes().len()).collect()),
    }
}

/// Examples of an endless source, for each class of it, that are looked at for one more of a class.
const PATIENCE: u64 = 1000;

/// The pixels of one image a label, each used once as long as there are enough. Labels are looked at once.
fn of_classes(source: &dyn Dataset, labels: &[usize]) -> Result<Vec<f32>, Error> {
    let classes = source.classes();
    let mut places: Vec<Vec<u64>> = vec![Vec::new(); classes.len()];
    let mut used = vec![0; classes.len()];
    let mut pixels = Vec::new();
    let mut next = 0;
    for &label in labels {
        let end = source.len().unwrap_or(next + PATIENCE * classes.len() as u64);
        while places[label].len() <= used[label] && next < end {
            places[source.label(next)?].push(next);
            next += 1;
        }
        let found = &places[label];
        if found.is_empty() {
            return Err(data::Error::MissingClass { class: classes[label].clone() }.into());
        }
        pixels.extend(source.example(found[used[label] % found.len()])?.pixels);
        used[label] += 1;
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::data::Example;

    /// Images that are their own index, of classes by a rule; counts how often a label is asked for.
    #[derive(Debug)]
    struct Numbers {
        len: Option<u64>,
        class: fn(u64) -> usize,
        classes: Vec<String>,
        asked: AtomicU64,
    }

    impl Dataset for Numbers {
        fn len(&self) -> Option<u64> {
            self.len
        }
        fn classes(&self) -> &[String] {
            &self.classes
        }
        fn shape(&self) -> [usize; 3] {
            [1, 1, 1]
        }
        fn example(&self, index: u64) -> Result<Example, data::Error> {
            Ok(Example::new(vec![index as f32], (self.class)(index)))
        }
        fn label(&self, index: u64) -> Result<usize, data::Error> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok((self.class)(index))
        }
    }

    fn numbers(len: Option<u64>, class: fn(u64) -> usize) -> Numbers {
        Numbers { len, class, classes: ["often", "once", "never"].map(String::from).into(), asked: AtomicU64::new(0) }
    }

    #[test]
    fn a_class_with_one_image_makes_nobody_look_at_all_of_them_again() {
        let source = numbers(Some(1000), |index| usize::from(index == 700));
        let labels: Vec<usize> = (0..100).map(|image| image % 2).collect();
        let found = of_classes(&source, &labels).unwrap();
        let often: Vec<f32> = found.iter().step_by(2).copied().collect();
        assert!(often.iter().enumerate().all(|(place, index)| *index == place as f32), "{often:?}");
        assert!(found.iter().skip(1).step_by(2).all(|index| *index == 700.0), "{found:?}");
        assert!(source.asked.load(Ordering::Relaxed) <= 1000, "{:?}", source.asked);
    }

    #[test]
    fn images_start_over_where_there_are_not_enough() {
        let found = of_classes(&numbers(Some(3), |_| 0), &[0; 7]).unwrap();
        assert_eq!(found, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    fn a_class_without_images_is_named_and_not_waited_for() {
        for len in [Some(50), None] {
            let source = numbers(len, |index| usize::from(index % 5 == 0));
            assert_eq!(of_classes(&source, &[1, 1, 0]).unwrap(), [0.0, 5.0, 1.0]);
            let error = of_classes(&source, &[0, 2]).unwrap_err().to_string();
            assert!(error.contains("never"), "{error}");
        }
    }
}
