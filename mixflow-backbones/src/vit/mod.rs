//! The plain vision transformer: what pretrained encoders and RAE's decoder are made of.
//!
//! One block for all of them; they differ in an activation, in a scale of the branches and in the names that their
//! files give to parameters.

mod block;
mod norm;
mod position;

pub use block::{VitBlock, VitBlockConfig};
pub use norm::LayerNorm;
pub use position::resize_positions;
