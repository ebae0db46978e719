//! The parts of a transformer block.

mod attention;
mod head_norm;
mod lightning;
mod mlp;
mod modulated_norm;
mod perceptron;
mod rotary_attention;

pub use attention::Attention;
pub use head_norm::HeadNorm;
pub use lightning::{LightningBlock, LightningFinalLayer};
pub use mlp::Mlp;
pub use modulated_norm::{ModulatedNorm, NormKind};
pub use perceptron::{Perceptron, PerceptronKind, SwiGlu};
pub use rotary_attention::RotaryAttention;
