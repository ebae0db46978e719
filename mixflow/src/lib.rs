//! mixflow

pub mod data;
pub mod random;
