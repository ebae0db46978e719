//! Train, sample and measure flow-matching image models.

pub mod data;
pub mod metric;
pub mod random;
pub mod slow_flow;
