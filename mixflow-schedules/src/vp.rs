//! The path of variance-preserving diffusion.

use crate::{Coefficients, Error, Schedule};

/// The path of variance-preserving diffusion with `β` falling linearly from `beta_max` at noise to `beta_min` at data.
///
/// `α = exp(L)`, `σ = √(1 − α²)`, `L(t) = −¼ (1−t)² (beta_max − beta_min) − ½ (1−t) beta_min`. It does not reach pure noise
/// (`α(0) ≈ 0.007` by default), and `dσ/dt → −∞` at data: stay below `t = 1`, see [`interval`](crate::interval).
///
/// # Source
/// Song et al. 2021 (arXiv 2011.13456), eq. 33; `VPCPlan` of SiT (`willisma/SiT`, transport/path.py, 947f95b).
/// RAE's `VPCPlan` is *not* this path reversed: it exchanges `α` and `σ`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariancePreserving {
    beta_min: f64,
    beta_max: f64,
}

impl VariancePreserving {
    /// The path with `β` between the given rates, both above 0.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless both are finite and above 0.
    pub fn new(beta_min: f64, beta_max: f64) -> Result<Self, Error> {
        Ok(Self { beta_min: Error::positive("beta_min", beta_min)?, beta_max: Error::positive("beta_max", beta_max)? })
    }

    /// The path with rates that a recipe has already checked.
    pub(crate) fn unchecked(beta_min: f64, beta_max: f64) -> Self {
        Self { beta_min, beta_max }
    }

    /// `β` at data and at noise.
    pub fn beta(&self) -> [f64; 2] {
        [self.beta_min, self.beta_max]
    }
}

/// `β` from 0.1 to 20, as published.
impl Default for VariancePreserving {
    fn default() -> Self {
        Self { beta_min: 0.1, beta_max: 20.0 }
    }
}

impl Schedule for VariancePreserving {
    fn at(&self, t: f64) -> Coefficients {
        let (left, slope) = (1.0 - t, self.beta_max - self.beta_min);
        let log_alpha = -0.25 * left * left * slope - 0.5 * left * self.beta_min;
        let half_beta = 0.5 * (left * slope + self.beta_min);
        let (alpha, sigma) = (log_alpha.exp(), (-(2.0 * log_alpha).exp_m1()).sqrt());
        let d_sigma = -alpha * alpha * half_beta / sigma;
        Coefficients { time: t, alpha, sigma, d_alpha: alpha * half_beta, d_sigma }
    }
}
