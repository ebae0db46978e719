//! Text to image: networks that are told a prompt, and the encoders that read it.
//!
//! A prompt reaches a network as a [`TextEmbedding`], a [`Condition`](mixflow::backbones::Condition) as class labels are
//! one, so that objectives, MixFlow, solvers and guidance know nothing of text.

pub mod embedding;
pub mod mmdit;

pub use embedding::TextEmbedding;
pub use mmdit::{MmDit, MmDitConfig};
