//! The text encoders of Stable Diffusion 3, of MiniT2I, of FLUX.1 and of Z-Image, and the place of others.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use mixflow_t2i::text::{StableDiffusion3Encoders, TextEncoder};
//!
//! # fn main() -> Result<(), mixflow_t2i::Error> {
//! let encoders = StableDiffusion3Encoders::from_folder("stable-diffusion-3.5-medium", &Device::default())?;
//! let prompts = ["a lighthouse at night", "two foxes under the moon"];
//! for truncation in encoders.truncations(&prompts)? {
//!     eprintln!("{truncation}");
//! }
//! let text = encoders.encode_with_negative(&prompts, "")?;
//! # let _ = text;
//! # Ok(())
//! # }
//! ```

mod attention_bias;
mod clip;
mod clip_config;
mod clip_tokenizer;
pub(crate) mod config;
mod encoder;
mod encoder_files;
mod flan_t5;
mod flux;
mod qwen3;
mod qwen3_config;
mod stable_diffusion_3;
mod stream;
mod t5;
mod t5_config;
mod tokenizer;
mod truncation;
mod z_image;

pub use clip::{ClipTextModel, ClipTextOutput, official_key as clip_key};
pub use clip_config::ClipConfig;
pub use encoder::TextEncoder;
pub(crate) use encoder_files::EncoderFiles;
pub use flan_t5::FlanT5;
pub use flux::FluxEncoders;
pub use qwen3::{Qwen3, Qwen3Block, official_key as qwen3_key};
pub use qwen3_config::Qwen3Config;
pub use stable_diffusion_3::StableDiffusion3Encoders;
pub use t5::{T5, T5Block, official_key as t5_key};
pub use t5_config::{FeedForwardKind, T5Config};
pub use tokenizer::{Tokenizer, Tokens};
pub use truncation::Truncation;
pub use z_image::ZImageEncoder;
