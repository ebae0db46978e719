//! How much each time counts in the loss.

use serde::{Deserialize, Serialize};

use crate::{Coefficients, Prediction};

/// The weight of one example in the loss of a noise, score or data network. Velocity networks are not weighted.
///
/// With `g` the diffusion of the path's own [`Sde`](crate::Sde). A score network is trained on `σ · output + ε`, so
/// that both kinds share the weight. A data network's error is `σ/α` of the noise that follows from it, and its weight
/// `(α/σ)²` times as large. RAE's `g` is negative, and so is its likelihood weight; ours is the magnitude.
///
/// # Source
/// `training_losses` of SiT (`willisma/SiT`, transport/transport.py, 947f95b); of data networks Li and He 2025 (arXiv
/// 2511.13720), table 1, whose loss of the velocity is `Velocity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// 1.
    #[default]
    None,
    /// `(g/σ)²`: the error of the velocity that follows from the prediction.
    Velocity,
    /// `|g|/σ²`: a bound of the likelihood.
    Likelihood,
}

impl Weighting {
    /// The weight of an example whose input lies `at` this point of the path; may be infinite at its ends. `floor`: the least
    /// `σ` that predictions of data are divided by, see [`Prediction::convert_clipped`].
    pub fn at(self, prediction: Prediction, at: &Coefficients, floor: f64) -> f64 {
        let diffusion = at.sde().diffusion;
        let of_data = || Prediction::Data.convert_clipped(at, Prediction::Velocity, at, floor).y;
        match (prediction, self) {
            (Prediction::Velocity, _) | (_, Self::None) => 1.0,
            (Prediction::Data, Self::Velocity) => of_data().powi(2),
            (Prediction::Data, Self::Likelihood) => at.alpha * of_data().abs() / at.sigma.max(floor).powi(2),
            (_, Self::Velocity) => (diffusion / at.sigma).powi(2),
            (_, Self::Likelihood) => diffusion.abs() / at.sigma.powi(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Linear, Scaled, Schedule, schedule::tests::all};

    /// The weighted error of noise or data is the velocity error, by the conversion that reads one as the other.
    #[test]
    fn velocity_weighting_is_the_square_of_the_conversion() {
        for schedule in all() {
            let at = schedule.at(0.3);
            for prediction in [Prediction::Noise, Prediction::Data] {
                let factor = prediction.convert(Prediction::Velocity, &at).y;
                let weight = Weighting::Velocity.at(prediction, &at, 0.0);
                assert!((weight - factor * factor).abs() < 1e-12 * weight, "{schedule:?}");
            }
            assert_eq!(Weighting::Velocity.at(Prediction::Velocity, &at, 0.0), 1.0);
        }
    }

    /// Whether a network says noise or data, a loss is the same.
    #[test]
    fn an_error_of_data_counts_as_that_of_the_noise_which_follows() {
        for schedule in all() {
            let at = schedule.at(0.3);
            for weighting in [Weighting::Velocity, Weighting::Likelihood] {
                let noise = weighting.at(Prediction::Noise, &at, 0.0) * (at.alpha / at.sigma).powi(2);
                let data = weighting.at(Prediction::Data, &at, 0.0);
                assert!((data - noise).abs() < 1e-12 * noise, "{schedule:?} {weighting:?}");
            }
        }
    }

    /// `1 / max(1 − t, 0.05)²` of JiT.
    #[test]
    fn a_floor_bounds_the_weight() {
        let path = Scaled { path: Linear, noise: 2.0 };
        for (t, weight) in [(0.5, 4.0), (0.96, 400.0), (1.0, 400.0)] {
            let found = Weighting::Velocity.at(Prediction::Data, &path.at(t), 2.0 * 0.05);
            assert!((found - weight).abs() < 1e-9 * weight, "{t}: {found}");
        }
    }
}
