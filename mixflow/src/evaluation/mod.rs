//! How good a network is: what it makes, and measures of it.

mod decoded;
mod evaluate;
mod generator;
mod image_set;
pub mod inception;
pub mod metric;
pub mod slow_flow;

pub use evaluate::{
    Evaluation, Measuring, class_counts, decoder, evaluate, evaluate_features, evaluation_pairs, reached,
};
pub(crate) use evaluate::{features, reference_size};
pub use generator::{Generator, Visit, Weaker};
pub use image_set::ImageSet;
