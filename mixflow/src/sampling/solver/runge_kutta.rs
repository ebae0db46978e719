//! Runge–Kutta methods with fixed steps.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::tableau::Tableau;
use super::{Deterministic, NoiseSource, Step, StepSolver};
use crate::sampling::Flow;

/// A Runge–Kutta method with the steps that it is given.
///
/// # Source
/// As torchdiffeq 0.2.5 has them: `midpoint`, `heun3`, and `rk4`, which is Kutta's 3/8 rule and not his better known
/// method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RungeKutta {
    /// Which one.
    pub method: Method,
}

/// The methods of [`RungeKutta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Second order, two evaluations per step.
    Midpoint,
    /// Heun's method of third order, three evaluations per step.
    #[serde(rename = "heun-3")]
    Heun3,
    /// Kutta's 3/8 rule: fourth order, four evaluations per step.
    ThreeEighths,
}

impl Method {
    /// Where in a step the slopes after the first are taken.
    pub(crate) fn nodes(self) -> &'static [f64] {
        self.tableau().nodes
    }

    fn tableau(self) -> Tableau {
        match self {
            Self::Midpoint => Tableau { nodes: &[0.5], stages: &[&[0.5]], end: Some(&[0.0, 1.0]) },
            Self::Heun3 => Tableau {
                nodes: &[1.0 / 3.0, 2.0 / 3.0],
                stages: &[&[1.0 / 3.0], &[0.0, 2.0 / 3.0]],
                end: Some(&[0.25, 0.0, 0.75]),
            },
            Self::ThreeEighths => Tableau {
                nodes: &[1.0 / 3.0, 2.0 / 3.0, 1.0],
                stages: &[&[1.0 / 3.0], &[-1.0 / 3.0, 1.0], &[1.0, -1.0, 1.0]],
                end: Some(&[0.125, 0.375, 0.375, 0.125]),
            },
        }
    }
}

impl StepSolver for RungeKutta {
    type Memory = ();

    fn step(&self, flow: &Flow<'_>, x: Tensor<4>, step: Step, _: &mut (), _: &mut dyn NoiseSource) -> Tensor<4> {
        let Step { from, to, .. } = step;
        let slope = |x, share| flow.velocity(x, flow.between(from, to, share));
        self.method.tableau().step(&x, slope(x.clone(), 0.0), flow.elapsed(from, to), slope).1
    }
}

impl Deterministic for RungeKutta {}
