#![doc = include_str!("../README.md")]
//!
//! # Time
//!
//! Everything here speaks *paper time* `t`, the convention of the MixFlow paper and of SiT:
//!
//! ```text
//!            noise                                              data
//! paper time   0 ───────────── m ◄─── slowed by γ ─── t ────────── 1     sampling runs to the right
//!                              │                      │
//!                    input α_m x + σ_m ε       label told to the network
//!
//! label        0 ───────────────────────────────────────────────── 1     Linear, Cosine, VP       (SiT)
//!              1 ───────────────────────────────────────────────── 0     Reversed<…>   (REPA, RAE, SD3)
//!          0.999 ──────────────────────────────────────────────── 0     Ddpm, step / 1000          (DiT)
//! ```
//!
//! Only a [`Schedule`] knows how a network labels its times: [`Coefficients::time`] is that label, and the derivatives, so the velocity, are
//! taken with respect to it. Nothing else has a direction: [`TimestepSampler`]s, [`TimeGrid`]s and [`Interval`]s are the same for every network.
//!
//! # Parts
//!
//! - [`Schedule`]: the path `x_t = α x + σ ε` ([`Linear`], [`Cosine`], [`VariancePreserving`], [`Ddpm`], [`Reversed`], from
//!   [`Scaled`] noise), its [`Sde`], the [`Diffusion`] of a stochastic sampler, and the [`Posterior`] of a denoising step.
//! - [`Prediction`]: what the network outputs, the training target, all conversions, and the loss [`Weighting`].
//! - [`TimestepSampler`]: the times `(t, m)` of a training example. A [`TimeLaw`] ([`Uniform`], [`Beta`], [`LogitNormal`], [`Shifted`],
//!   [`Truncated`], [`Angular`]) gives `m = t`; [`MixFlow`] slows any law, [`Independent`] draws `m` apart.
//! - [`TimeGrid`] and [`interval`]: the times of a sampler, and the ends that a network must keep away from.
//! - [`ScheduleConfig`] and [`TimestepConfig`]: the same as they stand in a recipe.

mod angular;
mod beta;
mod config;
mod cosine;
mod ddpm;
mod diffusion;
mod error;
mod grid;
mod independent;
mod interval;
mod law;
mod linear;
mod logit_normal;
mod mixflow;
mod posterior;
mod prediction;
mod scaled;
mod schedule;
mod sde;
mod shifted;
pub mod testing;
mod timestep;
mod truncated;
mod vp;
mod weighting;

pub use angular::Angular;
pub use beta::Beta;
pub use config::{LawConfig, ScheduleConfig, TimestepConfig};
pub use cosine::Cosine;
pub use ddpm::Ddpm;
pub use diffusion::Diffusion;
pub use error::Error;
pub use grid::TimeGrid;
pub use independent::Independent;
pub use interval::{Interval, PublishedCode, Use, interval};
pub use law::{TimeLaw, Uniform};
pub use linear::Linear;
pub use logit_normal::LogitNormal;
pub use mixflow::MixFlow;
pub use posterior::Posterior;
pub use prediction::{Affine, Prediction};
pub use scaled::{Scaled, noise_scale};
pub use schedule::{Coefficients, Reversed, Schedule, same_path, time_between};
pub use sde::Sde;
pub use shifted::{Shift, Shifted, TokenShift};
pub use timestep::{Timestep, TimestepSampler};
pub use truncated::Truncated;
pub use vp::VariancePreserving;
pub use weighting::Weighting;

/// Property tests draw the same cases in every run.
#[cfg(test)]
fn seeded() -> proptest::test_runner::Config {
    let rng_seed = proptest::test_runner::RngSeed::Fixed(0);
    proptest::test_runner::Config { rng_seed, failure_persistence: None, ..Default::default() }
}
