use serde::{Deserialize, Serialize};

/// Nearest true times of the states of one sampling time: one column of figure 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Sampling time, in [0, 1].
    pub t: f64,
    /// Number of states.
    pub count: usize,
    /// Smallest nearest time.
    pub min: f64,
    /// Mean nearest time.
    pub mean: f64,
    /// Largest nearest time.
    pub max: f64,
    /// Quantiles of the nearest time: 5 %, 50 % and 95 %.
    pub quantiles: [f64; 3],
    /// Share of states whose nearest time is below `t`, in [0, 1].
    pub slow: f64,
}

impl Band {
    /// Of at least one time; `resolution` is how far below `t` counts as slow.
    pub(super) fn of(t: f64, found: &[f64], resolution: f64) -> Self {
        let count = found.len();
        let mut sorted = found.to_vec();
        sorted.sort_by(f64::total_cmp);
        // The nearest rank: a value that was found.
        let quantile = |share: f64| sorted[(share * (count - 1) as f64).round() as usize];
        Self {
            quantiles: [0.05, 0.5, 0.95].map(quantile),
            t,
            count,
            min: found.iter().copied().fold(f64::INFINITY, f64::min),
            mean: found.iter().sum::<f64>() / count as f64,
            max: found.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            slow: found.iter().filter(|&&m| m < t - resolution).count() as f64 / count as f64,
        }
    }
}

/// A band of generated states with that of true interpolations beside it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibratedBand {
    /// Sampling time, in [0, 1].
    pub t: f64,
    /// The meter on generated states.
    pub generated: Band,
    /// The meter on true interpolations at time `t`.
    pub real: Band,
    /// `real.mean − t`: what the meter misreads on states without error.
    pub bias: f64,
    /// `real.mean − generated.mean`: positive when generated states lie nearer to noise than true ones.
    pub lag: f64,
    /// The time at which true interpolations read as the generated states do at `t`, in [0, 1]: below `t` is Slow Flow.
    ///
    /// Unlike `lag` it is in units of `t`, for the meter's own scale is compressed. Linear between sampling times; clamped
    /// to the first and last of them.
    pub equivalent_time: f64,
}

/// Pairs the bands of generated states with those of true interpolations.
///
/// # Panics
/// When the two do not hold the same sampling times, in ascending order.
pub fn calibrate(generated: &[Band], real: &[Band]) -> Vec<CalibratedBand> {
    assert!(
        generated.iter().map(|band| band.t).eq(real.iter().map(|band| band.t)),
        "expected bands at the same sampling times, found {} and {}",
        generated.len(),
        real.len()
    );
    assert!(real.is_sorted_by(|a, b| a.t < b.t), "expected ascending sampling times");
    let pair = |(&generated, &real_band): (&Band, &Band)| CalibratedBand {
        t: generated.t,
        generated,
        real: real_band,
        bias: real_band.mean - generated.t,
        lag: real_band.mean - generated.mean,
        equivalent_time: equivalent_time(generated.mean, real),
    };
    generated.iter().zip(real).map(pair).collect()
}

/// The time at which true interpolations read `mean` on average: linear between their bands, clamped to their times.
///
/// # Panics
/// Without bands.
pub fn equivalent_time(mean: f64, real: &[Band]) -> f64 {
    match real.iter().position(|band| band.mean >= mean) {
        Some(0) => real[0].t,
        Some(i) => {
            let [below, above] = [real[i - 1], real[i]];
            below.t + (above.t - below.t) * (mean - below.mean) / (above.mean - below.mean)
        }
        None => real[real.len() - 1].t,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bands_are_calibrated_to_no_lag() {
        let bands: Vec<_> = [(0.0, 0.1), (0.5, 0.3), (1.0, 0.6)].map(|(t, m)| Band::of(t, &[m], 0.0)).to_vec();
        for band in calibrate(&bands, &bands) {
            assert_eq!((band.lag, band.equivalent_time), (0.0, band.t));
            assert_eq!(band.bias, band.real.mean - band.t);
        }
    }

    #[test]
    fn readings_outside_the_control_are_clamped() {
        let of = |means: [f64; 2]| [Band::of(0.2, &[means[0]], 0.0), Band::of(0.8, &[means[1]], 0.0)];
        let found = calibrate(&of([0.0, 0.9]), &of([0.1, 0.5]));
        assert_eq!((found[0].equivalent_time, found[1].equivalent_time), (0.2, 0.8));
        let found = calibrate(&of([0.2, 0.4]), &of([0.1, 0.5]));
        assert!((found[0].equivalent_time - 0.35).abs() < 1e-12);
    }

    #[test]
    fn only_more_than_the_resolution_below_is_slow() {
        let band = Band::of(0.5, &[0.4, 0.4996, 0.5, 0.7], 0.0005);
        assert_eq!((band.slow, band.min, band.max, band.count), (0.25, 0.4, 0.7, 4));
    }
}
