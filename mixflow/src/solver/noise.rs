//! Where the noise of stochastic solvers comes from.

use burn::prelude::*;

/// Standard normal noise for the steps of stochastic solvers.
///
/// Solvers draw nothing themselves: the noise is a function of the step, given by the caller. Any
/// `FnMut(step, shape) -> Tensor<4>` is a source.
pub trait NoiseSource {
    /// The noise of step `step` (from 0), of shape `[batch, channels, height, width]`.
    fn draw(&mut self, step: usize, shape: [usize; 4]) -> Tensor<4>;
}

impl<F: FnMut(usize, [usize; 4]) -> Tensor<4>> NoiseSource for F {
    fn draw(&mut self, step: usize, shape: [usize; 4]) -> Tensor<4> {
        self(step, shape)
    }
}
