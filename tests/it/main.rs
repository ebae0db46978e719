//! Tests that cross crates, in one binary.

mod optimizer;
mod sit;
