use super::features::same_width;
use super::{Error, Gaussian};

/// Total variance of the generated features over that of the reference; 1 is equal spread, below 1 lost diversity.
///
/// Total variance is the trace of the unbiased covariance, so the ratio does not depend on the number of images. It says
/// what accuracy and precision hide: a generator that only shrinks towards the mean improves both of these.
///
/// # Errors
/// [`Error::Width`], and [`Error::ConstantReference`] when the reference does not vary.
pub fn variance_ratio(reference: &Gaussian, generated: &Gaussian) -> Result<f64, Error> {
    same_width(reference.mean().len(), generated.mean().len())?;
    let total = reference.total_variance();
    let squared_mean: f64 = reference.mean().iter().map(|x| x * x).sum();
    // Equal rows leave a variance of rounding errors, some 1e-32 of the squared mean.
    if total > 1e-24 * squared_mean {
        Ok(generated.total_variance() / total)
    } else {
        Err(Error::ConstantReference { rows: reference.count() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Features;
    use super::super::fixture::noise;
    use super::*;

    #[test]
    fn scaling_by_a_half_leaves_a_quarter() {
        let set = noise(50, 6, 1);
        let half = Features::new(50, 6, set.iter().flatten().map(|x| 0.5 * x - 3.0).collect()).unwrap();
        let (set, half) = (Gaussian::from_features(&set).unwrap(), Gaussian::from_features(&half).unwrap());
        assert!((variance_ratio(&set, &half).unwrap() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_constant_reference_is_refused() {
        let set = Gaussian::from_features(&noise(50, 6, 1)).unwrap();
        for value in [0.0, 0.5, 0.1, 1e6 / 3.0] {
            let constant = Features::new(9, 6, vec![value; 54]).unwrap();
            let constant = Gaussian::from_features(&constant).unwrap();
            assert!(variance_ratio(&set, &constant).unwrap() < 1e-15);
            assert!(matches!(variance_ratio(&constant, &set), Err(Error::ConstantReference { rows: 9 })));
        }
    }
}
