//! Representation alignment: flow matching that also brings inner tokens close to the features of frozen encoders.

use std::fmt::Debug;

use burn::tensor::Tensor;
use mixflow_backbones::{Aligned, AlignedBackbone};
use mixflow_schedules::{Schedule, TimestepSampler};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::objective::{Batch, FlowMatching, Loss, Noised, Objective};

/// The loss of [`FlowMatching`] plus `weight` times the distance of a network's projections from the features of the
/// clean images, [`Batch::features`].
///
/// One evaluation of the network serves both. Under MixFlow only the law of times differs:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use mixflow::backbones::{ClassLabels, repa::RepaConfig};
/// use mixflow::schedules::{Linear, MixFlow, Reversed};
/// use mixflow::train::{OptimizerConfig, TrainState};
/// use mixflow::{Alignment, Batch, FlowMatching};
///
/// let device = Device::default().autodiff();
/// let tiny = RepaConfig { width: 32, depth: 2, heads: 2, hidden: 64, encoder_depth: 1, ..RepaConfig::base(8) };
/// let network = RepaConfig { projectors: vec![12], projector_hidden: 16, ..tiny }.init(0, &device);
/// let objective = Alignment {
///     objective: FlowMatching::new(Reversed(Linear)).timesteps(MixFlow::new(0.8)),
///     weight: 0.5,
/// };
/// let latents = Tensor::ones([2, 4, 32, 32], &device);
/// let features = Tensor::ones([2, 16, 12], &device); // of a frozen encoder, for the 4 x 4 tokens of an image
/// let batch = Batch::new(latents, ClassLabels::new(&[3, 1], 1000, &device), 0).with_features(vec![features]);
/// let (state, report) = TrainState::new(network).step(&objective, [batch], 0, &OptimizerConfig::default());
/// assert!(report.finite);
/// ```
///
/// # Source
/// Yu et al. 2024 (arXiv 2410.06940), section 3; `SILoss` of `sihyun-yu/REPA`, loss.py, 67f7145.
#[derive(Clone, Copy, Debug)]
pub struct Alignment<O = FlowMatching> {
    /// The flow matching.
    pub objective: O,
    /// Factor of the projections' part, 0 or above; REPA takes 0.5.
    pub weight: f64,
}

/// Frozen encoders whose features a network is aligned with.
pub trait TargetEncoder: Debug + Sync {
    /// Features of clean images, one tensor an encoder, without gradient.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, in [−1, 1]
    /// - output: `[batch, tokens, width]` each
    fn features(&self, images: Tensor<4>) -> Vec<Tensor<3>>;
}

/// Both parts of the loss of [`Alignment`].
#[derive(Clone, Debug)]
pub struct AlignmentLosses {
    /// The flow matching loss of every example, `[batch]`.
    pub denoising: Tensor<1>,
    /// The negative cosine of the angle between projection and feature, mean over tokens, examples and encoders: `[1]`,
    /// in [−1, 1].
    pub projection: Tensor<1>,
}

impl AlignmentLosses {
    /// The mean of the denoising losses plus `weight` times the projections' part; both are its terms.
    pub fn total(self, weight: f64) -> Loss {
        let (denoising, projection) = (self.denoising.mean(), self.projection);
        let total = denoising.clone() + projection.clone() * weight;
        Loss::from(total).with("denoising", denoising).with("projection", projection)
    }
}

impl<S: Schedule, T: TimestepSampler> Alignment<FlowMatching<S, T>> {
    /// Both parts of the loss of a batch, for logs; [`loss`](Objective::loss) is their weighted sum.
    ///
    /// # Panics
    /// Unless the batch has features, of the shapes of the network's projections.
    pub fn batch_losses<B: AlignedBackbone>(
        &self,
        backbone: &B,
        batch: Batch<B::Condition>,
        seed: u64,
    ) -> AlignmentLosses {
        let Batch { images, condition, first, features, .. } = batch.unmasked("alignment");
        let (noised, condition) = self.objective.draw(images, condition, first, seed);
        self.losses(backbone, noised, condition, &features)
    }

    /// Both parts of the loss of images that are noised already.
    ///
    /// # Shapes
    /// - features: `[batch, tokens, width]`, one tensor an encoder, in the order of the network's projections
    ///
    /// # Panics
    /// As [`batch_losses`](Self::batch_losses).
    pub fn losses<B: AlignedBackbone>(
        &self,
        backbone: &B,
        noised: Noised,
        condition: B::Condition,
        features: &[Tensor<3>],
    ) -> AlignmentLosses {
        let Aligned { output, projections } =
            backbone.forward_aligned(noised.x.clone(), noised.time.clone(), condition);
        let [given, wanted] = [features, &projections].map(|all| all.iter().map(|z| z.dims()).collect::<Vec<_>>());
        assert!(
            given == wanted && !given.is_empty(),
            "the batch has features of shapes {given:?}, the network projects to {wanted:?}"
        );
        let encoders = projections.len() as f64;
        let cosines = projections.into_iter().zip(features).map(|(z, feature)| cosine(z, feature.clone()));
        let sum = cosines.reduce(|sum, cosine| sum + cosine).expect("there is a projection");
        AlignmentLosses { denoising: noised.losses(output), projection: sum / -encoders }
    }
}

impl<B: AlignedBackbone, S: Schedule, T: TimestepSampler> Objective<B> for Alignment<FlowMatching<S, T>> {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        self.batch_losses(backbone, batch, seed).total(self.weight)
    }
}

/// The cosine of the angle between vectors, mean over all: `[batch, tokens, width]` to `[1]`. A vector of zeros has 0.
fn cosine(a: Tensor<3>, b: Tensor<3>) -> Tensor<1> {
    // At least 1e-12, as in PyTorch's `normalize`, with a bound below the root, where the gradient is finite.
    let norm = |x: Tensor<3>| x.square().sum_dim(2).clamp_min(1e-24).sqrt();
    // One division after the other: the square of the product would leave the numbers of f32.
    let dot = (a.clone() * b.clone()).sum_dim(2);
    (dot / norm(a) / norm(b)).mean()
}

/// [`Alignment`] in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlignmentConfig {
    /// Factor of the projections' part, finite and 0 or above; REPA takes 0.5.
    #[serde(default = "published", deserialize_with = "weight")]
    pub weight: f64,
}

impl AlignmentConfig {
    /// `objective` with the projections' part.
    pub fn wrap<O>(&self, objective: O) -> Alignment<O> {
        Alignment { objective, weight: self.weight }
    }
}

/// The weight of REPA.
impl Default for AlignmentConfig {
    fn default() -> Self {
        Self { weight: published() }
    }
}

fn published() -> f64 {
    0.5
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let weight = f64::deserialize(deserializer)?;
    if weight.is_finite() && weight >= 0.0 {
        Ok(weight)
    } else {
        Err(D::Error::custom(format!("`weight` must be a finite number, 0 or above, found {weight}")))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_cosine_knows_no_length() {
        let device = Device::default();
        let a = Tensor::<3>::from_data([[[3.0f32, 4.0], [0.0, 2.0]]], &device);
        let b = Tensor::<3>::from_data([[[30.0f32, 40.0], [5.0, 0.0]]], &device);
        // One pair is parallel, the other perpendicular.
        assert!((cosine(a, b).into_scalar::<f64>() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn vectors_of_zeros_have_a_gradient() {
        let device = Device::default().autodiff();
        let zeros = || Tensor::<3>::zeros([1, 1, 2], &device).require_grad();
        for other in [Tensor::zeros([1, 1, 2], &device), Tensor::ones([1, 1, 2], &device)] {
            let a = zeros();
            let gradients = cosine(a.clone(), other).backward();
            assert!(a.grad(&gradients).unwrap().into_data().iter::<f32>().all(f32::is_finite));
        }
    }

    #[test]
    fn recipes_are_checked() {
        let read = serde_json::from_str::<AlignmentConfig>;
        assert_eq!(read("{}").unwrap(), AlignmentConfig { weight: 0.5 });
        assert_eq!(read(r#"{"weight": 1.5}"#).unwrap().wrap(()).weight, 1.5);
        for (json, words) in [(r#"{"weight": -1}"#, "0 or above, found -1"), (r#"{"wait": 1}"#, "unknown field `wait`")]
        {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
