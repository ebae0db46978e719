use rand::rngs::ChaCha8Rng;
use rand::seq::index;
use rand::{Rng, SeedableRng};

use super::pairs::for_each_row;
use super::{Error, Features, Spread};

/// Kernel distance: the unbiased estimate of the squared maximum mean discrepancy, kernel `(x·y / d + 1)³`, all pairs.
///
/// Unlike a Fréchet distance its expectation does not depend on the number of images; being unbiased it is below zero
/// about half of the time when the two distributions are equal. On Inception features it is KID (often given as 10³ KID).
///
/// # Source
/// Bińkowski et al. 2018 (arXiv 1801.01401), section 3; torch-fidelity `metric_kid.py`, commit 5e211a9.
///
/// # Errors
/// [`Error::Width`], [`Error::TooFewRows`] below two rows in either set.
pub fn kernel_distance(reference: &Features, generated: &Features) -> Result<f64, Error> {
    Ok(within(reference)? + within(generated)? - 2.0 * between(reference, generated)?)
}

/// Rows of the reference and rows of the generated set that make one estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Rows of the reference.
    pub reference: Vec<usize>,
    /// Rows of the generated set.
    pub generated: Vec<usize>,
}

impl Subset {
    /// `count` subsets of `size` rows of each set, without replacement inside a subset; a function of the seed.
    ///
    /// torch-fidelity draws 100 of 1,000. Its own draws come from the generator of `numpy` and are not reproduced here.
    ///
    /// # Errors
    /// [`Error::TooFewRows`] when a set has fewer than `size` rows.
    pub fn draw(
        reference: &Features,
        generated: &Features,
        size: usize,
        count: usize,
        seed: u64,
    ) -> Result<Vec<Self>, Error> {
        reference.at_least(size, "a kernel distance subset")?;
        generated.at_least(size, "a kernel distance subset")?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rows = |of: &Features, rng: &mut dyn Rng| index::sample(rng, of.rows(), size).into_vec();
        let draw = |_| Self { reference: rows(reference, &mut rng), generated: rows(generated, &mut rng) };
        Ok((0..count).map(draw).collect())
    }
}

/// [`kernel_distance`] of each subset, with mean and population deviation: how the literature prints KID.
///
/// # Errors
/// Those of [`kernel_distance`], and [`Error::Zero`] without subsets.
///
/// # Panics
/// When a subset names a row that a set does not have.
pub fn kernel_distance_subsets(
    reference: &Features,
    generated: &Features,
    subsets: &[Subset],
) -> Result<Spread, Error> {
    if subsets.is_empty() {
        return Err(Error::Zero { name: "a number of subsets" });
    }
    let one =
        |subset: &Subset| kernel_distance(&reference.select(&subset.reference), &generated.select(&subset.generated));
    Ok(Spread::of(subsets.iter().map(one).collect::<Result<_, _>>()?))
}

/// Mean kernel of two different rows of one set.
pub(super) fn within(set: &Features) -> Result<f64, Error> {
    set.at_least(2, "a kernel distance")?;
    let sums = for_each_row(set, set, |i, products| {
        let kernels = products.iter().map(|product| kernel(*product, set.columns())).enumerate();
        kernels.filter(|(j, _)| *j != i).map(|(_, kernel)| kernel).sum::<f64>()
    });
    let count = set.rows() as f64;
    Ok(sums.iter().sum::<f64>() / (count * (count - 1.0)))
}

/// Mean kernel of a row of each set.
pub(super) fn between(a: &Features, b: &Features) -> Result<f64, Error> {
    a.same_width(b)?;
    let sums =
        for_each_row(a, b, |_, products| products.iter().map(|product| kernel(*product, a.columns())).sum::<f64>());
    Ok(sums.iter().sum::<f64>() / (a.rows() as f64 * b.rows() as f64))
}

fn kernel(product: f64, columns: usize) -> f64 {
    (product / columns as f64 + 1.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, noise};
    use super::*;

    #[test]
    fn recorded_subsets_match_the_reference() {
        for case in ["rankdef", "exact_lowrank", "ill", "big", "full"] {
            let fixture = Fixture::load(&format!("metrics/features_{case}"));
            let pairs = fixture.indices("in.kid_idx_ref").into_iter().zip(fixture.indices("in.kid_idx_sample"));
            let subsets: Vec<_> = pairs.map(|(reference, generated)| Subset { reference, generated }).collect();
            let (reference, sample) = (fixture.features("in.ref"), fixture.features("in.sample"));
            let found = kernel_distance_subsets(&reference, &sample, &subsets).unwrap();
            fixture.assert_close(&found.parts, &fixture.tensor("out.kid_per_subset"));
            let expected = [fixture.scalar("kid_mean_float64"), fixture.scalar("kid_std_float64")];
            // Both sides are f64 on the same rows: far tighter than the manifest, whose atol would pass a zero for `ill`.
            for (found, expected) in [found.mean, found.deviation].iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-9 * (1.0 + expected.abs()), "{case}: {found} and {expected}");
            }
        }
    }

    #[test]
    fn two_by_two_has_the_closed_form() {
        // d = 1: kernels (1 + xy)³ of {0, 1} and {0, 2}.
        let of = |b: f64| Features::new(2, 1, vec![0.0, b]).unwrap();
        let expected = 1.0 + 1.0 - 2.0 * (1.0 + 1.0 + 1.0 + 27.0) / 4.0;
        assert_eq!(kernel_distance(&of(1.0), &of(2.0)).unwrap(), expected);
    }

    #[test]
    fn one_distribution_is_near_zero_and_another_is_not() {
        let (a, b) = (noise(400, 8, 1), noise(300, 8, 2));
        let shifted = Features::new(300, 8, b.iter().flatten().map(|x| x + 0.3).collect()).unwrap();
        let (same, other) = (kernel_distance(&a, &b).unwrap(), kernel_distance(&a, &shifted).unwrap());
        assert!(same.abs() < 0.01 && other > 0.3, "{same} and {other}");
    }

    #[test]
    fn drawn_subsets_depend_on_the_seed_alone() {
        let (a, b) = (noise(40, 2, 1), noise(50, 2, 2));
        let draw = |seed| Subset::draw(&a, &b, 30, 4, seed).unwrap();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        for subset in draw(7) {
            for (mut rows, count) in [(subset.reference, 40), (subset.generated, 50)] {
                rows.sort_unstable();
                rows.dedup();
                assert!(rows.len() == 30 && rows[29] < count);
            }
        }
        assert!(matches!(Subset::draw(&a, &b, 41, 1, 0), Err(Error::TooFewRows { needed: 41, found: 40, .. })));
    }
}
