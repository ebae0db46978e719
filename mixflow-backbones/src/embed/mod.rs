//! Images, times, labels and positions as vectors.

mod label;
mod patch;
mod position;
mod timestep;

pub use label::{LabelEmbedding, Table};
pub use patch::{PatchEmbedding, PatchProjection, unpatchify};
pub use position::sin_cos_2d;
pub use timestep::{TimestepEmbedding, sinusoidal};
