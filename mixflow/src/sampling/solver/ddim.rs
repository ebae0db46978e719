//! Denoising diffusion implicit models.

use burn::prelude::*;
use mixflow_schedules::Prediction;
use serde::{Deserialize, Serialize};

use super::{Deterministic, NoiseSource, SampleError, Solver, march};
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

impl Solver for Ddim {
    fn solve(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        times: &[f64],
        _: &mut dyn NoiseSource,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Tensor<4>, SampleError> {
        if times.first().is_some_and(|&start| flow.schedule().at(start).sigma <= 0.0) {
            return Err(SampleError::Config("DDIM cannot start at data: choose another solver".into()));
        }
        march(x, times, visit, |x, _, from, to| {
            let [from_at, to_at] = [from, to].map(|t| flow.schedule().at(t));
            let kept = to_at.sigma / from_at.sigma;
            let data = flow.predict(x.clone(), from, Prediction::Data);
            x * kept + data * (to_at.alpha - from_at.alpha * kept)
        })
    }
}

impl Deterministic for Ddim {}
