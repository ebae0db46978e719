//! The parts of a transformer block.

mod attention;
mod head_norm;
mod lightning;
mod mlp;
mod modulated_norm;
mod perceptron;
mod projection;

pub use attention::{Attention, SplitAttention};
pub use head_norm::HeadNorm;
pub use lightning::{LightningBlock, LightningFinalLayer};
pub use mlp::{Gelu, Mlp};
pub use modulated_norm::{ModulatedNorm, NormKind};
pub use perceptron::{Perceptron, PerceptronKind, SwiGlu};
pub use projection::{Projection, SplitProjection};
