//! Heun's method.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Deterministic, NoiseSource, SampleError, Solver, march};
use crate::sampling::Flow;

/// Heun's method (the explicit trapezoidal rule): second order, two evaluations per step, the last one included.
///
/// # Source
/// Called `heun2` in torchdiffeq 0.2.5. [`KarrasHeun`](super::KarrasHeun) ends with an Euler step instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heun;

impl Solver for Heun {
    fn solve(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        times: &[f64],
        _: &mut dyn NoiseSource,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Tensor<4>, SampleError> {
        march(x, times, visit, |x, _, from, to| {
            let step = flow.elapsed(from, to);
            let first = flow.velocity(x.clone(), from);
            let second = flow.velocity(x.clone() + first.clone() * step, to);
            x + (first + second) * (step / 2.0)
        })
    }
}

impl Deterministic for Heun {}
