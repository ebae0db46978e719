//! Tests that cross crates, in one binary.

mod inception;
mod mixflow;
mod optimizer;
mod repa;
mod repa_sampling;
mod resume;
mod sampling;
mod sit;
