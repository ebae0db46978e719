#![doc = include_str!("../README.md")]

pub mod clip_score;
pub mod embedding;
pub mod error;
pub mod evaluator;
mod export;
pub mod flux;
mod folder;
pub mod mmdit;
pub mod mmjit;
mod pipeline;
pub mod prompts;
pub mod recipe;
mod rows;
mod sampling;
pub mod selftest;
mod shape;
pub mod text;
pub mod transformer;
pub mod words;

pub use clip_score::{ClipScore, ClipScores};
pub use embedding::TextEmbedding;
pub use error::Error;
pub use evaluator::Evaluator;
pub use export::to_diffusers;
pub use flux::{Flux, FluxConfig};
pub use folder::from_diffusers;
pub use mixflow::sampling::SkipLayers;
pub use mmdit::{MmDit, MmDitConfig};
pub use mmjit::{MmJit, MmJitConfig};
pub use pipeline::TextPipeline;
pub use recipe::{TextNetworkConfig, TextRecipe};
pub use sampling::TextSampling;
pub use text::TextEncoder;
pub use transformer::{Transformer, TransformerConfig};
pub use words::Words;
