//! Images, times, labels and positions as vectors.

mod fourier;
mod label;
mod patch;
mod position;
mod rotary;
mod timestep;

pub use fourier::FourierEmbedding;
pub use label::{LabelEmbedding, LabelTable};
pub use patch::{PatchEmbedding, patchify, patchify_pixels, unpatchify, unpatchify_planes};
pub use position::{sin_cos_2d, sin_cos_2d_on, sin_cos_2d_spaced};
pub use rotary::{Axis, RotaryTable, Rotation};
pub use timestep::{TimestepEmbedding, sinusoidal};

pub use crate::keys::LABEL_TABLE;
