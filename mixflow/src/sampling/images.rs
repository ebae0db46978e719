//! Generated images, as numbers.

use serde::{Deserialize, Serialize};

use crate::data::Quantize;

/// Generated images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    /// `[count, channels, height, width]`, in [−1, 1] unless the network leaves it.
    pub pixels: Vec<f32>,
    /// Their shape.
    pub shape: [usize; 4],
    /// Network evaluations for each image; a guided step counts both networks. With an adaptive solver, of the batch that
    /// took most.
    pub evaluations: usize,
    /// How their numbers become bytes.
    pub rounding: Rounding,
}

/// How numbers of images become bytes, in arrays and single pictures and for networks that see bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest, as SiT and DiT do: [`Quantize::Sit`].
    #[default]
    Nearest,
    /// To the one below, as REPA and RAE do: [`Quantize::Repa`].
    Floor,
}

impl Rounding {
    /// The byte of a number in [−1, 1]; beyond, it is clamped.
    pub fn byte(self, x: f32) -> u8 {
        match self {
            Self::Nearest => Quantize::Sit.byte(x),
            Self::Floor => Quantize::Repa.byte(x),
        }
    }

    pub(crate) fn is_nearest(&self) -> bool {
        *self == Self::Nearest
    }
}
