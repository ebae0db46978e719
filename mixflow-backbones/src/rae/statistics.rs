//! Moments of latents, element by element.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::weights::Weights;

/// Added to the variance.
const EPSILON: f64 = 1e-5;

/// Share of a new batch in the running moments.
const MOMENTUM: f64 = 0.1;

/// Mean and variance of every element of a latent over a data set.
///
/// # Source
/// `bytetriper/RAE` at a4d18c4, `src/stage1/rae.py` and `src/calculate_stat.py`.
#[derive(Module, Debug)]
pub struct LatentStatistics {
    /// `[width, rows, columns]`
    pub mean: Param<Tensor<3>>,
    /// `[width, rows, columns]`
    pub variance: Param<Tensor<3>>,
}

impl LatentStatistics {
    /// Mean 0 and variance 1, where the running moments start: latents stay as they are.
    pub fn new(shape: [usize; 3], device: &Device) -> Self {
        Self::from_moments(Tensor::zeros(shape, device), Tensor::ones(shape, device))
    }

    /// Exact moments of `[examples, width, rows, columns]`; the variance is that of the population.
    pub fn of(latents: Tensor<4>) -> Self {
        let mean = latents.clone().mean_dim(0);
        let variance = (latents - mean.clone()).square().mean_dim(0);
        Self::from_moments(mean.squeeze_dim(0), variance.squeeze_dim(0))
    }

    /// The running moments after another batch `[batch, width, rows, columns]`: nine tenths of the old, one of the new.
    /// They depend on the order of batches and, after few of them, on where they started.
    #[must_use]
    pub fn update(&self, latents: Tensor<4>) -> Self {
        let new = Self::of(latents);
        let step = |old: &Param<Tensor<3>>, new: &Param<Tensor<3>>| old.val() * (1.0 - MOMENTUM) + new.val() * MOMENTUM;
        Self::from_moments(step(&self.mean, &new.mean), step(&self.variance, &new.variance))
    }

    /// The moments of equal parts together: exact if those of the parts are.
    ///
    /// # Panics
    /// If there is no part.
    pub fn merge(parts: &[Self]) -> Self {
        let average = |of: &dyn Fn(&Self) -> Tensor<3>| {
            let sum = parts.iter().map(of).reduce(|a, b| a + b).expect("at least one part");
            sum / parts.len() as f64
        };
        let mean = average(&|part| part.mean.val());
        let square = average(&|part| part.variance.val() + part.mean.val().square());
        Self::from_moments(mean.clone(), (square - mean.square()).clamp_min(0.0))
    }

    /// To mean 0 and variance 1; same shape, `[batch, width, rows, columns]`.
    pub fn normalise(&self, latents: Tensor<4>) -> Tensor<4> {
        (latents - self.mean.val().unsqueeze()) / self.deviation()
    }

    /// The inverse of [`normalise`](Self::normalise).
    pub fn denormalise(&self, latents: Tensor<4>) -> Tensor<4> {
        latents * self.deviation() + self.mean.val().unsqueeze()
    }

    /// Statistics of this shape from a file like RAE's `stat.pt`, which has `mean` and `var`.
    ///
    /// # Errors
    /// As [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        weights.into_module(self, official_key)
    }

    /// Under the names that [`load`](Self::load) reads.
    pub fn weights(&self) -> Weights {
        Weights::of(self, official_key)
    }

    fn from_moments(mean: Tensor<3>, variance: Tensor<3>) -> Self {
        let frozen = |table: Tensor<3>| Param::from_tensor(table).set_require_grad(false);
        Self { mean: frozen(mean), variance: frozen(variance) }
    }

    fn deviation(&self) -> Tensor<4> {
        (self.variance.val() + EPSILON).sqrt().unsqueeze()
    }
}

fn official_key(path: &str) -> String {
    path.replace("variance", "var")
}
