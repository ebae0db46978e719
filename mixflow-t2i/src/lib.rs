//! Text to image: networks that are told a prompt, and the encoders that read it.
//!
//! A prompt reaches a network as a [`TextEmbedding`], a [`Condition`](mixflow::backbones::Condition) as class labels are
//! one, so that objectives, MixFlow, solvers and guidance know nothing of text.

pub mod embedding;
pub mod error;
mod folder;
pub mod mmdit;
mod pipeline;
pub mod prompts;
pub mod recipe;
mod sampling;
pub mod selftest;
pub mod text;
pub mod words;

pub use embedding::TextEmbedding;
pub use error::Error;
pub use folder::from_diffusers;
pub use mmdit::{MmDit, MmDitConfig};
pub use pipeline::TextPipeline;
pub use recipe::{TextNetworkConfig, TextRecipe};
pub use sampling::{SkipLayers, TextSampling};
pub use text::TextEncoder;
pub use words::Words;
