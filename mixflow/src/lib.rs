//! mixflow

pub mod metric;
pub mod slow_flow;
