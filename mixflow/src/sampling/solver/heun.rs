//! Heun's method.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Deterministic, NoiseSource, Step, StepSolver};
use crate::sampling::Flow;

/// Heun's method (the explicit trapezoidal rule): second order, two evaluations per step, the last one included.
///
/// # Source
/// Called `heun2` in torchdiffeq 0.2.5. [`KarrasHeun`](super::KarrasHeun) ends with an Euler step instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heun;

impl StepSolver for Heun {
    type Memory = ();

    fn step(&self, flow: &Flow<'_>, x: Tensor<4>, step: Step, _: &mut (), _: &mut dyn NoiseSource) -> Tensor<4> {
        let Step { from, to, .. } = step;
        let time = flow.elapsed(from, to);
        let first = flow.velocity(x.clone(), from);
        let second = flow.velocity(x.clone() + first.clone() * time, to);
        x + (first + second) * (time / 2.0)
    }
}

impl Deterministic for Heun {}
