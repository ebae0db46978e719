//! Train, sample and measure flow-matching image models.

pub mod random;
