//! DCW (arXiv 2604.16044): after each step a state is moved along its difference from the predicted data, by frequency.

use burn::prelude::*;
use mixflow_backbones::Invalid;
use serde::{Deserialize, Serialize};

use super::Correction;
use crate::sampling::{Flow, TakenStep};

/// `x ← x + w (x − x̂)` after each step, with the data `x̂` that its first evaluation predicted: by one weight in the low band
/// of one level of Haar wavelets, and by another in the three high bands.
///
/// Positive numbers lead away from the prediction, back towards noise. Authors look at about 0.005 and search the low band
/// first; their released scheduler for flows has it switched off. With equal numbers and constant [`weights`](Self::weights)
/// this is their form on pixels.
///
/// # Source
/// The formulas of `AMAP-ML/DCW` at ce34542, whose code is not free to use and is not used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dcw {
    /// Of the low band: means of 2 × 2 numbers.
    #[serde(default)]
    pub low: f64,
    /// Of the high bands: what is left.
    #[serde(default)]
    pub high: f64,
    /// How both numbers become weights.
    #[serde(default)]
    pub weights: Weights,
}

/// How the numbers of a [`Dcw`] become the weights of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// `low σ / σ_max` and `high (1 − σ / σ_max)`, of the noise where the step began.
    #[default]
    Noise,
    /// The numbers themselves.
    Constant,
}

impl Dcw {
    pub(super) fn check(&self, [_, height, width]: [usize; 3]) -> Result<(), Invalid> {
        for (key, value) in [("low", self.low), ("high", self.high)] {
            if !value.is_finite() {
                return Err(Invalid::new(key, format!("must be a number, found {value}")));
            }
        }
        if height % 2 == 1 || width % 2 == 1 {
            let reason =
                format!("takes means of 2 × 2 numbers: height and width must be even, found {height} and {width}");
            return Err(Invalid::new("kind", reason));
        }
        Ok(())
    }
}

impl Correction for Dcw {
    fn correct<'a>(&self, flow: Flow<'a>) -> Flow<'a> {
        let (Self { low, high, weights }, schedule) = (*self, flow.schedule());
        flow.finished(move |TakenStep { step, to, data, .. }| {
            let noise = schedule.at(step.from).sigma / schedule.at(0.0).sigma;
            let [low, high] = match weights {
                Weights::Noise => [low * noise, high * (1.0 - noise)],
                Weights::Constant => [low, high],
            };
            let away = to.clone() - data;
            if low == high {
                return to + away * low;
            }
            to + away.clone() * high + means(away) * (low - high)
        })
    }
}

/// Every number as the mean of its block of 2 × 2: the low band of orthonormal Haar wavelets.
fn means(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let blocks: Tensor<6> = x.reshape([batch, channels, height / 2, 2, width / 2, 2]);
    let shape = blocks.dims();
    blocks.mean_dim(3).mean_dim(5).expand(shape).reshape([batch, channels, height, width])
}
