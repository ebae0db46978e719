//! Noise prediction with a learned variance.

use std::f64::consts::{FRAC_2_PI, LN_2};

use burn::tensor::Tensor;
use mixflow_backbones::Backbone;
use mixflow_schedules::{Ddpm, Posterior, Prediction, Schedule, Timestep};

use crate::objective::dropout::drop_conditions;
use crate::objective::flow_matching::noise;
use crate::objective::{Batch, FlowMatching, Loss, Objective};
use crate::random::{self, Stream};

/// The hybrid loss of improved DDPM, ADM and DiT: regression of the noise, and the bound on the likelihood as a loss of the
/// learned variance alone, on the steps of [`Ddpm`].
///
/// For backbones that [say a variance](Backbone::forward_with_variance).
///
/// # Source
/// Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 16 with `λ = 0.001`: of a thousand steps, one is drawn and counts
/// once. Data are taken as images in [−1, 1] of 256 levels, latents too, as ADM and DiT do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hybrid {
    /// Probability that an example's condition is replaced by the null condition, in [0, 1].
    pub condition_dropout: f64,
}

/// Both parts of the loss of every example, `[batch]`.
#[derive(Clone, Debug)]
pub struct HybridLosses {
    /// Squared error of the noise, mean over the numbers of an image.
    pub noise: Tensor<1>,
    /// The term of the bound, in bits for each number of an image.
    pub bound: Tensor<1>,
}

impl Hybrid {
    /// The losses at given noise and steps.
    ///
    /// # Shapes
    /// - images and noise: `[batch, channels, height, width]`; steps: `batch`, each below 1000
    ///
    /// # Panics
    /// If the backbone says no variance, a step is 1000 or more, or there are more or fewer steps than images.
    pub fn losses<B: Backbone>(
        &self,
        backbone: &B,
        images: Tensor<4>,
        condition: B::Condition,
        noise: Tensor<4>,
        steps: &[usize],
    ) -> HybridLosses {
        let at = |&step: &usize| Ddpm::time(step);
        let times: Vec<Timestep> = steps.iter().map(at).map(|t| Timestep { t, m: t }).collect();
        let path = FlowMatching { prediction: Prediction::Noise, ..FlowMatching::new(Ddpm) };
        let noised = path.noised(images.clone(), noise, &times);
        let (predicted, fraction) = backbone.forward_with_variance(noised.x, noised.time, condition);
        let fraction = fraction.expect("the hybrid loss is for networks that learn a variance");
        let error = predicted - noised.target;
        let bound = bound(error.clone().detach(), fraction, images, steps);
        HybridLosses { noise: mean(error.square()), bound }
    }
}

/// The term of the bound at each step, in bits, for an error of the noise: the divergence of the drawn step from the true
/// one; of the last step, the likelihood of the data's 256 levels.
fn bound(error: Tensor<4>, fraction: Tensor<4>, images: Tensor<4>, steps: &[usize]) -> Tensor<1> {
    let (device, dtype) = (error.device(), error.dtype());
    let between = |step: usize| {
        let to = step.checked_sub(1).map_or(1.0, Ddpm::time);
        Posterior::between(&Ddpm.at(Ddpm::time(step)), &Ddpm.at(to))
    };
    let column = |value: &dyn Fn(usize) -> f64| {
        let values: Vec<f64> = steps.iter().map(|&step| value(step)).collect();
        Tensor::<1>::from_data(values.as_slice(), (&device, dtype)).reshape([-1, 1, 1, 1])
    };
    // The true variance of the last step is 0: that of the one before stands for it.
    let least = |step: usize| between(step.max(1)).variance.ln();
    let above = fraction * column(&|step| between(step).added.ln() - least(step)); // log variance over the least one
    let log_variance = above.clone() + column(&least);
    // Too much noise e is too little data, σ/α e: by so much the true mean is above the one that was said.
    let mean_error = error
        * column(&|step| {
            let at = Ddpm.at(Ddpm::time(step));
            between(step).data * at.sigma / at.alpha
        });
    let squared = mean_error.clone().square() * log_variance.clone().neg().exp();
    let divergence = mean((above.clone() + above.neg().exp() + squared - 1.0) / (2.0 * LN_2));
    if !steps.contains(&0) {
        return divergence;
    }
    let last: Vec<bool> = steps.iter().map(|&step| step == 0).collect();
    let bits = mean(levels(mean_error, log_variance, images) / -LN_2);
    divergence.mask_where(Tensor::from_data(last.as_slice(), &device), bits)
}

/// Log probability that a normal distribution has of the level, 2/255 wide, that a number is in. `error` is the number
/// less the mean.
///
/// # Source
/// Ho et al. 2020 (arXiv 2006.11239), equation 13; the normal distribution function approximated by a tangent, both outer
/// levels taken from 0.999 on and probabilities kept above 1e-12, as `openai/guided-diffusion` does (`losses.py`).
fn levels(error: Tensor<4>, log_variance: Tensor<4>, images: Tensor<4>) -> Tensor<4> {
    let scale = (log_variance * -0.5).exp();
    let below = |edge: f64| {
        let z = (error.clone() + edge) * scale.clone();
        ((z.clone() + z.powi_scalar(3) * 0.044_715) * FRAC_2_PI.sqrt()).tanh() / 2.0 + 0.5
    };
    let (upper, lower) = (below(1.0 / 255.0), below(-1.0 / 255.0));
    let inner = upper.clone() - lower.clone();
    let inner = inner.mask_where(images.clone().lower_elem(-0.999), upper);
    inner.mask_where(images.greater_elem(0.999), lower.neg() + 1.0).clamp_min(1e-12).log()
}

/// Over the numbers of every image.
fn mean(values: Tensor<4>) -> Tensor<1> {
    values.flatten::<2>(1, 3).mean_dim(1).reshape([-1])
}

impl<B: Backbone> Objective<B> for Hybrid {
    fn loss(&self, backbone: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        let Batch { images, condition, first, .. } = batch.unmasked("the hybrid loss");
        let step = |position| random::uniform(&mut random::rng(seed, Stream::Times, position)) * Ddpm::STEPS as f64;
        let steps: Vec<usize> = (first..).take(images.dims()[0]).map(|position| step(position) as usize).collect();
        let noise = noise(seed, Stream::Noise, first, images.dims(), &images.device());
        let condition = drop_conditions(
            condition,
            self.condition_dropout,
            first..first + steps.len() as u64,
            seed,
            &images.device(),
        );
        let losses = self.losses(backbone, images, condition, noise, &steps);
        let [noise, bound] = [losses.noise, losses.bound].map(Tensor::mean);
        Loss::from(noise.clone() + bound.clone()).with("noise", noise).with("bound", bound)
    }
}
