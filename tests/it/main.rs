//! Tests that cross crates, in one binary.

mod allocation;
mod decoder_recipe;
mod diffusion;
mod dit;
mod dit_dh;
mod documents;
mod encode;
mod encoder_weights;
mod full_disk;
mod fuzz;
mod inception;
mod lightning_dit;
mod loading;
mod mixflow;
mod names;
mod optimizer;
mod precision;
mod rae_sampling;
mod rae_stage1;
mod rae_training;
mod repa;
mod repa_sampling;
mod resume;
mod sampling;
mod sit;
mod vae;
