//! Where the noise of stochastic solvers comes from.

use burn::prelude::*;

use super::SampleError;
use crate::objective::noise;
use crate::random::Stream;

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

/// Noise that is a function of seed, image number and step: it does not depend on batch size or order.
///
/// Whoever samples with it gets the images of these numbers that a [`Generator`](crate::evaluation::Generator) makes.
#[derive(Clone, Debug)]
pub struct SeededNoise {
    seed: u64,
    first: u64,
    device: Device,
}

/// Bits of a position that count the steps of an image.
const STEP_BITS: u32 = 20;

impl SeededNoise {
    /// Noise for a batch whose images are numbered from `first`.
    #[must_use]
    pub fn new(seed: u64, first: u64, device: &Device) -> Self {
        Self { seed, first, device: device.clone() }
    }

    /// Refuses numbers of images, `count` from `first` on, that there is no noise for: from 2⁴⁴ on.
    ///
    /// # Errors
    /// [`SampleError::Config`] for these.
    pub fn check(first: u64, count: usize) -> Result<(), SampleError> {
        let limit = 1 << (u64::BITS - STEP_BITS);
        match first.checked_add(count as u64) {
            Some(end) if end <= limit => Ok(()),
            _ => Err(SampleError::Config(format!("images are numbered below {limit}, found {count} from {first} on"))),
        }
    }

    /// The noise that sampling starts from, of shape `[batch, channels, height, width]`.
    #[must_use]
    pub fn start(&self, shape: [usize; 4]) -> Tensor<4> {
        noise(self.seed, Stream::Sample, self.first, shape, &self.device)
    }
}

impl NoiseSource for SeededNoise {
    /// # Panics
    /// From step 2²⁰ or image 2⁴⁴ on, whose noise would be that of others: see [`check`](Self::check).
    fn draw(&mut self, step: usize, shape: [usize; 4]) -> Tensor<4> {
        assert!(step >> STEP_BITS == 0, "there is noise for 2^{STEP_BITS} steps, not for step {step}");
        Self::check(self.first, shape[0]).unwrap_or_else(|error| panic!("{error}"));
        let image = |number: u64| {
            let position = number << STEP_BITS | step as u64;
            noise(self.seed, Stream::Solver, position, [1, shape[1], shape[2], shape[3]], &self.device)
        };
        Tensor::cat((self.first..).take(shape[0]).map(image).collect(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::numbers;
    use super::*;
    use crate::random::{normal, rng};

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

    /// As many numbers as an image has, drawn from what the stream says of the position.
    fn drawn(seed: u64, stream: Stream, position: u64) -> Vec<f64> {
        let mut numbers = vec![0.0; 2];
        normal(&mut rng(seed, stream, position), &mut numbers);
        numbers.into_iter().map(f64::from).collect()
    }

    #[test]
    fn an_image_and_step_have_a_position_of_their_own() {
        let mut source = SeededNoise::new(5, 3, &Device::default());
        assert_eq!(numbers(&source.start([2, 1, 2, 1])), [3, 4].map(|i| drawn(5, Stream::Sample, i)).concat());
        for step in [0, 1, 100_000] {
            let expected = [3, 4].map(|image| drawn(5, Stream::Solver, image * 1_048_576 + step)).concat();
            assert_eq!(numbers(&source.draw(step as usize, [2, 1, 2, 1])), expected);
        }
    }

    #[test]
    fn images_without_noise_of_their_own_are_refused() {
        let last = (1 << 44) - 1;
        assert_eq!(SeededNoise::check(last, 1), Ok(()));
        for (first, count) in [(last, 2), (1 << 44, 1), (u64::MAX, 2)] {
            let error = SeededNoise::check(first, count).unwrap_err().to_string();
            assert!(error.contains(&format!("below 17592186044416, found {count} from {first} on")), "{error}");
        }
    }

    #[test]
    #[should_panic(expected = "not for step 1048576")]
    fn a_step_without_noise_of_its_own_is_none() {
        let _ = SeededNoise::new(5, 0, &Device::default()).draw(1 << 20, [1, 1, 1, 1]);
    }
}
