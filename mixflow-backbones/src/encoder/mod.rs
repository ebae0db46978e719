//! Pretrained image encoders, whose features REPA aligns with and RAE generates.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use mixflow_backbones::encoder::EncoderConfig;
//!
//! let config = EncoderConfig { width: 16, depth: 1, heads: 2, hidden: 32, ..EncoderConfig::dinov2_base() };
//! let encoder = config.init(0, &Device::default());
//! let tokens = encoder.forward(Tensor::zeros([1, 3, 256, 256], &Device::default()));
//! assert_eq!(tokens.dims(), [1, 256, 16]);
//! ```

mod config;
mod dinov2;
mod hub;
mod mae;
mod preprocessing;
mod siglip2;
mod tokens;

pub use config::{Architecture, EncoderConfig};
pub use dinov2::Dinov2;
pub use mae::Mae;
pub use preprocessing::{Normalisation, Preprocessing};
pub use siglip2::{AttentionPool, Siglip2};

use burn::module::Module;
use burn::tensor::Tensor;

use crate::Error;
use crate::weights::Weights;

/// An image encoder: one vector for every patch.
#[allow(clippy::large_enum_variant, reason = "a program has one or two of them, and their weights are elsewhere")]
#[derive(Module, Debug)]
pub enum Encoder {
    /// DINOv2, with or without registers.
    Dinov2(Dinov2),
    /// The image half of SigLIP 2.
    Siglip2(Siglip2),
    /// The encoder of a masked autoencoder.
    Mae(Mae),
}

impl Encoder {
    /// Features of images of any size; they are resized and normalised as this encoder wants.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]`, in [-1, 1]
    /// - output: `[batch, tokens, width]`, row-major over the patches
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let images = self.preprocessing().apply(images);
        match self {
            Self::Dinov2(network) => network.forward(images),
            Self::Siglip2(network) => network.forward(images),
            Self::Mae(network) => network.forward(images),
        }
    }

    /// What happens to images before the network.
    pub fn preprocessing(&self) -> &Preprocessing {
        match self {
            Self::Dinov2(network) => &network.preprocessing,
            Self::Siglip2(network) => &network.preprocessing,
            Self::Mae(network) => &network.preprocessing,
        }
    }

    /// This encoder with the weights of a file of Hugging Face's, of this encoder alone or of the whole model that it
    /// is part of; for DINOv2 also with those of `torch.hub`, as REPA takes them.
    ///
    /// # Errors
    /// As [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let prefix = match self {
            Self::Dinov2(_) => "dinov2_with_registers.",
            Self::Siglip2(_) => "",
            Self::Mae(_) => "vit.",
        };
        let weights = if matches!(self, Self::Dinov2(_)) { hub::as_hugging_face(weights) } else { weights };
        // The other half of the model, a decoder or a text network, is left out.
        let ours = ["embeddings.", "encoder.", "layernorm.", "vision_model."];
        let weights = weights.rename(|name| {
            let name = name.strip_prefix(prefix).unwrap_or(name);
            ours.iter().any(|start| name.starts_with(start)).then(|| name.into())
        });
        let key = self.official_key();
        weights.into_module(self, key)
    }

    /// Its weights under the names that [`load`](Self::load) reads.
    pub fn weights(&self) -> Weights {
        Weights::of(self, self.official_key())
    }

    /// From the path of a parameter in the network, such as `blocks.0.attn.query.weight`, to its official name.
    pub fn official_key(&self) -> fn(&str) -> String {
        match self {
            Self::Dinov2(_) => dinov2::official_key,
            Self::Siglip2(_) => siglip2::official_key,
            Self::Mae(_) => mae::official_key,
        }
    }
}
