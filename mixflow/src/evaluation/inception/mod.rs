//! The numbers of papers: FID, sFID, Inception Score, precision, recall and KID, as the evaluator of guided-diffusion
//! computes them, in f64.
//!
//! Either side is an [`InceptionSet`]: a folder of images, an `.npz` of images, or a reference batch whose statistics were
//! computed by others. The result does not depend on how images are cut into batches: the network always sees the same
//! number of them, cut by their place in the set.

mod evaluation;
mod features;
mod set;
mod statistics;

pub use evaluation::{
    EvaluationOptions, InceptionEvaluation, InceptionNetwork, Kid, Set, Setting, evaluate, evaluation_pairs,
};
pub use features::{InceptionFeatures, PoolFeatures, features};
pub use mixflow_backbones::inception::{Inception, PUBLISHED_SHA256, Resize};
pub use set::InceptionSet;
pub use statistics::Statistics;
