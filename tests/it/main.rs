//! Tests that cross crates, in one binary.

mod mixflow;
mod optimizer;
mod resume;
mod sampling;
mod sit;
