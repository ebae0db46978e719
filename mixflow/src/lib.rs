//! mixflow
pub mod flow;
pub mod guidance;
pub mod likelihood;
pub mod sampler;
pub mod solver;
