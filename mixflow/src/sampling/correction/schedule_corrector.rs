//! The Scale Schedule Corrector of The Velocity Deficit (arXiv 2605.14819): velocities that are too small early are enlarged.

use mixflow_backbones::Invalid;
use serde::{Deserialize, Serialize};

use super::Correction;
use crate::sampling::{Flow, VelocityMap};

/// `v' = (1 + a (1 − t)^b) v` in paper time: `b = 0` is one factor at all times, a temperature.
///
/// The score stays: what a stochastic solver adds as noise it removes in full. The authors' `a` and `b` are not known here;
/// 0.01 to 0.2 and 1 to 4 are where to look, on other noise than that of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCorrector {
    /// What is added at noise, as a share of the velocity; above −1.
    pub a: f64,
    /// How fast that fades towards data, 0 or above.
    pub b: f64,
}

impl ScheduleCorrector {
    /// The factor of the velocity at paper time `t`.
    pub fn factor(&self, t: f64) -> f64 {
        // Adaptive steps may look beyond the ends, where powers may be no numbers.
        1.0 + self.a * (1.0 - t).max(0.0).powf(self.b)
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        if !self.a.is_finite() || self.a <= -1.0 {
            return Err(Invalid::new("a", format!("must be a number above -1, found {}", self.a)));
        }
        if !self.b.is_finite() || self.b < 0.0 {
            return Err(Invalid::new("b", format!("must be a number, 0 or above, found {}", self.b)));
        }
        Ok(())
    }
}

impl Correction for ScheduleCorrector {
    fn correct<'a>(&self, flow: Flow<'a>) -> Flow<'a> {
        if self.a == 0.0 {
            return flow;
        }
        let this = *self;
        flow.mapped(move |t| VelocityMap { velocity: this.factor(t), ..VelocityMap::NONE })
    }
}
