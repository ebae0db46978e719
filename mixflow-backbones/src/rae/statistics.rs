//! Moments of latents, element by element.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

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
        let first = latents.clone().mean_dim(0);
        // A sum of large numbers is rounded; that of what the mean leaves is not, and tells by how much.
        let rest = latents - first.clone();
        let error = rest.clone().mean_dim(0);
        let variance = (rest - error.clone()).square().mean_dim(0);
        Self::from_moments((first + error).squeeze_dim(0), variance.squeeze_dim(0))
    }

    /// The running moments after another batch `[batch, width, rows, columns]`: nine tenths of the old, one of the new.
    /// They depend on the order of batches and, after few of them, on where they started.
    #[must_use]
    pub fn update(&self, latents: Tensor<4>) -> Self {
        let new = Self::of(latents);
        let step = |old: &Param<Tensor<3>>, new: &Param<Tensor<3>>| old.val() * (1.0 - MOMENTUM) + new.val() * MOMENTUM;
        Self::from_moments(step(&self.mean, &new.mean), step(&self.variance, &new.variance))
    }

    /// The moments of parts of as many examples each: exact if those of the parts are.
    ///
    /// # Panics
    /// If there is no part, or the counts are not as many as the parts or are all zero.
    ///
    /// # Source
    /// Chan, Golub and `LeVeque` 1983, "Algorithms for computing the sample variance", equation 1.5b, in `f64`.
    pub fn merge(parts: &[Self], counts: &[usize]) -> Self {
        assert_eq!(parts.len(), counts.len(), "one count for each part of the statistics");
        let (first, shape) = (parts.first().expect("at least one part"), parts[0].mean.dims());
        let values = |moment: &Param<Tensor<3>>| moment.val().into_data().iter::<f64>().collect::<Vec<_>>();
        let mut merged = vec![[0.0; 2]; shape.iter().product()];
        let mut seen = 0.0;
        for (part, &count) in parts.iter().zip(counts).filter(|(_, count)| **count > 0) {
            let count = count as f64;
            let share = count / (seen + count);
            for ((merged, mean), variance) in merged.iter_mut().zip(values(&part.mean)).zip(values(&part.variance)) {
                let apart = mean - merged[0];
                merged[1] += share * (variance - merged[1] + (1.0 - share) * apart * apart);
                merged[0] += share * apart;
            }
            seen += count;
        }
        assert!(seen > 0.0, "moments of no example");
        let device = first.mean.device();
        let moment = |index: usize| {
            let values = merged.iter().map(|moments| moments[index]).collect::<Vec<f64>>();
            Tensor::from_data(TensorData::new(values, shape), (&device, first.mean.dtype()))
        };
        Self::from_moments(moment(0), moment(1))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn latents(values: &[f64]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1, 1, 1]), &Device::default())
    }

    fn moments(statistics: &LatentStatistics) -> [f64; 2] {
        [&statistics.mean, &statistics.variance].map(|moment| moment.val().into_scalar::<f64>())
    }

    /// 4095.5 and 4096.5: the mean of squares in `f32` has steps of 1, four times the variance.
    #[test]
    fn far_from_zero_the_variance_stays() {
        let pair = LatentStatistics::of(latents(&[4095.5, 4096.5]));
        assert_eq!(moments(&LatentStatistics::merge(&[pair.clone(), pair.clone()], &[2, 2])), [4096.0, 0.25]);
        assert_eq!(moments(&LatentStatistics::merge(&[pair], &[2])), [4096.0, 0.25]);
        // A sum of 3 · 10⁴ such numbers has steps of 8.
        let many: Vec<f64> = (0..30_000).map(|index| 4095.5 + f64::from(index % 2)).collect();
        let [mean, variance] = moments(&LatentStatistics::of(latents(&many)));
        assert!((mean - 4096.0).abs() < 1e-3 && (variance - 0.25).abs() < 1e-6, "{mean} {variance}");
    }

    /// `numpy.mean` and `numpy.var` of 1, 2, 3, 10, 20.
    #[test]
    fn parts_of_different_sizes_count_by_their_examples() {
        let parts = [latents(&[1.0, 2.0, 3.0]), latents(&[10.0]), latents(&[20.0])].map(LatentStatistics::of);
        let [mean, variance] = moments(&LatentStatistics::merge(&parts, &[3, 1, 1]));
        assert!((mean - 7.2).abs() < 1e-6 && (variance - 50.96).abs() < 1e-4, "{mean} {variance}");
    }
}
