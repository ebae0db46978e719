//! How images are made of prompts.

use mixflow::backbones::Precision;
use mixflow::recipe::SamplingConfig;
use mixflow::sampling::solver::{Clock, DpmPlusPlus2M, Euler, SampleError};
use mixflow::sampling::{Guidance, Rounding, Sampler, SkipLayers, SolverConfig};
use mixflow::schedules::{Shift, TimeGrid};

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

    /// What `FluxPipeline` of `diffusers` does with FLUX.1-dev unless told otherwise: 28 steps of Euler's method, told guidance 3.5.
    ///
    /// # Errors
    /// For a shift that is not above 0.
    pub fn flux_1_dev(shift: Shift) -> Result<Self, SampleError> {
        let mut all = Self::of(SolverConfig::Euler(Euler), TimeGrid::new(28).and_then(|grid| grid.shift(shift)), None)?;
        all.sampling.distilled_guidance = Some(3.5);
        Ok(all)
    }

    /// What the model card of FLUX.1-schnell does: 4 steps of Euler's method.
    ///
    /// # Errors
    /// For a shift that is not above 0.
    pub fn flux_1_schnell(shift: Shift) -> Result<Self, SampleError> {
        Self::of(SolverConfig::Euler(Euler), TimeGrid::new(4).and_then(|grid| grid.shift(shift)), None)
    }

    /// What the model card of Z-Image does: 50 steps of Euler's method, guidance 5, which `ZImagePipeline` of `diffusers` calls 4.
    /// Its `cfg_normalization` and `cfg_truncation`, which are off unless asked for, are not known here.
    ///
    /// # Errors
    /// For a shift that is not above 0.
    pub fn z_image(shift: f64) -> Result<Self, SampleError> {
        let grid = TimeGrid::new(50).and_then(|grid| grid.shift(shift));
        Self::of(SolverConfig::Euler(Euler), grid, Some(5.0))
    }

    /// What the model card of Z-Image-Turbo does: 8 steps of Euler's method.
    ///
    /// # Errors
    /// For a shift that is not above 0.
    pub fn z_image_turbo(shift: f64) -> Result<Self, SampleError> {
        Self::of(SolverConfig::Euler(Euler), TimeGrid::new(8).and_then(|grid| grid.shift(shift)), None)
    }

    fn valid(solver: SolverConfig, steps: usize, guidance: Option<f64>) -> Self {
        Self::published(solver, steps, SHIFT, guidance).expect("published numbers are in their ranges")
    }

    fn published(solver: SolverConfig, steps: usize, shift: f64, guidance: Option<f64>) -> Result<Self, SampleError> {
        Self::of(solver, TimeGrid::stable_diffusion_3(steps, shift), guidance)
    }

    fn of(
        solver: SolverConfig,
        grid: Result<TimeGrid, mixflow::schedules::Error>,
        guidance: Option<f64>,
    ) -> Result<Self, SampleError> {
        let grid = grid.map_err(|error| SampleError::Config(error.to_string()))?;
        let guidance = guidance.map(Guidance::new).transpose()?;
        let sampling = SamplingConfig {
            sampler: Sampler { solver, grid },
            guidance,
            guide: None,
            distilled_guidance: None,
            correction: None,
            batch: 1,
            precision: Precision::F32,
            tiles: None,
            bytes: Rounding::Nearest,
        };
        Ok(Self { sampling, skip_layers: None })
    }
}

const DPM: SolverConfig = SolverConfig::DpmPlusPlus2M(DpmPlusPlus2M { clock: Clock::LogSigma });
