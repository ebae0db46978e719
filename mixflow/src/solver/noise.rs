//! Where the noise of stochastic solvers comes from.

use burn::prelude::*;

use crate::random::{Stream, normal, rng};

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

/// Noise that is a function of seed, image number and step: samples do not depend on batch size or order.
#[derive(Clone, Debug)]
pub struct SeededNoise {
    seed: u64,
    first: u64,
    device: Device,
}

impl SeededNoise {
    /// Noise for a batch whose images are numbered from `first`.
    #[must_use]
    pub fn new(seed: u64, first: u64, device: &Device) -> Self {
        Self { seed, first, device: device.clone() }
    }

    /// The noise that sampling starts from, of shape `[batch, channels, height, width]`.
    #[must_use]
    pub fn start(&self, shape: [usize; 4]) -> Tensor<4> {
        self.numbers(Stream::Sample, 0, shape)
    }

    fn numbers(&self, stream: Stream, step: usize, shape: [usize; 4]) -> Tensor<4> {
        let size: usize = shape[1..].iter().product();
        let mut numbers = vec![0.0; shape[0] * size];
        for (image, numbers) in (self.first..).zip(numbers.chunks_mut(size.max(1))) {
            let mut rng = rng(self.seed, stream, image);
            // A pair of normal numbers takes two `u64`, which are four words.
            rng.set_word_pos(step as u128 * size.div_ceil(2) as u128 * 4);
            normal(&mut rng, numbers);
        }
        Tensor::from_data(TensorData::new(numbers, shape), &self.device)
    }
}

impl NoiseSource for SeededNoise {
    fn draw(&mut self, step: usize, shape: [usize; 4]) -> Tensor<4> {
        self.numbers(Stream::Solver, step, shape)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::numbers;
    use super::*;

    #[test]
    fn noise_does_not_depend_on_the_batch() {
        let device = Device::default();
        let mut whole = SeededNoise::new(5, 0, &device);
        let mut half = SeededNoise::new(5, 2, &device);
        for step in [3, 0] {
            let all = whole.draw(step, [4, 1, 3, 1]);
            assert_eq!(numbers(&all.narrow(0, 2, 2)), numbers(&half.draw(step, [2, 1, 3, 1])));
        }
        assert_eq!(numbers(&whole.start([4, 1, 3, 1]).narrow(0, 2, 2)), numbers(&half.start([2, 1, 3, 1])));
    }

    #[test]
    fn steps_are_consecutive_and_share_no_number() {
        let mut source = SeededNoise::new(5, 0, &Device::default());
        let [first, second] = [0, 1].map(|step| numbers(&source.draw(step, [1, 1, 2, 1])));
        assert_eq!(numbers(&source.draw(0, [1, 1, 4, 1])), [first.clone(), second].concat());
        assert_ne!(numbers(&source.start([1, 1, 2, 1])), first);
    }
}
