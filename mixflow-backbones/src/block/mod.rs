//! The parts of a transformer block.

mod attention;
mod mlp;

pub use attention::Attention;
pub use mlp::Mlp;
