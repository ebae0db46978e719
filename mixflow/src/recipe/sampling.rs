//! How images are made, in a recipe.

use mixflow_backbones::autoencoder::TileConfig;
use mixflow_backbones::{Invalid, Precision};
use mixflow_schedules::Schedule;
use serde::{Deserialize, Serialize};

use super::GuideConfig;
use crate::sampling::correction::CorrectionConfig;
use crate::sampling::{Guidance, Rounding, Sampler};

/// Solver, grid of times, guidance and correction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Solver and times.
    #[serde(flatten)]
    pub sampler: Sampler,
    /// Guidance: away from the null label, or from `guide`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Guidance>,
    /// The weaker network that `guidance` leads away from (autoguidance); none is the network itself without a label
    /// (classifier-free guidance).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guide: Option<GuideConfig>,
    /// The scale of guidance that the network is told, of one that was distilled from a guided network, such as FLUX.1-dev; none
    /// is that of its training. Finite, 0 or above. It costs no second evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled_guidance: Option<f64>,
    /// A remedy for exposure bias, on the guided flow, such as `{"kind": "epsilon-scaling", "scale": 1.005}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<CorrectionConfig>,
    /// Images at a time; without effect on them beyond rounding, with an adaptive solver within its tolerances.
    #[serde(default = "hundred")]
    pub batch: usize,
    /// Of the matrix products of the network and a guide; the autoencoder computes in `f32`.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
    /// How an autoencoder decodes large images piece by piece, in the memory of a piece; none is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<TileConfig>,
    /// How numbers become bytes, in files and for Inception; codes differ in it.
    #[serde(default, skip_serializing_if = "Rounding::is_nearest")]
    pub bytes: Rounding,
}

impl SamplingConfig {
    /// Network evaluations of one image, each network counted where guidance asks it; none where the solver chooses its own
    /// steps, or is a program's own.
    pub fn evaluations(&self) -> Option<usize> {
        self.evaluations_of_each().map(|[network, guide]| network + guide)
    }

    /// The same apart: of the network with its label, and of what it is guided away from.
    pub fn evaluations_of_each(&self) -> Option<[usize; 2]> {
        self.sampler.evaluations(self.guidance.as_slice())
    }

    /// The same with another number of steps, see [`TimeGrid::with_steps`](mixflow_schedules::TimeGrid::with_steps).
    ///
    /// # Errors
    /// As there.
    pub fn with_steps(&self, steps: usize) -> Result<Self, mixflow_schedules::Error> {
        let mut sampling = self.clone();
        sampling.sampler.grid = sampling.sampler.grid.with_steps(steps)?;
        Ok(sampling)
    }

    /// The same with this correction.
    #[must_use]
    pub fn corrected(&self, correction: CorrectionConfig) -> Self {
        Self { correction: Some(correction), ..self.clone() }
    }

    /// Solver, guidance and correction in words, such as "Heun, guidance 1.5 from t = 0.1 to 0.7".
    pub fn describe(&self) -> String {
        let mut text = self.sampler.solver.describe().to_string();
        if let Some(guidance) = self.guidance.filter(|_| self.guides()) {
            text += &format!(", guidance {}", guidance.scale());
            if self.guide.is_some() {
                text += " by a weaker network";
            }
            guidance.when().iter().for_each(|when| text += &format!(" {when}"));
            if let Some(channels) = guidance.channels() {
                text += &format!(" in channels 1 to {channels}");
            }
        }
        if let Some(scale) = self.distilled_guidance {
            text += &format!(", told guidance {scale}");
        }
        if let Some(correction) = &self.correction {
            text += &format!(", {correction}");
        }
        if !self.precision.is_full() {
            text += &format!(", in {}", self.precision);
        }
        if let Some(tiles) = self.tiles {
            text += &format!(", decoded in tiles of {} latents a side", tiles.side);
        }
        text
    }

    /// What is wrong with it for what a network makes on a path, `[channels, height, width]`, if anything.
    pub(super) fn check(&self, shape: [usize; 3], schedule: &dyn Schedule) -> Result<(), Invalid> {
        if self.batch == 0 {
            return Err(Invalid::new("batch", "must be at least 1, found 0"));
        }
        match self.guidance.and_then(|guidance| guidance.channels()) {
            Some(guided) if guided > shape[0] => {
                let reason = format!("must be at most {}, all that there are, found {guided}", shape[0]);
                return Err(Invalid::new("guidance.channels", reason));
            }
            _ => {}
        }
        if let Some(scale) = self.distilled_guidance.filter(|scale| !(scale.is_finite() && *scale >= 0.0)) {
            return Err(Invalid::new("distilled_guidance", format!("must be 0 or above, found {scale}")));
        }
        if let Some(tiles) = self.tiles {
            tiles.check().map_err(|fault| fault.within("tiles"))?;
        }
        let [_, height, width] = shape;
        let fits = self.sampler.grid.check_latents([height, width]);
        fits.map_err(|fault| Invalid::new("grid", format!("does not fit: {fault}")))?;
        if let Some(correction) = &self.correction {
            let times = self.sampler.grid.times();
            correction
                .check(shape, schedule, &self.sampler.solver, &times)
                .map_err(|fault| fault.within("correction"))?;
        }
        self.sampler.check()
    }

    /// The guide, if sampling needs it: a scale of 1 guides nothing.
    pub fn active_guide(&self) -> Option<&GuideConfig> {
        self.guide.as_ref().filter(|_| self.guides())
    }

    /// Whether there is guidance at any time.
    pub fn guides(&self) -> bool {
        self.guidance.is_some_and(|guidance| guidance.scale() != 1.0)
    }
}

fn hundred() -> usize {
    100
}
