//! The parts of a transformer block.

mod ada_ln;
mod attention;
mod head_norm;
mod mlp;
mod modulated_norm;
mod perceptron;
mod projection;
mod recompute;
mod rms_norm;

pub use ada_ln::{AdaLnBlock, FinalLayer, chunks};
pub use attention::{Attention, SplitAttention};
pub use head_norm::HeadNorm;
pub use mlp::{FeedForward, Gelu, Mlp};
pub use modulated_norm::{ModulatedNorm, NormKind};
pub use perceptron::{Perceptron, PerceptronKind, SplitSwiGlu, SwiGlu};
pub use projection::{Projection, SplitProjection};
pub use recompute::recompute;
pub use rms_norm::RmsNorm;
