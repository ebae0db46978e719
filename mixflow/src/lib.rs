//! mixflow

pub mod metric;
