//! Distances between sets of images, computed on their feature vectors in f64.
//!
//! [`measure`] returns all numbers of a generated set with the real-against-real floor beside them; the functions it is
//! made of are public too. Nothing here knows where [`Features`] come from, and only those of Inception make a Fréchet
//! distance an FID.
//!
//! Every number is a function of its arguments: neither the batches in which features arrive nor the number of threads
//! change a bit of it, and the order of rows changes rounding only.
//!
//! ```
//! use mixflow::evaluation::metric::{Features, MeasureOptions, measure};
//!
//! let set = |shift: f64| Features::new(8, 2, (0..16).map(|i| (f64::from(i) * 1.7 + shift).sin()).collect());
//! let measured = measure(&set(0.0)?, &set(0.1)?, &set(2.0)?, MeasureOptions::default())?;
//! assert!(measured.generated.frechet > measured.floor.frechet);
//! assert!(measured.sizes_match());
//! # Ok::<(), mixflow::evaluation::metric::Error>(())
//! ```

mod density_coverage;
mod distances;
mod features;
#[cfg(test)]
pub(crate) mod fixture;
mod floor;
mod frechet;
mod gaussian;
mod inception_score;
mod kernel;
mod pairs;
mod precision_recall;
mod sliced;
mod spatial;
mod spread;
mod variance;

pub use crate::error::metric::Error;
pub use density_coverage::{DensityCoverage, density_coverage};
pub use features::Features;
pub use floor::{MeasureOptions, Measurement, Reference, Scores, measure};
pub use frechet::{FrechetReference, frechet_distance};
pub use gaussian::{Gaussian, GaussianAccumulator};
pub use inception_score::inception_score;
pub use kernel::{Subset, kernel_distance, kernel_distance_subsets};
pub use precision_recall::{Manifold, PrecisionRecall, precision_recall};
pub use sliced::Slices;
pub use spatial::spatial_features;
pub use spread::Spread;
pub use variance::variance_ratio;
