//! How much each time counts in the loss.

use serde::{Deserialize, Serialize};

use crate::{Coefficients, Prediction};

/// The weight of one example in the loss of a noise or score network. Velocity and data networks are not weighted.
///
/// With `g` the diffusion of the path's own [`Sde`](crate::Sde). A score network is trained on `σ · output + ε`, so
/// that both kinds share the weight. RAE's `g` is negative, and so is its likelihood weight; ours is the magnitude.
///
/// # Source
/// `training_losses` of SiT (`willisma/SiT`, transport/transport.py, 947f95b).
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
    /// The weight of an example whose input lies `at` this point of the path; may be infinite at its ends.
    pub fn at(self, prediction: Prediction, at: &Coefficients) -> f64 {
        let diffusion = at.sde().diffusion;
        match (prediction, self) {
            (Prediction::Velocity | Prediction::Data, _) | (_, Self::None) => 1.0,
            (_, Self::Velocity) => (diffusion / at.sigma).powi(2),
            (_, Self::Likelihood) => diffusion.abs() / at.sigma.powi(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Schedule, schedule::tests::all};

    /// The weighted noise error is the velocity error, by the conversion that reads one as the other.
    #[test]
    fn velocity_weighting_is_the_square_of_the_conversion() {
        for schedule in all() {
            let at = schedule.at(0.3);
            let factor = Prediction::Noise.convert(Prediction::Velocity, &at).y;
            let weight = Weighting::Velocity.at(Prediction::Noise, &at);
            assert!((weight - factor * factor).abs() < 1e-12 * weight, "{schedule:?}");
            assert_eq!(Weighting::Velocity.at(Prediction::Velocity, &at), 1.0);
        }
    }
}
