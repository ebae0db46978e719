//! Paths, timestep laws and MixFlow for flow matching: scalar `f64` functions, without tensors and without I/O.

mod beta;
mod cosine;
mod diffusion;
mod error;
mod grid;
mod interval;
mod law;
mod linear;
mod logit_normal;
mod mixflow;
mod prediction;
mod schedule;
mod shifted;
mod timestep;
mod truncated;
mod vp;
mod weighting;

pub use beta::Beta;
pub use cosine::Cosine;
pub use diffusion::Diffusion;
pub use error::Error;
pub use grid::TimeGrid;
pub use interval::{Interval, Reference, Use, interval};
pub use law::{TimeLaw, Uniform};
pub use linear::Linear;
pub use logit_normal::LogitNormal;
pub use mixflow::MixFlow;
pub use prediction::{Affine, Prediction};
pub use schedule::{Coefficients, Reversed, Schedule, Sde};
pub use shifted::Shifted;
pub use timestep::{Timestep, TimestepSampler};
pub use truncated::Truncated;
pub use vp::VariancePreserving;
pub use weighting::Weighting;
