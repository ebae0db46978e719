use nalgebra::DMatrix;
use rayon::prelude::*;

use super::features::same_width;
use super::pairs::dot;
use super::{Error, Gaussian};

/// Fréchet distance `|μ₁ − μ₂|² + Tr Σ₁ + Tr Σ₂ − 2 Tr (Σ₁^½ Σ₂ Σ₁^½)^½` of two Gaussians; 0 or more.
///
/// Only on the features of the Inception network of Heusel et al. is this number an *FID*; on any other features (pixels,
/// `DINOv2`) it is a Fréchet distance and comparable only to itself. It falls with the number of images, so compare equal
/// counts, and read it beside a real-against-real floor ([`measure`](super::measure)).
///
/// # Source
/// Dowson and Landau 1982; Heusel et al. 2017 (arXiv 1706.08500), equation 6.
///
/// # Errors
/// [`Error::Width`].
pub fn frechet_distance(reference: &Gaussian, generated: &Gaussian) -> Result<f64, Error> {
    FrechetReference::new(reference.clone()).distance(generated)
}

/// A Gaussian with its square root, for many comparisons to one reference.
///
/// With any factors `Σ₁ = F Fᵀ` and `Σ₂ = G Gᵀ` the trace term is the sum of the singular values of `Fᵀ G`: no matrix
/// root is needed, rank deficient covariances have thin factors and cost less, and unlike the eigenvalues of
/// `Σ₁^½ Σ₂ Σ₁^½`, whose roots lose half of the digits, small singular values stay exact to machine precision.
#[derive(Clone, Debug)]
pub struct FrechetReference {
    gaussian: Gaussian,
    /// `Fᵀ`, `[rank, d]`.
    factor: DMatrix<f64>,
}

impl FrechetReference {
    /// Factors the covariance once.
    pub fn new(gaussian: Gaussian) -> Self {
        let factor = factor(&gaussian);
        Self { gaussian, factor }
    }

    /// The Gaussian itself.
    pub fn gaussian(&self) -> &Gaussian {
        &self.gaussian
    }

    /// [`frechet_distance`] to another Gaussian: one factorisation and one set of singular values, without vectors.
    ///
    /// # Errors
    /// [`Error::Width`].
    pub fn distance(&self, other: &Gaussian) -> Result<f64, Error> {
        same_width(self.gaussian.mean().len(), other.mean().len())?;
        let means: f64 = self.gaussian.mean().iter().zip(other.mean()).map(|(a, b)| (a - b).powi(2)).sum();
        let product = &self.factor * factor(other).transpose();
        let overlap = if product.is_empty() { 0.0 } else { product.singular_values_unordered().sum() };
        let traces = self.gaussian.total_variance() + other.total_variance();
        Ok((means + traces - 2.0 * overlap).max(0.0))
    }
}

/// `Fᵀ` `[rank, d]` with `Σ = F Fᵀ`: Cholesky with complete pivoting, which is stable for semi-definite matrices and
/// stops at their numerical rank (Higham 1990, "Analysis of the Cholesky decomposition of a semi-definite matrix").
fn factor(gaussian: &Gaussian) -> DMatrix<f64> {
    let (covariance, width) = (gaussian.covariance(), gaussian.mean().len());
    let mut rows = vec![0.0; width * width];
    // What the columns so far leave of the variance of each feature; below zero once the feature was a pivot.
    let mut left: Vec<f64> = (0..width).map(|i| covariance[i * width + i]).collect();
    let tolerance = width as f64 * f64::EPSILON * left.iter().copied().fold(0.0, f64::max);
    let mut rank = 0;
    while let Some((pivot, variance)) = largest(&left).filter(|&(_, variance)| variance > tolerance) {
        let root = variance.sqrt();
        let pivot_row = rows[pivot * width..][..rank].to_vec();
        let column = &covariance[pivot * width..][..width];
        rows.par_chunks_mut(width).zip(&mut left).enumerate().with_min_len(64).for_each(|(i, (row, left))| {
            if i == pivot {
                row[rank] = root;
                *left = f64::NEG_INFINITY;
            } else if *left > f64::NEG_INFINITY {
                row[rank] = (column[i] - dot(&row[..rank], &pivot_row)) / root;
                *left -= row[rank].powi(2);
            }
        });
        rank += 1;
    }
    DMatrix::from_fn(rank, width, |k, i| rows[i * width + k])
}

/// The first of the largest values, with its place.
fn largest(values: &[f64]) -> Option<(usize, f64)> {
    values.iter().copied().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, noise};
    use super::super::{Features, spatial_features};
    use super::*;

    fn distance(a: &Features, b: &Features) -> f64 {
        frechet_distance(&Gaussian::from_features(a).unwrap(), &Gaussian::from_features(b).unwrap()).unwrap()
    }

    #[test]
    fn distances_match_the_reference() {
        for case in ["rankdef", "exact_lowrank", "ill", "big", "full"] {
            let fixture = Fixture::load(&format!("metrics/features_{case}"));
            let (reference, sample) = (fixture.features("in.ref"), fixture.features("in.sample"));
            fixture.assert_close(&[distance(&reference, &sample)], &[fixture.scalar("fid_exact_float64")]);
            fixture.assert_close(&[distance(&sample, &reference)], &[fixture.scalar("fid_exact_float64")]);
        }
    }

    #[test]
    fn spatial_distance_matches_the_reference() {
        let fixture = Fixture::load("metrics/sfid_spatial");
        let maps = |name: &str, rows| {
            let values: Vec<_> = fixture.tensor(name).iter().map(|&x| x as f32).collect();
            spatial_features([rows, 7, 3, 3], &values, 7).unwrap()
        };
        let found = distance(&maps("in.ref", 60), &maps("in.sample", 70));
        fixture.assert_close(&[found], &[fixture.scalar("sfid")]);
    }

    #[test]
    fn identical_sets_are_at_distance_zero() {
        for (rows, columns) in [(300, 20), (20, 60), (2, 5), (40, 1)] {
            let set = noise(rows, columns, 5);
            let total = Gaussian::from_features(&set).unwrap().total_variance();
            assert!(distance(&set, &set) < 1e-12 * total, "{rows} x {columns}");
        }
    }

    #[test]
    fn diagonal_gaussians_have_the_closed_form() {
        // Σ (√a − √b)² + |μ|², also where a variance is zero in one or both.
        let (a, b) = ([4.0, 1.0, 0.0, 0.0, 9.0], [1.0, 1.0, 16.0, 0.0, 0.25]);
        let diagonal = |v: [f64; 5]| (0..25).map(|i| if i % 6 == 0 { v[i / 6] } else { 0.0 }).collect::<Vec<_>>();
        let first = Gaussian::new(vec![0.0; 5], diagonal(a), 10).unwrap();
        let second = Gaussian::new(vec![1.0, 0.0, -2.0, 0.0, 0.0], diagonal(b), 10).unwrap();
        let found = frechet_distance(&first, &second).unwrap();
        assert!((found - (5.0 + 1.0 + 16.0 + 6.25)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn correlated_gaussians_have_the_closed_form() {
        // Commuting covariances [[a, c], [c, a]] have eigenvalues a ± c.
        let of = |a: f64, c: f64| Gaussian::new(vec![0.0; 2], vec![a, c, c, a], 10).unwrap();
        let found = frechet_distance(&of(2.0, 1.0), &of(5.0, -4.0)).unwrap();
        let expected = (3f64.sqrt() - 1.0).powi(2) + (1f64.sqrt() - 3.0).powi(2);
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
    }

    #[test]
    fn disjoint_supports_and_points_do_not_overlap() {
        let point = Gaussian::new(vec![3.0, 0.0], vec![0.0; 4], 10).unwrap();
        let along_x = Gaussian::new(vec![0.0; 2], vec![2.0, 0.0, 0.0, 0.0], 10).unwrap();
        let along_y = Gaussian::new(vec![0.0; 2], vec![0.0, 0.0, 0.0, 5.0], 10).unwrap();
        assert_eq!(frechet_distance(&point, &point).unwrap(), 0.0);
        assert_eq!(frechet_distance(&point, &along_x).unwrap(), 11.0);
        assert_eq!(frechet_distance(&along_x, &along_y).unwrap(), 7.0);
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let (a, b) = (noise(300, 24, 6), noise(200, 24, 7));
        let reversed = a.select(&(0..300).rev().collect::<Vec<_>>());
        let (found, expected) = (distance(&reversed, &b), distance(&a, &b));
        assert!((found - expected).abs() < 1e-12 * expected, "{found} and {expected}");
    }

    #[test]
    fn thin_factors_agree_with_the_symmetric_root() {
        // Tr (Σ₁^½ Σ₂ Σ₁^½)^½ by two eigendecompositions, for every mix of ranks.
        for (n, m) in [(5, 9), (9, 80), (80, 6), (80, 90), (13, 13)] {
            let (a, b) = (noise(n, 12, 8), noise(m, 12, 9));
            let (a, b) = (Gaussian::from_features(&a).unwrap(), Gaussian::from_features(&b).unwrap());
            let matrix = |g: &Gaussian| DMatrix::from_column_slice(12, 12, g.covariance());
            let eigen = matrix(&a).symmetric_eigen();
            let root = &eigen.eigenvectors
                * DMatrix::from_diagonal(&eigen.eigenvalues.map(|x| x.max(0.0).sqrt()))
                * eigen.eigenvectors.transpose();
            let inner = (&root * matrix(&b) * &root).symmetric_eigenvalues().map(|x| x.max(0.0).sqrt()).sum();
            let means: f64 = a.mean().iter().zip(b.mean()).map(|(x, y)| (x - y).powi(2)).sum();
            let expected = means + a.total_variance() + b.total_variance() - 2.0 * inner;
            let found = frechet_distance(&a, &b).unwrap();
            // The roots of eigenvalues are good to √ε only.
            assert!((found - expected).abs() < 1e-6, "{n}, {m}: {found} and {expected}");
        }
    }

    #[test]
    fn different_widths_are_refused() {
        let (a, b) = (noise(9, 3, 1), noise(9, 4, 1));
        let (a, b) = (Gaussian::from_features(&a).unwrap(), Gaussian::from_features(&b).unwrap());
        assert!(matches!(frechet_distance(&a, &b), Err(Error::Width { expected: 3, found: 4 })));
    }
}
