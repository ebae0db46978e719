//! Denoising diffusion implicit models.

use burn::prelude::*;
use mixflow_schedules::Prediction;
use serde::{Deserialize, Serialize};

use super::{Deterministic, NoiseSource, SampleError, Step, StepSolver, check_start};
use crate::sampling::Flow;

/// DDIM without noise (`η = 0`): first order, one evaluation per step.
///
/// Takes the data and the noise of which the network thinks a state is made to the next time as they are: Euler's method in
/// `x/α` over `σ/α`. For the steps of the published codes see [`TimeGrid::ddim`](mixflow_schedules::TimeGrid::ddim).
///
/// # Source
/// Song et al. 2020 (arXiv 2010.02502), equation 12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ddim;

impl StepSolver for Ddim {
    type Memory = ();

    fn check(&self, flow: &Flow<'_>, times: &[f64]) -> Result<(), SampleError> {
        check_start(flow, times, "DDIM")
    }

    fn step(&self, flow: &Flow<'_>, x: Tensor<4>, step: Step, _: &mut (), _: &mut dyn NoiseSource) -> Tensor<4> {
        let [from, to] = [step.from, step.to].map(|t| flow.schedule().at(t));
        let kept = to.sigma / from.sigma;
        let data = flow.predict(x.clone(), step.from, Prediction::Data);
        x * kept + data * (to.alpha - from.alpha * kept)
    }
}

impl Deterministic for Ddim {}
