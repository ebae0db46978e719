//! What the tests of solvers share: recorded runs, the tiny network that made them, and a flow with a closed form.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::fs;

use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::silu;
use mixflow_schedules::{Coefficients, Cosine, Linear, Prediction, Reversed, Schedule, VariancePreserving};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::sampling::Flow;

/// A recorded run of a reference implementation: its tensors, lifted to f64, and its manifest.
pub(crate) struct Fixture {
    tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
    pub(crate) manifest: Value,
}

impl Fixture {
    pub(crate) fn read(case: &str) -> Self {
        let path = format!("{}/../tests/fixtures/samplers/{case}", env!("CARGO_MANIFEST_DIR"));
        let bytes = fs::read(format!("{path}.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let read = |view: &safetensors::tensor::TensorView<'_>| {
            let numbers = view.data().as_chunks::<4>().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect();
            (view.shape().to_vec(), numbers)
        };
        Self {
            tensors: tensors.iter().map(|(name, view)| (name.to_string(), read(&view))).collect(),
            manifest: serde_json::from_slice(&fs::read(format!("{path}.json")).unwrap()).unwrap(),
        }
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (shape, numbers) = self.tensors.get(name).unwrap_or_else(|| panic!("the fixture has no {name}"));
        let data = TensorData::new(numbers.clone(), shape.clone());
        Tensor::from_data(data, (&Device::flex(), DType::F64))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Rows of a tensor, such as the states of a trajectory.
    pub(crate) fn rows(&self, name: &str) -> Vec<Tensor<4>> {
        let rows: Tensor<5> = self.tensor(name);
        rows.iter_dim(0).map(|row| row.squeeze_dim(0)).collect()
    }

    /// Fails unless `|found − recorded| ≤ atol + rtol |recorded|`, with the tolerances at `tolerance` in the manifest.
    pub(crate) fn assert_close<const D: usize>(
        &self,
        name: &str,
        found: &Tensor<D>,
        recorded: &Tensor<D>,
        tolerance: &str,
    ) {
        let tolerance = self.manifest.pointer(tolerance).unwrap();
        let [rtol, atol] = ["rtol", "atol"].map(|key| tolerance[key].as_f64().unwrap());
        assert_eq!(found.dims(), recorded.dims(), "{name}");
        for (found, recorded) in numbers(found).into_iter().zip(numbers(recorded)) {
            assert!((found - recorded).abs() <= atol + rtol * recorded.abs(), "{name}: {found} is not {recorded}");
        }
    }

    /// The tiny network of the fixtures.
    pub(crate) fn network(&self) -> impl Fn(Tensor<4>, f64) -> Tensor<4> + use<> {
        let [w1, w2] = ["weights.w1", "weights.w2"].map(|name| self.tensor::<2>(name).transpose());
        let [b1, b2] = ["weights.b1", "weights.b2"].map(|name| self.tensor::<1>(name).unsqueeze::<2>());
        move |x, t| {
            let dims = x.dims();
            let x: Tensor<2> = x.flatten(1, 3);
            let time = [t, (TAU * t).cos(), (TAU * t).sin()];
            let time = Tensor::<2>::from_data([time], (&w1.device(), DType::F64)).repeat_dim(0, dims[0]);
            let hidden = silu(Tensor::cat(vec![x, time], 1).matmul(w1.clone()) + b1.clone());
            (hidden.matmul(w2.clone()) + b2.clone()).reshape(dims)
        }
    }

    /// The flow of a run: the network itself for velocities, what the manifest builds from it for noise and scores.
    pub(crate) fn flow<'a>(&self, schedule: &'a dyn Schedule, prediction: Prediction) -> Flow<'a> {
        let network = self.network();
        Flow::new(schedule, prediction, move |x, t| {
            // These paths are labelled in paper time.
            let at = schedule.at(t);
            let noise = |x: Tensor<4>| {
                x.clone() * (at.sigma / (at.alpha.powi(2) + at.sigma.powi(2))) + network(x, t) * at.alpha
            };
            match prediction {
                Prediction::Noise => noise(x),
                Prediction::Score => noise(x) / -at.sigma,
                _ => network(x, t),
            }
        })
    }
}

/// A path as the fixtures call it.
pub(crate) fn path(name: &str) -> Box<dyn Schedule> {
    match name {
        "Linear" => Box::new(Linear),
        "GVP" => Box::new(Cosine),
        "VP" => Box::new(VariancePreserving::default()),
        _ => panic!("no path is called {name}"),
    }
}

/// A prediction as the fixtures call it.
pub(crate) fn prediction(name: &str) -> Prediction {
    serde_json::from_value(name.into()).unwrap()
}

pub(crate) fn numbers<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.to_data().convert::<f64>().try_to_vec().unwrap()
}

/// A source for solvers that draw no noise.
pub(crate) fn silent(_: usize, _: [usize; 4]) -> Tensor<4> {
    panic!("a deterministic solver drew noise")
}

/// The linear path with a label that runs ever faster, `t (1 + t) / 2`.
#[derive(Debug)]
struct Hurrying;

impl Schedule for Hurrying {
    fn at(&self, t: f64) -> Coefficients {
        let Coefficients { alpha, sigma, d_alpha, d_sigma, .. } = Linear.at(t);
        let speed = 0.5 + t;
        Coefficients { time: t * (1.0 + t) / 2.0, alpha, sigma, d_alpha: d_alpha / speed, d_sigma: d_sigma / speed }
    }
}

/// Every schedule in both directions, and labels that do not run evenly.
pub(crate) fn schedules() -> Vec<Box<dyn Schedule>> {
    vec![
        Box::new(Hurrying),
        Box::new(Reversed(Hurrying)),
        Box::new(Linear),
        Box::new(Cosine),
        Box::new(VariancePreserving::default()),
        Box::new(Reversed(Linear)),
        Box::new(Reversed(Cosine)),
        Box::new(Reversed(VariancePreserving::default())),
    ]
}

/// Data `N(MEAN, DEVIATION²)`, whose flow is linear and has a closed form on every path.
pub(crate) struct Gaussian<'a>(pub(crate) &'a dyn Schedule);

impl<'a> Gaussian<'a> {
    pub(crate) const MEAN: f64 = 0.7;
    pub(crate) const DEVIATION: f64 = 0.5;

    /// Mean and standard deviation at paper time `t`.
    pub(crate) fn moments(&self, t: f64) -> [f64; 2] {
        let at = self.0.at(t);
        [at.alpha * Self::MEAN, (at.alpha * Self::DEVIATION).hypot(at.sigma)]
    }

    /// Where the flow takes `x` from `from` to `to`: it keeps the distance to the mean in units of the deviation.
    pub(crate) fn carry(&self, x: f64, from: f64, to: f64) -> f64 {
        let ([m0, s0], [m1, s1]) = (self.moments(from), self.moments(to));
        m1 + (x - m0) / s0 * s1
    }

    /// Its exact velocity network.
    pub(crate) fn flow(&self) -> Flow<'a> {
        let schedule = self.0;
        Flow::labelled(schedule, Prediction::Velocity, move |x, t| {
            let at = schedule.at(t);
            let [mean, deviation] = Gaussian(schedule).moments(t);
            let growth = (at.alpha * at.d_alpha * Self::DEVIATION.powi(2) + at.sigma * at.d_sigma) / deviation.powi(2);
            (x - mean) * growth + at.d_alpha * Self::MEAN
        })
    }
}

/// One number as a batch of one.
pub(crate) fn point(x: f64) -> Tensor<4> {
    Tensor::from_data([[[[x]]]], (&Device::flex(), DType::F64))
}

/// How many orders the error falls when the number of steps doubles.
pub(crate) fn order(error: impl Fn(usize) -> f64, steps: usize) -> f64 {
    (error(steps) / error(2 * steps)).log2()
}
