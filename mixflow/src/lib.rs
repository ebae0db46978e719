//! mixflow

pub mod random;
