//! Heun's method with a last step of Euler's.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Deterministic, NoiseSource, Step, StepSolver};
use crate::sampling::Flow;

/// Heun's method whose last step is Euler's, so that the network is not asked about the end of the grid: second order,
/// two evaluations per step but for one in the last.
///
/// Guidance is decided once a step: where its interval holds the start of a step, the corrector at the end is guided
/// too, wherever that lies. [`Heun`](super::Heun) asks at both.
///
/// # Source
/// Karras et al. 2022 (arXiv 2206.00364), algorithm 1; `euler_sampler(heun=True)` of REPA (`sihyun-yu/REPA`,
/// samplers.py, 67f7145).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KarrasHeun;

impl StepSolver for KarrasHeun {
    type Memory = ();

    fn step(&self, flow: &Flow<'_>, x: Tensor<4>, step: Step, _: &mut (), _: &mut dyn NoiseSource) -> Tensor<4> {
        let Step { from, to, last, .. } = step;
        let time = flow.elapsed(from, to);
        let first = flow.velocity(x.clone(), from);
        let euler = x.clone() + first.clone() * time;
        if last {
            return euler;
        }
        let second = flow.velocity_guided_as(euler, to, from);
        x + (first + second) * (time / 2.0)
    }
}

impl Deterministic for KarrasHeun {}
