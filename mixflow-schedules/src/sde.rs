//! The stochastic differential equation of a path.

use crate::{Coefficients, Prediction};

/// The linear stochastic differential equation that carries data to noise along a path.
///
/// Its two numbers give the velocity from the score: `velocity = −drift · x_t + diffusion · score`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sde {
    /// `−α̇/α`, the factor of `x_t` in the drift.
    pub drift: f64,
    /// `(α̇/α) σ² − σ σ̇`, half the squared noise rate. Negative under [`Reversed`](crate::Reversed), whose time runs towards noise.
    pub diffusion: f64,
}

impl Coefficients {
    /// The path's own SDE at this time; infinite where `α = 0`.
    ///
    /// # Source
    /// `compute_drift` of SiT (`willisma/SiT`, transport/path.py, 947f95b). For the VP path it equals the closed form
    /// `(−β/2, β/2)` that SiT writes out separately.
    pub fn sde(&self) -> Sde {
        let velocity = Prediction::Score.convert(Prediction::Velocity, self);
        Sde { drift: -velocity.x, diffusion: velocity.y }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Schedule, VariancePreserving};

    /// SiT overrides `compute_drift` for VP by `(−β/2 x, β/2)`: the general formula gives the same.
    #[test]
    fn variance_preserving_sde_is_half_beta() {
        for t in [0.0, 0.2, 0.7, 0.99] {
            let half_beta = 0.5 * (0.1 + (1.0 - t) * 19.9);
            let sde = VariancePreserving::default().at(t).sde();
            assert!((sde.drift + half_beta).abs() < 1e-12 && (sde.diffusion - half_beta).abs() < 1e-12);
        }
    }
}
