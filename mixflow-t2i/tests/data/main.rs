//! Trainings on captioned images as they come.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod buckets;
mod captions;
mod masks;
mod measured;
mod prior;
mod runs;
