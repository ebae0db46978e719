//! From noise to images: the flow of a network, guided, carried by a solver along a grid of times;
//! then written as files, or given a likelihood.

pub mod correction;
mod export;
mod flow;
mod guidance;
mod images;
mod likelihood;
mod parts;
mod sampler;
mod skip_layers;
pub mod solver;
mod step;

pub use export::Export;
pub(crate) use flow::Times;
pub use flow::{Flow, TakenStep, VelocityMap};
pub use guidance::Guidance;
pub use images::{Images, Rounding};
pub use likelihood::{Likelihood, log_likelihood};
pub use sampler::{Sampler, Samples, SolverConfig};
pub use skip_layers::SkipLayers;
