//! Euler's method.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Deterministic, NoiseSource, SampleError, Solver, march};
use crate::sampling::Flow;

/// Euler's method: first order, one evaluation per step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Euler;

impl Solver for Euler {
    fn solve(
        &self,
        flow: &Flow<'_>,
        x: Tensor<4>,
        times: &[f64],
        _: &mut dyn NoiseSource,
        visit: &mut dyn FnMut(f64, &Tensor<4>),
    ) -> Result<Tensor<4>, SampleError> {
        march(x, times, visit, |x, _, from, to| x.clone() + flow.velocity(x, from) * flow.elapsed(from, to))
    }
}

impl Deterministic for Euler {}
