//! The numbers and tensors of an AdamW step.

use burn::tensor::Tensor;

/// Adam with decoupled weight decay: the numbers of one step.
///
/// # Source
/// Loshchilov & Hutter 2017 (arXiv 1711.05101), algorithm 2, in the form of PyTorch's `AdamW`: the learning rate also
/// scales the decay, and epsilon is added to `√v̂`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled weight decay, before its product with the learning rate.
    pub weight_decay: f64,
    /// Factor on the gradient, from clipping; 1 without.
    pub gradient_scale: f64,
    /// Decay of the moving average of the parameters.
    pub average_decay: f64,
    /// Number of this step; the first is 1.
    pub step: u64,
}

/// A parameter and what the optimizer remembers of it, all of one shape and none tracked by autodiff.
#[derive(Clone, Debug)]
pub struct AdamWState<const D: usize> {
    /// The parameter.
    pub parameter: Tensor<D>,
    /// Moving average of the gradient; zeros before the first step.
    pub first_moment: Tensor<D>,
    /// Moving average of the squared gradient; zeros before the first step.
    pub second_moment: Tensor<D>,
    /// Moving average of the parameter, where one is kept.
    pub average: Option<Tensor<D>>,
}

/// Constants of a step that are the same for all parameters.
#[derive(Clone, Copy)]
pub(super) struct Constants {
    pub(super) keep: f64,
    pub(super) rate: f64,
    pub(super) inverse_root: f64,
}

impl AdamW {
    pub(super) fn constants(&self) -> Constants {
        let bias = |beta: f64| 1.0 - beta.powf(self.step as f64);
        Constants {
            keep: 1.0 - self.learning_rate * self.weight_decay,
            rate: self.learning_rate / bias(self.beta1),
            inverse_root: bias(self.beta2).sqrt().recip(),
        }
    }
}
