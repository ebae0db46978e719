//! The parts of a transformer block.

mod attention;
mod mlp;

pub use attention::{Attention, HeadNorm};
pub use mlp::Mlp;
