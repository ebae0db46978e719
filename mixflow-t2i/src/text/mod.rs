//! The text encoders of Stable Diffusion 3, and their tokenizers.

mod attention;
mod clip;
mod clip_config;
mod clip_vocabulary;
mod config;
mod t5;
mod t5_config;
mod tokenizer;

pub use clip::{Clip, ClipBlock, ClipOutput, official_key as clip_key};
pub use clip_config::{Activation, ClipConfig};
pub use t5::{T5, T5Block, official_key as t5_key};
pub use t5_config::{FeedForward, T5Config};
pub use tokenizer::{Tokenizer, Tokens};
