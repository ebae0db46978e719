//! Tests that cross crates, in one binary.

mod mixflow;
mod optimizer;
mod repa;
mod repa_sampling;
mod resume;
mod sampling;
mod sit;
