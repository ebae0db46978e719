//! Train, sample and measure flow-matching image models.

pub mod flow;
pub mod guidance;
pub mod likelihood;
pub mod random;
pub mod sampler;
pub mod solver;
