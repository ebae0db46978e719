//! Noise beside the noise of a training input: Input Perturbation (Ning et al. 2023, arXiv 2301.11706) and off-path noise.

use std::fmt::{self, Display, Formatter};

use burn::tensor::Tensor;
use mixflow_backbones::Invalid;
use mixflow_schedules::Timestep;
use serde::{Deserialize, Serialize};

/// What is added to the noise `ε` of a training input, so that a network learns what to do with states beside the path. The
/// standard normal `ξ` is drawn besides, so that times, noise and dropped conditions stay as they are without.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Perturbation {
    /// Input Perturbation: the input has `ε + gamma ξ`, the target `ε` alone.
    ///
    /// # Source
    /// `forever208/DDPM-IP` at 1f76719, `gaussian_diffusion.py`, with `gamma = 0.1`.
    Input {
        /// Share of the noise that is added, above 0.
        gamma: f64,
    },
    /// Off-path perturbation: input and target have `ε + strength m ξ` at the input's time `m`. Both ends of the path stay,
    /// and on the straight path the target still leads to the data. Not published; it perturbs without MixFlow's contraction.
    OffPath {
        /// Share of the noise that is added as time runs to data, above 0.
        strength: f64,
    },
}

/// In words, with its number.
impl Display for Perturbation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { gamma } => write!(f, "Input Perturbation ({gamma})"),
            Self::OffPath { strength } => write!(f, "off the path ({strength})"),
        }
    }
}

impl Perturbation {
    /// The noise of the input and that of the target.
    ///
    /// # Shapes
    /// - noise and more: `[batch, channels, height, width]`; times: `batch`
    pub fn of(&self, noise: Tensor<4>, more: Tensor<4>, times: &[Timestep]) -> [Tensor<4>; 2] {
        match *self {
            Self::Input { gamma } => [noise.clone() + more * gamma, noise],
            Self::OffPath { strength } => {
                let shares: Vec<f64> = times.iter().map(|times| strength * times.m).collect();
                let shares = Tensor::<1>::from_data(shares.as_slice(), (&noise.device(), noise.dtype()));
                let noise = noise + more * shares.reshape([-1, 1, 1, 1]);
                [noise.clone(), noise]
            }
        }
    }

    /// What is wrong with its number, if anything.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let (Self::Input { gamma: value } | Self::OffPath { strength: value }) = *self;
        let key = if matches!(self, Self::Input { .. }) { "gamma" } else { "strength" };
        if value.is_finite() && value > 0.0 {
            return Ok(());
        }
        Err(Invalid::new(key, format!("must be a number above 0, found {value}")))
    }
}
