//! DEFAR (arXiv 2606.28226), once `ReflexFlow`: velocities from states that the network came to itself.

use burn::tensor::Tensor;
use mixflow_backbones::{Backbone, Invalid};
use mixflow_schedules::{Schedule, TimestepSampler};
use serde::{Deserialize, Serialize};

use crate::objective::{Batch, FlowMatching, Loss, Noised, Objective};
use crate::random::{self, Stream};

/// The loss of [`FlowMatching`] plus `beta` times how far, after a step of the network's own from `t0` to `t1`, its velocity
/// is from the direction of the data: `‖v/‖v‖ − (x − x̂)/‖x − x̂‖‖²`, mean over examples, with
/// `x̂ = x_t0 + (t1 − t0) v(x_t0, t0)` and its gradient, `t1 = t0 + (1 − t0) U`.
///
/// For velocities on the straight path with the input at the label's time; two evaluations a step. The authors also weigh the
/// frequencies of the flow matching, by what they have not published, and have not released their code: this is the rest of
/// their loss, by formula. Their `beta` is not known either.
#[derive(Clone, Copy, Debug)]
pub struct Defar<O = FlowMatching> {
    /// The flow matching.
    pub objective: O,
    /// Factor of the direction's part, 0 or above.
    pub beta: f64,
}

impl<S: Schedule, T: TimestepSampler> Defar<FlowMatching<S, T>> {
    /// Both parts of the loss at given times: `ends` are the `t1` of each example.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`; starts and ends: `batch`, in paper time
    pub fn losses<B: Backbone>(
        &self,
        backbone: &B,
        (noised, images): (Noised, Tensor<4>),
        condition: B::Condition,
        starts: &[f64],
        ends: &[f64],
    ) -> Loss {
        let column = |of: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..ends.len()).map(of).collect();
            Tensor::<1>::from_data(values.as_slice(), (&images.device(), images.dtype()))
        };
        let [from, to] =
            [starts, ends].map(|times| times.iter().map(|&t| self.objective.schedule.at(t)).collect::<Vec<_>>());
        let output = backbone.forward(noised.x.clone(), noised.time.clone(), condition.clone());
        let elapsed = column(&|row| to[row].time - from[row].time).reshape([-1, 1, 1, 1]);
        let came_to = noised.x.clone() + output.clone() * elapsed;
        let velocity = backbone.forward(came_to.clone(), column(&|row| to[row].time), condition);
        // Towards data, also where a network counts time the other way.
        let forward = velocity * column(&|row| to[row].d_alpha.signum()).reshape([-1, 1, 1, 1]);
        let away = unit(forward) - unit(images.clone() - came_to);
        let direction = away.square().flatten::<2>(1, 3).sum_dim(1).mean();
        let matching = noised.losses(output).mean();
        Loss::from(matching.clone() + direction.clone() * self.beta)
            .with("matching", matching)
            .with("direction", direction)
    }
}

impl<B: Backbone, S: Schedule, T: TimestepSampler> Objective<B> for Defar<FlowMatching<S, T>> {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        let Batch { images, condition, first, .. } = batch.unmasked("DEFAR");
        let starts: Vec<f64> =
            self.objective.times(images.dims()[0], first, seed).iter().map(|times| times.t).collect();
        let end = |(position, t): (u64, &f64)| {
            let share = random::uniform(&mut random::rng(seed, Stream::Rollout, position));
            t + (1.0 - t) * share
        };
        let ends: Vec<f64> = (first..).zip(&starts).map(end).collect();
        let (noised, condition) = self.objective.draw(images.clone(), condition, first, seed);
        self.losses(backbone, (noised, images), condition, &starts, &ends)
    }
}

/// Every example over its norm, which counts as 1e-8 at least; the bound is below the root, where the gradient is finite.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let norm = x.clone().square().flatten::<2>(1, 3).sum_dim(1).clamp_min(1e-16).sqrt();
    x / norm.reshape([-1, 1, 1, 1])
}

/// [`Defar`] in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefarConfig {
    /// Factor of the direction's part, finite and above 0; the authors' is not published.
    pub beta: f64,
}

impl DefarConfig {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        if self.beta.is_finite() && self.beta > 0.0 {
            return Ok(());
        }
        Err(Invalid::new("beta", format!("must be a number above 0, found {}", self.beta)))
    }
}
