//! Paths, timestep laws and MixFlow for flow matching: scalar `f64` functions, without tensors and without I/O.

mod cosine;
mod error;
mod linear;
mod prediction;
mod schedule;
mod vp;

pub use cosine::Cosine;
pub use error::Error;
pub use linear::Linear;
pub use prediction::{Affine, Prediction};
pub use schedule::{Coefficients, Reversed, Schedule, Sde};
pub use vp::VariancePreserving;
