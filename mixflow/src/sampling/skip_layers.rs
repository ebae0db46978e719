//! Guidance away from a network without some of its blocks.

use mixflow_schedules::TimeGrid;
use serde::{Deserialize, Serialize};

use crate::sampling::Guidance;
use crate::sampling::solver::SampleError;

/// Skip-layer guidance: `scale (strong − weak)` is added to the guided prediction, where the weak network lacks blocks.
///
/// # Source
/// `SkipLayerCFGDenoiser` of `Stability-AI/sd3.5` at fbf8f48, `sd3_impls.py`; `skip_guidance_layers` of `diffusers` 0.42.1,
/// `StableDiffusion3Pipeline`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipLayers {
    /// The blocks that the weak network lacks, from 0.
    pub blocks: Vec<usize>,
    /// How far to lead away from it; 0 is not at all.
    pub scale: f64,
    /// The steps that it holds for, as shares of all: step `i` of `n`, from 0, where `start < i / n < end`.
    pub steps: [f64; 2],
}

impl SkipLayers {
    /// How a flow on `grid` is guided; none where it holds for no step.
    ///
    /// # Errors
    /// For a scale that is not finite and shares that are no increasing pair in [0, 1].
    pub fn guidance(&self, grid: &TimeGrid) -> Result<Option<Guidance>, SampleError> {
        let guidance = Guidance::new(1.0 + self.scale)?;
        let [start, end] = self.steps;
        if !(0.0 <= start && start <= end && end <= 1.0) {
            return Err(SampleError::Config(format!(
                "skip_layers.steps must be two increasing shares in [0, 1], found [{start}, {end}]"
            )));
        }
        let count = grid.steps() as f64;
        let times = grid.times();
        let holds = |&(step, _): &(usize, &f64)| start * count < step as f64 && (step as f64) < end * count;
        let mut times = times[..grid.steps()].iter().enumerate().filter(holds).map(|(_, &t)| t);
        let Some(first) = times.next() else { return Ok(None) };
        guidance.within(first, times.next_back().unwrap_or(first)).map(Some)
    }
}
