//! Slow Flow of a network: how far its states lag behind their time.

use std::collections::BTreeSet;

use mixflow_backbones::{Backbone, ClassLabels};
use mixflow_schedules::Schedule;

use crate::Error;
use crate::data::{self, Dataset};
use crate::generate::Generator;
use crate::slow_flow::{Band, SlowFlow};

/// Bands of generated states and, as calibration, of true interpolations.
#[derive(Clone, Debug, PartialEq)]
pub struct Lag {
    /// Of the network's states.
    pub generated: Vec<Band>,
    /// Of interpolations of held-out real images with the same noise.
    pub real: Vec<Band>,
}

/// Measures the trajectories of one image a label against real images of the same class.
///
/// # Errors
/// If sampling fails or an image cannot be read.
pub fn lag<B: Backbone<Condition = ClassLabels>>(
    generator: &Generator<'_, B>,
    labels: &[usize],
    real: &dyn Dataset,
    held_out: &dyn Dataset,
) -> Result<Lag, Error> {
    let data = of_classes(real, labels)?;
    let others = of_classes(held_out, labels)?;
    let width: usize = generator.shape.iter().product();
    let path = |t: f64| {
        let at = generator.objective.schedule.at(t);
        (at.alpha, at.sigma)
    };
    let times = generator.sampling.sampler.grid.times();
    let mut generated = SlowFlow::new(path, times.clone());
    let mut control = SlowFlow::new(path, times.clone());
    let mut noise: Vec<f32> = vec![0.0; data.len()];
    let mut failed = None;
    generator.trajectories(labels, 0, &mut |t, first, states| {
        let states: Vec<f32> = states.to_data().iter::<f32>().collect();
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
    Ok(Lag { generated: generated.bands(), real: control.bands() })
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
        let class = held_out_classes.first().map_or_else(String::new, |class| real.classes()[*class].clone());
        return Err(data::Error::MissingClass { class }.into());
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

/// The pixels of one image a label, each used once as long as there are enough.
fn of_classes(source: &dyn Dataset, labels: &[usize]) -> Result<Vec<f32>, Error> {
    let mut queues: Vec<Vec<u64>> = vec![Vec::new(); source.classes().len()];
    let mut pixels = Vec::new();
    let mut next = 0;
    for &label in labels {
        // An endless source is read on until the class turns up; a finite one starts over.
        let start = next;
        while queues[label].is_empty() {
            if source.len().is_some_and(|len| next - start > len) {
                return Err(data::Error::MissingClass { class: source.classes()[label].clone() }.into());
            }
            let index = source.len().map_or(next, |len| next % len);
            queues[source.label(index)?].push(index);
            next += 1;
        }
        pixels.extend(source.example(queues[label].remove(0))?.pixels);
    }
    Ok(pixels)
}
