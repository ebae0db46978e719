//! How good a network is: what it makes, and measures of it.

mod decoded;
mod evaluate;
mod generator;
mod image_set;
pub mod inception;
mod measures;
pub mod metric;
mod part;
pub mod scenes;
pub mod slow_flow;
mod validation;

pub use decoded::{Decoder, decoder};
pub(crate) use evaluate::reference_size;
pub use evaluate::{
    Evaluation, Measuring, class_counts, evaluate, evaluate_features, evaluated_labels, evaluation_pairs,
};
pub use generator::{Batches, Generator, Visit, Visited, Weaker};
pub use image_set::ImageSet;
pub(crate) use measures::{Against, are_pixels, pixels};
pub use measures::{Best, ImageFeatures, Measure, Measured, Measures, Pixels};
pub use validation::ValidationImages;
