//! How images are made of prompts.

use mixflow::backbones::Precision;
use mixflow::evaluation::Weaker;
use mixflow::recipe::SamplingConfig;
use mixflow::sampling::solver::{Clock, DpmPlusPlus2M, Euler, SampleError};
use mixflow::sampling::{Guidance, Sampler, SolverConfig};
use mixflow::schedules::TimeGrid;
use serde::{Deserialize, Serialize};

use crate::Transformer;

/// The published shift of Stable Diffusion 3 and 3.5.
const SHIFT: f64 = 3.0;

/// Published settings: what a recipe says of sampling, and what it cannot say.
#[derive(Clone, Debug, PartialEq)]
pub struct TextSampling {
    /// Solver, times and guidance away from what the [`TextEmbedding`](crate::TextEmbedding) says stands for no prompt; one
    /// image at a time, since a latent of 1024 pixels keeps a machine busy alone.
    pub sampling: SamplingConfig,
    /// Guidance away from the network without some of its blocks, beside the other.
    pub skip_layers: Option<SkipLayers>,
}

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
    /// What [`TextPipeline`](crate::TextPipeline) is led away from on `grid`: `network` without the blocks; none where it
    /// holds for no step.
    ///
    /// # Errors
    /// As [`guidance`](Self::guidance), and for blocks that the network does not have.
    pub fn weaker(&self, network: &Transformer, grid: &TimeGrid) -> Result<Option<Weaker<Transformer>>, SampleError> {
        let depth = network.depth();
        if let Some(block) = self.blocks.iter().find(|&&block| block >= depth) {
            return Err(SampleError::Config(format!("skip_layers.blocks must be 0 to {}, found {block}", depth - 1)));
        }
        let weaker = |guidance| Weaker { network: network.without_blocks(&self.blocks), guidance };
        Ok(self.guidance(grid)?.map(weaker))
    }

    /// The same as guidance of a flow on `grid`; none where it holds for no step.
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

impl TextSampling {
    /// What `StableDiffusion3Pipeline` of `diffusers` does unless told otherwise: 28 steps of Euler's method, guidance 7.
    ///
    /// # Errors
    /// For a shift that is not above 0.
    pub fn diffusers(shift: f64) -> Result<Self, SampleError> {
        Self::published(SolverConfig::Euler(Euler), 28, shift, Some(7.0))
    }

    /// What the code of Stability does with Stable Diffusion 3.5 medium: 50 steps of DPM-Solver++, guidance 5.
    ///
    /// # Source
    /// `CONFIGS` of `Stability-AI/sd3.5` at fbf8f48, `sd3_infer.py`, as those below.
    ///
    /// # Panics
    /// Never: the numbers are valid.
    pub fn stable_diffusion_3_5_medium() -> Self {
        Self::valid(DPM, 50, Some(5.0))
    }

    /// The same with skip-layer guidance and guidance 4.
    ///
    /// # Panics
    /// Never: the numbers are valid.
    pub fn stable_diffusion_3_5_medium_skip_layers() -> Self {
        let skip_layers = SkipLayers { blocks: vec![7, 8, 9], scale: 2.5, steps: [0.01, 0.2] };
        Self { skip_layers: Some(skip_layers), ..Self::valid(DPM, 50, Some(4.0)) }
    }

    /// With Stable Diffusion 3.5 large: 40 steps of DPM-Solver++, guidance 4.5.
    ///
    /// # Panics
    /// Never: the numbers are valid.
    pub fn stable_diffusion_3_5_large() -> Self {
        Self::valid(DPM, 40, Some(4.5))
    }

    /// With Stable Diffusion 3.5 large turbo: 4 steps of Euler's method, no guidance.
    ///
    /// # Panics
    /// Never: the numbers are valid.
    pub fn stable_diffusion_3_5_large_turbo() -> Self {
        Self::valid(SolverConfig::Euler(Euler), 4, None)
    }

    fn valid(solver: SolverConfig, steps: usize, guidance: Option<f64>) -> Self {
        Self::published(solver, steps, SHIFT, guidance).expect("published numbers are in their ranges")
    }

    fn published(solver: SolverConfig, steps: usize, shift: f64, guidance: Option<f64>) -> Result<Self, SampleError> {
        let grid =
            TimeGrid::stable_diffusion_3(steps, shift).map_err(|error| SampleError::Config(error.to_string()))?;
        let guidance = guidance.map(Guidance::new).transpose()?;
        let sampling = SamplingConfig {
            sampler: Sampler { solver, grid },
            guidance,
            guide: None,
            correction: None,
            batch: 1,
            precision: Precision::F32,
        };
        Ok(Self { sampling, skip_layers: None })
    }
}

const DPM: SolverConfig = SolverConfig::DpmPlusPlus2M(DpmPlusPlus2M { clock: Clock::LogSigma });
