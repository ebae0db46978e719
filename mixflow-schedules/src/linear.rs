//! The straight path.

use crate::{Coefficients, Schedule};

/// The straight path `x_t = t x + (1 − t) ε`: rectified flow, and SiT's "Linear".
///
/// # Source
/// `ICPlan` of SiT (`willisma/SiT`, transport/path.py, 947f95b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Linear;

impl Schedule for Linear {
    fn at(&self, t: f64) -> Coefficients {
        Coefficients { time: t, alpha: t, sigma: 1.0 - t, d_alpha: 1.0, d_sigma: -1.0 }
    }
}
