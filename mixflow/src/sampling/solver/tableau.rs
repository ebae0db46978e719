//! Weights of Runge–Kutta methods.

use burn::prelude::*;

/// An explicit Runge–Kutta method. Its first slope is that at the start of a step.
#[derive(Debug)]
pub(super) struct Tableau {
    /// Where the other slopes are taken, in steps.
    pub(super) nodes: &'static [f64],
    /// For each of them the weights of those before it.
    pub(super) stages: &'static [&'static [f64]],
    /// Weights of all slopes in the end of the step; none where the state of the last stage is the end.
    pub(super) end: Option<&'static [f64]>,
}

impl Tableau {
    /// The slopes and the end of a step of `size` from `start`, where the slope is `first`. `slope` is given a state and
    /// where in the step it is.
    pub(super) fn step(
        &self,
        start: &Tensor<4>,
        first: Tensor<4>,
        size: f64,
        slope: impl Fn(Tensor<4>, f64) -> Tensor<4>,
    ) -> (Vec<Tensor<4>>, Tensor<4>) {
        let mut slopes = vec![first];
        let mut end = start.clone();
        for (node, weights) in self.nodes.iter().zip(self.stages) {
            end = start.clone() + combine(&slopes, weights) * size;
            slopes.push(slope(end.clone(), *node));
        }
        if let Some(weights) = self.end {
            end = start.clone() + combine(&slopes, weights) * size;
        }
        (slopes, end)
    }
}

/// The weighted sum of the slopes whose weight is not 0.
pub(super) fn combine(slopes: &[Tensor<4>], weights: &[f64]) -> Tensor<4> {
    let weighted = slopes.iter().zip(weights).filter(|(_, weight)| **weight != 0.0);
    let sum = weighted.map(|(slope, &weight)| slope.clone() * weight).reduce(|a, b| a + b);
    sum.expect("every row of the tableau has a weight")
}
