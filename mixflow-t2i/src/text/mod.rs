//! The text encoders of Stable Diffusion 3, of MiniT2I, of FLUX.1 and of Z-Image, and the place of others.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use mixflow_t2i::text::{TextEncoder, TextEncoders};
//!
//! # fn main() -> Result<(), mixflow_t2i::Error> {
//! let encoders = TextEncoders::from_folder("stable-diffusion-3.5-medium", &Device::default())?;
//! let prompts = ["a lighthouse at night", "two foxes under the moon"];
//! for cut in encoders.cuts(&prompts)? {
//!     eprintln!("{cut}");
//! }
//! let text = encoders.encode_against(&prompts, "")?;
//! # let _ = text;
//! # Ok(())
//! # }
//! ```

mod clip;
mod clip_config;
mod clip_vocabulary;
pub(crate) mod config;
mod cut;
mod encoder;
mod encoders;
mod flan_t5;
mod flux;
mod folder;
mod mask;
mod qwen3;
mod qwen3_config;
mod stream;
mod t5;
mod t5_config;
mod tokenizer;
mod z_image;

pub use clip::{Clip, ClipOutput, official_key as clip_key};
pub use clip_config::ClipConfig;
pub use cut::Cut;
pub use encoder::TextEncoder;
pub use encoders::TextEncoders;
pub use flan_t5::FlanT5;
pub use flux::FluxEncoders;
pub(crate) use folder::Stored;
pub use qwen3::{Qwen3, Qwen3Block, official_key as qwen3_key};
pub use qwen3_config::Qwen3Config;
pub use t5::{T5, T5Block, official_key as t5_key};
pub use t5_config::{FeedForwardKind, T5Config};
pub use tokenizer::{Tokenizer, Tokens};
pub use z_image::ZImageEncoder;
