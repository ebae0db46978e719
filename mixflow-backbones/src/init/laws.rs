//! Whether initial values follow their laws, and numbers to put in, for the tests of networks.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::keys::official_key;
use crate::weights::Weights;

/// The law of a parameter.
pub(crate) enum Law {
    Zero,
    One,
    /// Of this deviation.
    Normal(f64),
    /// Between this bound and its negative.
    Uniform(f64),
}

impl Law {
    pub(crate) fn xavier(shape: &[usize]) -> Self {
        Self::Uniform((6.0 / (shape[0] + shape[1..].iter().product::<usize>()) as f64).sqrt())
    }
}

/// Checks every parameter of a new network for which `law` gives one. Returns how many were drawn.
pub(crate) fn assert_laws(network: &impl Module, law: impl Fn(&str, &[usize]) -> Option<Law>) -> usize {
    let mut drawn = HashMap::new();
    for (name, data) in Weights::of(network, official_key).iter() {
        let Some(law) = law(name, data.shape()) else { continue };
        let values: Vec<f64> = data.data().expect("in memory").iter::<f64>().collect();
        let n = values.len() as f64;
        let deviation = match law {
            Law::Zero | Law::One => {
                let expected = if matches!(law, Law::One) { 1.0 } else { 0.0 };
                assert!(values.iter().all(|&v| v == expected), "{name} must start at {expected}");
                continue;
            }
            Law::Normal(deviation) => deviation,
            Law::Uniform(bound) => {
                let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                assert!(largest <= bound * (1.0 + 1e-6), "{name} exceeds {bound}");
                // The largest of n draws falls below 0.99 of the bound with probability 0.99^n, here < 1e-8.
                assert!(n < 2048.0 || largest > 0.99 * bound, "{name}: {largest}, not {bound}");
                bound / 3f64.sqrt()
            }
        };
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        // Five standard errors: of the mean, and of the variance, whose relative error is at most √(2 / n).
        assert!(mean.abs() < 5.0 * deviation / n.sqrt(), "{name}: mean {mean}");
        assert!((variance / deviation.powi(2) - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{name}: variance {variance}");
        let twin = drawn.insert(values[0].to_bits(), name.to_string());
        assert!(twin.is_none(), "{name} repeats the stream of {twin:?}");
    }
    drawn.len()
}

/// The same numbers in [0, 1) in every run.
pub(crate) fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
