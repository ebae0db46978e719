//! Euler's method.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Deterministic, NoiseSource, Step, StepSolver};
use crate::sampling::Flow;

/// Euler's method: first order, one evaluation per step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Euler;

impl StepSolver for Euler {
    type Memory = ();

    fn step(&self, flow: &Flow<'_>, x: Tensor<4>, step: Step, _: &mut (), _: &mut dyn NoiseSource) -> Tensor<4> {
        x.clone() + flow.velocity(x, step.from) * flow.elapsed(step.from, step.to)
    }
}

impl Deterministic for Euler {}
