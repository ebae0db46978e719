//! The text encoders of Stable Diffusion 3.

mod attention;
mod clip;
mod clip_config;
mod config;
mod t5;
mod t5_config;

pub use clip::{Clip, ClipBlock, ClipOutput, official_key as clip_key};
pub use clip_config::{Activation, ClipConfig};
pub use t5::{T5, T5Block, official_key as t5_key};
pub use t5_config::{FeedForward, T5Config};
