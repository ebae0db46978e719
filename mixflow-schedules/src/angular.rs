//! Laws of the straight path on the cosine path.

use std::f64::consts::FRAC_2_PI;

use crate::TimeLaw;

/// A law of the straight path carried to the cosine path, to the times with the same ratio of data to noise:
/// `t ← (2/π) atan(t / (1 − t))`.
///
/// On the straight path [`LogitNormal`](crate::LogitNormal) makes `σ/α` log-normal. `Angular` of it does so on
/// [`Cosine`](crate::Cosine).
///
/// ```
/// use mixflow_schedules::{Angular, Cosine, Linear, LogitNormal, Schedule, TimeLaw};
///
/// let law = LogitNormal::new(0.0, 1.0)?;
/// let (straight, curved) = (Linear.at(law.quantile(0.7)), Cosine.at(Angular(law).quantile(0.7)));
/// assert!((straight.sigma / straight.alpha - curved.sigma / curved.alpha).abs() < 1e-12);
/// # Ok::<(), mixflow_schedules::Error>(())
/// ```
///
/// # Source
/// `weighting="lognormal"` of REPA (`sihyun-yu/REPA`, loss.py, 67f7145), after EDM (arXiv 2206.00364).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Angular<L>(pub L);

impl<L: TimeLaw> TimeLaw for Angular<L> {
    fn quantile(&self, u: f64) -> f64 {
        let t = self.0.quantile(u);
        FRAC_2_PI * t.atan2(1.0 - t)
    }
}
