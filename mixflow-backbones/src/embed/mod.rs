//! Images, times, labels and positions as vectors.

mod fourier;
mod label;
mod patch;
mod position;
mod rotary;
mod timestep;

pub use fourier::FourierEmbedding;
pub use label::{LABEL_TABLE, LabelEmbedding, LabelTable};
pub use patch::{PatchEmbedding, unpatchify};
pub use position::{sin_cos_2d, sin_cos_2d_spaced};
pub use rotary::RotaryTable;
pub use timestep::{TimestepEmbedding, sinusoidal};
