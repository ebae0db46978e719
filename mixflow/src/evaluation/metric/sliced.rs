//! The sliced Wasserstein distance, which MIND (arXiv 2605.06797) takes of Inception's features.

use rayon::prelude::*;

use super::pairs::for_each_row;
use super::{Error, Features};
use crate::random::{self, Stream};

/// A set along random directions, in order, for any number of distances from it.
#[derive(Clone, Debug)]
pub struct Slices {
    directions: Features,
    /// Of each direction, in ascending order.
    sorted: Vec<Vec<f64>>,
}

impl Slices {
    /// How many directions the numbers of a [`Measurement`](super::Measurement) are taken along.
    pub const DIRECTIONS: usize = 256;

    /// A set along `count` directions, which are drawn from the uniform distribution: the same for all sets of a width.
    ///
    /// # Errors
    /// [`Error::Zero`] for no directions, [`Error::TooFewRows`] for no rows.
    pub fn new(set: &Features, count: usize) -> Result<Self, Error> {
        let mut values = vec![0.0; count * set.columns()];
        for (position, direction) in (0..).zip(values.chunks_exact_mut(set.columns())) {
            let mut drawn = vec![0.0f32; direction.len()];
            random::normal(&mut random::rng(0, Stream::Metric, position), &mut drawn);
            let norm = drawn.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            direction.iter_mut().zip(drawn).for_each(|(unit, x)| *unit = f64::from(x) / norm);
        }
        Self::along(set, Features::new(count, set.columns(), values)?)
    }

    /// A set along given directions, rows of norm one.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Width`].
    pub fn along(set: &Features, directions: Features) -> Result<Self, Error> {
        if directions.rows() == 0 {
            return Err(Error::Zero { name: "a number of directions" });
        }
        set.at_least(1, "a sliced Wasserstein distance")?;
        directions.same_width(set)?;
        let sorted = for_each_row(&directions, set, |_, products| {
            let mut products = products.to_vec();
            products.sort_unstable_by(f64::total_cmp);
            products
        });
        Ok(Self { directions, sorted })
    }

    /// The squared 2-Wasserstein distance from another set along each direction.
    ///
    /// # Errors
    /// As [`along`](Self::along).
    pub fn squared_distances(&self, other: &Features) -> Result<Vec<f64>, Error> {
        let other = Self::along(other, self.directions.clone())?;
        Ok(self.sorted.par_iter().zip(&other.sorted).map(|(a, b)| squared_wasserstein(a, b)).collect())
    }

    /// The root of their mean: 0 for equal sets. MIND's published normalisation is not known here; this is POT's
    /// `sliced_wasserstein_distance`.
    ///
    /// # Errors
    /// As [`along`](Self::along).
    pub fn distance(&self, other: &Features) -> Result<f64, Error> {
        let squares = self.squared_distances(other)?;
        Ok((squares.iter().sum::<f64>() / squares.len() as f64).sqrt())
    }
}

/// `∫ (F⁻¹(u) − G⁻¹(u))² du` of two sorted sets, whose quantile functions are steps.
fn squared_wasserstein(a: &[f64], b: &[f64]) -> f64 {
    let (mut i, mut j, mut reached, mut sum) = (0, 0, 0, 0.0);
    // Levels in units of 1 / (a b), which are exact.
    while i < a.len() && j < b.len() {
        let next = ((i + 1) * b.len()).min((j + 1) * a.len());
        sum += (next - reached) as f64 * (a[i] - b[j]).powi(2);
        reached = next;
        i += usize::from(next == (i + 1) * b.len());
        j += usize::from(next == (j + 1) * a.len());
    }
    sum / (a.len() * b.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, noise};
    use super::*;

    #[test]
    fn matches_pot_along_the_same_directions() {
        for case in ["full2", "big2"] {
            let fixture = Fixture::load(&format!("metrics2/features_{case}"));
            let (reference, sample) = (fixture.features("in.ref"), fixture.features("in.sample"));
            let slices = Slices::along(&reference, fixture.features("in.projections")).unwrap();
            let each = fixture.tensor("out.w2_squared_per_projection");
            fixture.assert_close(&slices.squared_distances(&sample).unwrap(), &each);
            fixture.assert_close(&[slices.distance(&sample).unwrap()], &[fixture.scalar("sw2")]);
        }
    }

    /// A shift by `d` along every axis moves each direction `u` by `d Σ u`, whose square has the mean `d²` over directions
    /// for each axis: the distance is `d √columns / √columns`.
    #[test]
    fn a_shift_is_its_own_distance() {
        let set = noise(40, 6, 1);
        let moved = Features::new(40, 6, set.iter().flatten().map(|x| x + 3.0).collect()).unwrap();
        let found = Slices::new(&set, 4096).unwrap().distance(&moved).unwrap();
        // The mean of 4,096 squares, each with a deviation of about √2 of its mean: 2 %, half of it under the root.
        assert!((found / 3.0 - 1.0).abs() < 0.04, "{found}");
        assert_eq!(Slices::new(&set, 16).unwrap().distance(&set).unwrap(), 0.0);
        let order = set.select(&(0..40).rev().collect::<Vec<_>>());
        assert_eq!(Slices::new(&set, 16).unwrap().distance(&order).unwrap(), 0.0);
    }

    #[test]
    fn unusable_sets_are_refused() {
        let set = noise(9, 3, 1);
        assert!(matches!(Slices::new(&set, 0), Err(Error::Zero { .. })));
        assert!(Slices::new(&set, 4).unwrap().distance(&noise(9, 4, 2)).is_err());
    }
}
