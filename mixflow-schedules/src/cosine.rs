//! The circular path.

use std::f64::consts::FRAC_PI_2;

use crate::{Coefficients, Schedule};

/// The path along a quarter circle, `α = sin(πt/2)`, `σ = cos(πt/2)`: SiT's "GVP", REPA's "cosine".
///
/// # Source
/// `GVPCPlan` of SiT (`willisma/SiT`, transport/path.py, 947f95b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cosine;

impl Schedule for Cosine {
    fn at(&self, t: f64) -> Coefficients {
        // `cos(π/2)` in floating point is 6e-17; the sine of the complement is 0 at data, as it should be.
        let (alpha, sigma) = ((FRAC_PI_2 * t).sin(), (FRAC_PI_2 * (1.0 - t)).sin());
        Coefficients { time: t, alpha, sigma, d_alpha: FRAC_PI_2 * sigma, d_sigma: -FRAC_PI_2 * alpha }
    }
}
