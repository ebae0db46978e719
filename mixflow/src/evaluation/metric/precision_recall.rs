use serde::{Deserialize, Serialize};

use super::distances::{Bounds, Distances};
use super::{Error, Features};

/// Improved precision and recall.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecisionRecall {
    /// Share of generated images inside the manifold of the real ones, in [0, 1]: fidelity.
    pub precision: f64,
    /// Share of real images inside the manifold of the generated ones, in [0, 1]: diversity.
    pub recall: f64,
    /// The `k` of the manifolds.
    pub neighbours: usize,
}

/// Precision and recall with `k = neighbours`; the literature takes 3.
///
/// Distances are exact in f64: what a matrix product leaves open is computed again from the differences. ADM's evaluator computes them in float16 and differs by a few images of a thousand. Both
/// numbers depend on the size of the sets: compare equal counts, beside a floor ([`measure`](super::measure)).
///
/// # Source
/// Kynkäänniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2.
///
/// # Errors
/// [`Error::Width`], and those of [`Manifold::new`].
pub fn precision_recall(
    reference: &Features,
    generated: &Features,
    neighbours: usize,
) -> Result<PrecisionRecall, Error> {
    Manifold::new(reference, neighbours)?.precision_recall(generated)
}

/// A set of rows with the ball of each that reaches its `k`-th nearest neighbour: their union estimates the support.
#[derive(Clone, Debug)]
pub struct Manifold<'a> {
    centres: &'a Features,
    squared_radii: Vec<f64>,
    neighbours: usize,
}

impl<'a> Manifold<'a> {
    /// Balls around every row, reaching its `neighbours`-th nearest other row.
    ///
    /// # Errors
    /// [`Error::Zero`] for zero neighbours, [`Error::TooFewRows`] unless there are more rows than neighbours.
    pub fn new(centres: &'a Features, neighbours: usize) -> Result<Self, Error> {
        if neighbours == 0 {
            return Err(Error::Zero { name: "a number of neighbours" });
        }
        centres.at_least(neighbours.saturating_add(1), "a nearest-neighbour manifold")?;
        let distances = Distances::new(centres, centres);
        let squared_radii = distances.for_each_row(|i, bounds| nearest(neighbours, bounds, |j| distances.exact(i, j)));
        Ok(Self { centres, squared_radii, neighbours })
    }

    /// The `k` of the balls.
    pub fn neighbours(&self) -> usize {
        self.neighbours
    }

    /// The rows.
    pub(super) fn centres(&self) -> &Features {
        self.centres
    }

    /// Squared radius of each ball, in the order of the rows.
    pub fn squared_radii(&self) -> &[f64] {
        &self.squared_radii
    }

    /// Share of `points` inside at least one ball (surface included), in [0, 1].
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::TooFewRows`] without points.
    pub fn fraction_inside(&self, points: &Features) -> Result<f64, Error> {
        self.centres.same_width(points)?;
        points.at_least(1, "precision and recall")?;
        let distances = Distances::new(points, self.centres);
        let inside = distances.for_each_row(|i, bounds| {
            let mut balls = bounds.iter().zip(&self.squared_radii).enumerate();
            balls.any(|(j, (Bounds { least, most }, radius))| {
                most <= radius || least <= radius && distances.exact(i, j) <= *radius
            })
        });
        Ok(inside.iter().filter(|&&inside| inside).count() as f64 / points.rows() as f64)
    }

    /// [`precision_recall`] of a generated set, with these rows as the reference.
    ///
    /// # Errors
    /// As there.
    pub fn precision_recall(&self, generated: &Features) -> Result<PrecisionRecall, Error> {
        Ok(PrecisionRecall {
            precision: self.fraction_inside(generated)?,
            recall: Manifold::new(generated, self.neighbours)?.fraction_inside(self.centres)?,
            neighbours: self.neighbours,
        })
    }
}

/// The distance at place `rank`, counted from 0, of those that `exact` computes and `bounds` enclose.
///
/// Of a set with itself the row itself is at place 0.
fn nearest(rank: usize, bounds: &[Bounds], exact: impl Fn(usize) -> f64) -> f64 {
    let mut most: Vec<_> = bounds.iter().map(|bounds| bounds.most).collect();
    let most = *most.select_nth_unstable_by(rank, f64::total_cmp).1;
    // The wanted distance is no larger than that, nor are those before it.
    let near = bounds.iter().enumerate().filter(|(_, bounds)| bounds.least <= most);
    let mut near: Vec<_> = near.map(|(j, _)| exact(j)).collect();
    *near.select_nth_unstable_by(rank, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::super::distances::tests::sets;
    use super::super::fixture::{Fixture, noise};
    use super::super::pairs::sum;
    use super::*;

    #[test]
    fn matches_the_exact_reference() {
        for case in ["rankdef", "exact_lowrank", "ill", "big", "full"] {
            let fixture = Fixture::load(&format!("metrics/features_{case}"));
            let (reference, sample) = (fixture.features("in.ref"), fixture.features("in.sample"));
            let found = precision_recall(&reference, &sample, 3).unwrap();
            // Shares of counts: equal, not close.
            assert_eq!(found.precision, fixture.scalar("precision_float64"), "{case}");
            assert_eq!(found.recall, fixture.scalar("recall_float64"), "{case}");
            for (set, name) in [(&reference, "out.radii_sq_ref"), (&sample, "out.radii_sq_sample")] {
                fixture.assert_close(Manifold::new(set, 3).unwrap().squared_radii(), &fixture.tensor(name));
            }
        }
    }

    #[test]
    fn a_line_has_the_closed_form() {
        // Points 0, 1, 3 and k = 1: balls of radius 1, 1, 2, so [-1, 2] and [1, 5].
        let line = |points: &[f64]| Features::new(points.len(), 1, points.to_vec()).unwrap();
        let real = line(&[0.0, 1.0, 3.0]);
        let manifold = Manifold::new(&real, 1).unwrap();
        assert_eq!(manifold.squared_radii(), [1.0, 1.0, 4.0]);
        assert_eq!(manifold.fraction_inside(&line(&[-1.5, -1.0, 5.0, 5.1])).unwrap(), 0.5);
        // Generated 4, 6: radius 2 each, so [2, 8] holds one real point of three; 4 lies inside the real manifold.
        let found = manifold.precision_recall(&line(&[4.0, 6.0])).unwrap();
        assert_eq!((found.precision, found.recall), (0.5, 1.0 / 3.0));
    }

    #[test]
    fn identical_sets_have_precision_and_recall_one() {
        // Repeated rows have radius 0, and must still be found.
        let set = noise(60, 33, 1).select(&(0..60).map(|i| i / 5).collect::<Vec<_>>());
        let found = precision_recall(&set, &set, 3).unwrap();
        assert_eq!((found.precision, found.recall, found.neighbours), (1.0, 1.0, 3));
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let (a, b) = (noise(90, 5, 2), noise(70, 5, 3));
        let reversed = b.select(&(0..70).rev().collect::<Vec<_>>());
        assert_eq!(precision_recall(&a, &b, 3).unwrap(), precision_recall(&a, &reversed, 3).unwrap());
    }

    #[test]
    fn matrix_products_change_no_bit() {
        for [a, b] in sets() {
            let distance = |x: &[f64], y: &[f64]| sum(x, y, |x, y| (x - y) * (x - y));
            let radius = |x: &[f64]| {
                let mut distances: Vec<_> = a.iter().map(|y| distance(x, y)).collect();
                distances.sort_by(f64::total_cmp);
                distances[3]
            };
            let radii: Vec<_> = a.iter().map(radius).collect();
            let manifold = Manifold::new(&a, 3).unwrap();
            assert_eq!(manifold.squared_radii(), radii);
            let inside = b.iter().filter(|x| a.iter().zip(&radii).any(|(y, radius)| distance(x, y) <= *radius));
            assert_eq!(manifold.fraction_inside(&b).unwrap(), inside.count() as f64 / 150.0);
        }
    }

    #[test]
    fn too_small_sets_are_refused() {
        let (three, four) = (noise(3, 2, 4), noise(4, 2, 5));
        assert!(matches!(precision_recall(&four, &three, 3), Err(Error::TooFewRows { needed: 4, found: 3, .. })));
        assert!(matches!(precision_recall(&four, &four, 0), Err(Error::Zero { .. })));
        assert!(matches!(precision_recall(&four, &noise(4, 3, 6), 3), Err(Error::Width { .. })));
    }
}
