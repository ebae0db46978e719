//! Density and coverage (Naeem et al. 2020, arXiv 2002.09797), which a few real images far from all others do not decide.

use super::distances::{Bounds, Distances};
use super::{Error, Features, Manifold};

/// What [`density_coverage`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DensityCoverage {
    /// Balls of real images that a generated one lies in, over their `k`: about 1 where both sets are alike, 0 or above.
    pub density: f64,
    /// Share of real images with a generated one in their ball, in [0, 1].
    pub coverage: f64,
}

/// Density and coverage of generated images by the balls of real ones, surfaces excluded; the literature takes `k = 5`.
///
/// # Source
/// Equations 3 and 4; `compute_prdc` of the package `prdc` 0.2.
///
/// # Errors
/// [`Error::Width`], and [`Error::TooFewRows`] without generated images.
pub fn density_coverage(real: &Manifold<'_>, generated: &Features) -> Result<DensityCoverage, Error> {
    real.centres().same_width(generated)?;
    generated.at_least(1, "density and coverage")?;
    let distances = Distances::new(real.centres(), generated);
    let inside = distances.for_each_row(|i, bounds| {
        let radius = real.squared_radii()[i];
        let within = |(j, Bounds { least, most }): (usize, &Bounds)| {
            *most < radius || *least < radius && distances.exact(i, j) < radius
        };
        bounds.iter().enumerate().filter(|ball| within(*ball)).count()
    });
    let count = inside.iter().sum::<usize>() as f64;
    Ok(DensityCoverage {
        density: count / (real.neighbours() * generated.rows()) as f64,
        coverage: inside.iter().filter(|count| **count > 0).count() as f64 / inside.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, noise};
    use super::*;

    #[test]
    fn matches_the_package() {
        for (case, neighbours) in [("full2", 3), ("full2", 5), ("big2", 5)] {
            let fixture = Fixture::load(&format!("metrics2/features_{case}"));
            let (reference, sample) = (fixture.features("in.ref"), fixture.features("in.sample"));
            let found = density_coverage(&Manifold::new(&reference, neighbours).unwrap(), &sample).unwrap();
            let [density, coverage] =
                ["density", "coverage"].map(|name| fixture.scalar(&format!("{name}_k{neighbours}")));
            // Counts, over numbers that the package divides by in another order.
            assert!((found.density - density).abs() < 1e-12, "{case}: {} is not {density}", found.density);
            assert_eq!(found.coverage, coverage, "{case}");
        }
    }

    #[test]
    fn a_line_has_the_closed_form() {
        // Real 0, 1, 3 and k = 1: (−1, 1), (0, 2) and (1, 5). Generated 0.5 lies in two of them, 5 in none.
        let line = |points: &[f64]| Features::new(points.len(), 1, points.to_vec()).unwrap();
        let real = line(&[0.0, 1.0, 3.0]);
        let found = density_coverage(&Manifold::new(&real, 1).unwrap(), &line(&[0.5, 5.0])).unwrap();
        assert_eq!(found, DensityCoverage { density: 1.0, coverage: 2.0 / 3.0 });
        assert!(density_coverage(&Manifold::new(&real, 1).unwrap(), &noise(4, 2, 1)).is_err());
    }
}
