//! mixflow
pub mod report;
