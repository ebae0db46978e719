//! mixflow-backbones

pub mod ops;
