#![doc = include_str!("../README.md")]

pub mod activations;
pub mod aligned;
pub mod autoencoder;
pub mod backbone;
pub mod block;
pub mod condition;
pub mod convolution;
pub mod diffusers;
pub mod discriminator;
pub mod dit;
pub mod dit_dh;
pub mod embed;
pub mod encoder;
pub mod error;
pub mod inception;
pub mod init;
pub mod json;
pub mod keys;
pub mod lightning_dit;
pub mod linear;
pub mod lora;
pub mod lpips;
pub mod mapped_file;
pub mod mistaken;
pub mod network;
pub mod ops;
pub mod precision;
pub mod rae;
pub mod repa;
pub mod resize;
pub mod sit;
mod sizes;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vit;
pub mod weights;

pub use activations::Activations;
pub use aligned::{Aligned, AlignedBackbone};
pub use autoencoder::Autoencoder;
pub use backbone::Backbone;
pub use condition::{ClassLabels, Condition};
pub use convolution::Convolution;
pub use error::{Error, Invalid};
pub use linear::Linear;
pub use network::{Network, NetworkConfig};
pub use precision::Precision;
