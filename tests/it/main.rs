//! Tests that cross crates, in one binary.

mod dit_dh;
mod inception;
mod lightning_dit;
mod full_disk;
mod mixflow;
mod optimizer;
mod rae_sampling;
mod repa;
mod repa_sampling;
mod rae_stage1;
mod resume;
mod sampling;
mod sit;
mod vae;
