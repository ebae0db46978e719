//! Initial values of parameters, as the official networks draw them.

use std::cell::Cell;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

#[cfg(test)]
pub(crate) mod laws;

/// Creates the parameters of one network, each from its own random stream.
///
/// Parameter `k` depends on the seed and on `k` alone. Values are drawn when a parameter is first read: a network
/// that is going to be loaded from a file draws nothing.
#[derive(Debug)]
pub struct Initializer {
    seed: u64,
    drawn: Cell<u64>,
    device: Device,
}

impl Initializer {
    /// The parameters that `seed` gives, on `device`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { seed, drawn: Cell::new(0), device: device.clone() }
    }

    /// The device on which parameters are made.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// `U(-a, a)` with `a = √(6 / (fan_in + fan_out))`; the first axis is the output, the rest is flattened.
    ///
    /// # Source
    /// Glorot and Bengio 2010, equation 16.
    pub fn xavier<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        let fan_in: usize = shape[1..].iter().product();
        self.uniform(shape, (6.0 / (fan_in + shape[0]) as f64).sqrt())
    }

    /// `U(-bound, bound)`.
    pub fn uniform<const D: usize>(&self, shape: [usize; D], bound: f64) -> Param<Tensor<D>> {
        self.draw(shape, move |rng| rng.random_range(-bound..bound) as f32)
    }

    /// `N(0, std²)`.
    pub fn normal<const D: usize>(&self, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        self.draw(shape, move |rng| (std * standard_normal(rng)) as f32)
    }

    /// Zeros.
    pub fn zeros<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        self.parameter(shape, move |device| Tensor::zeros(shape, device), true)
    }

    /// Ones: the weight of a normalisation.
    pub fn ones<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        self.parameter(shape, move |device| Tensor::ones(shape, device), true)
    }

    /// A table that is stored with the network but not trained.
    pub fn frozen<const D: usize>(&self, shape: [usize; D], values: Vec<f32>) -> Param<Tensor<D>> {
        self.frozen_by(shape, move || values)
    }

    /// [`frozen`](Self::frozen), computed when it is first read.
    pub fn frozen_by<const D: usize>(
        &self,
        shape: [usize; D],
        values: impl FnOnce() -> Vec<f32> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        self.parameter(shape, move |device| Tensor::from_data(TensorData::new(values(), shape), device), false)
    }

    fn draw<const D: usize>(
        &self,
        shape: [usize; D],
        value: impl Fn(&mut ChaCha8Rng) -> f32 + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.drawn.replace(self.drawn.get() + 1).to_le_bytes());
        let values = move |device: &Device| {
            let mut rng = ChaCha8Rng::from_seed(key);
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| value(&mut rng)).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        self.parameter(shape, values, true)
    }

    fn parameter<const D: usize>(
        &self,
        shape: [usize; D],
        values: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
        trained: bool,
    ) -> Param<Tensor<D>> {
        let init = move |device: &Device, require_grad| values(device).set_require_grad(require_grad);
        Param::uninitialized(ParamId::new(), init, self.device.clone(), trained, shape.into())
    }
}

/// Box and Muller 1958.
fn standard_normal(rng: &mut impl Rng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (mean, values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn laws_have_the_published_moments() {
        let init = Initializer::new(3, &Device::default());
        // 65,536 draws: standard error of a mean 1/256 deviations, of a variance about 0.6 %.
        let xavier = init.xavier([256, 256]).val().into_data().try_to_vec::<f32>().expect("f32");
        let (mean, variance) = moments(&xavier);
        let expected: f64 = 2.0 / 512.0;
        assert!(mean.abs() < 5.0 * expected.sqrt() / 256.0);
        assert!((variance / expected - 1.0).abs() < 0.03);
        assert!(xavier.iter().all(|v| v.abs() <= (6.0f32 / 512.0).sqrt()));

        let (mean, variance) = moments(&init.normal([256, 256], 0.02).val().into_data().try_to_vec().expect("f32"));
        assert!(mean.abs() < 5.0 * 0.02 / 256.0);
        assert!((variance / 4e-4 - 1.0).abs() < 0.03);
    }

    #[test]
    fn a_parameter_depends_on_the_seed_and_its_number_alone() {
        let values = |seed, skip: usize| {
            let init = Initializer::new(seed, &Device::default());
            for _ in 0..skip {
                init.normal([2, 2], 1.0);
            }
            init.normal([4, 4], 1.0).val().into_data()
        };
        assert_eq!(values(1, 0), values(1, 0));
        assert_ne!(values(1, 0), values(2, 0));
        assert_ne!(values(1, 0), values(1, 1));
    }
}
