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

mod class_token;
mod config;
mod hub;
mod preprocessing;
mod siglip2;

pub use class_token::ClassTokenVit;
pub use config::{Architecture, EncoderConfig};
pub use preprocessing::{Normalisation, Preprocessing};
pub use siglip2::{AttentionPool, Siglip2};

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::init::Initializer;
use crate::sizes::{demand, parameters};
use crate::weights::Weights;

/// An image encoder: one vector for every patch.
#[allow(clippy::large_enum_variant, reason = "a program has one or two of them, and their weights are elsewhere")]
#[derive(Module, Debug)]
pub enum Encoder {
    /// DINOv2, with or without registers.
    Dinov2(ClassTokenVit),
    /// The image half of SigLIP 2.
    Siglip2(Siglip2),
    /// The encoder of a masked autoencoder.
    Mae(ClassTokenVit),
}

impl EncoderConfig {
    /// A network with random weights, which depend on `seed` alone: Xavier-uniform layers, tokens and positions
    /// `N(0, 0.02²)`, MAE's fixed table of positions.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> Encoder {
        demand(self.check());
        self.build(&Initializer::new(seed, device))
    }

    fn build(&self, init: &Initializer) -> Encoder {
        match self.architecture {
            Architecture::Dinov2 => Encoder::Dinov2(ClassTokenVit::new(self, init)),
            Architecture::Siglip2 => Encoder::Siglip2(Siglip2::new(self, init)),
            Architecture::Mae => Encoder::Mae(ClassTokenVit::new(self, init)),
        }
    }

    /// Number of parameters; nothing is allocated for them.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub fn parameters(&self) -> u64 {
        demand(self.check());
        parameters([self.depth], |[depth], init| Self { depth, ..self.clone() }.build(init).num_params())
    }
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
            Self::Dinov2(network) | Self::Mae(network) => network.forward(images),
            Self::Siglip2(network) => network.forward(images),
        }
    }

    /// What happens to images before the network.
    pub fn preprocessing(&self) -> &Preprocessing {
        match self {
            Self::Dinov2(network) | Self::Mae(network) => &network.preprocessing,
            Self::Siglip2(network) => &network.preprocessing,
        }
    }

    /// This encoder with the weights of a file of Hugging Face's, of this encoder alone or of the whole model that it
    /// is part of: a classifier, a masked autoencoder, or SigLIP 2 with its text half. For DINOv2 also with those of
    /// `torch.hub`, as REPA takes them. What features of patches do without may be missing, as in the state dicts of RAE: the
    /// token for hidden patches, the pooling head, and a last normalisation without learned numbers.
    ///
    /// # Errors
    /// As [`Weights::network`] and [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        let (key, mut weights) = (self.official_key(), self.select_weights(weights)?);
        for (name, tensor) in self.weights().iter().filter(|(name, _)| self.does_without(name)) {
            if weights.get(name).is_none() {
                let own = tensor.data()?;
                weights.insert_missing(name, || own);
            }
        }
        weights.into_module(self, key)
    }

    /// Whether features of patches do not depend on the parameter of this name.
    fn does_without(&self, name: &str) -> bool {
        let (learned, norm, others) = match self {
            Self::Dinov2(network) => (network.learned_norm, "layernorm.", Some("embeddings.mask_token")),
            Self::Siglip2(network) => {
                (network.learned_norm, "vision_model.post_layernorm.", Some("vision_model.head."))
            }
            Self::Mae(network) => (network.learned_norm, "layernorm.", None),
        };
        !learned && name.starts_with(norm) || others.is_some_and(|others| name.starts_with(others))
    }

    /// The tensors of this encoder, under Hugging Face's names.
    fn select_weights(&self, weights: Weights) -> Result<Weights, Error> {
        // What the two tokenizers of images start with.
        const PATCHES: [&str; 2] = ["embeddings.patch_embeddings.projection.weight", "patch_embed.proj.weight"];
        Ok(match self {
            Self::Dinov2(_) => hub::as_hugging_face(weights.network(&PATCHES)?),
            Self::Mae(_) => weights.network(&PATCHES[..1])?,
            Self::Siglip2(_) => {
                weights.network_below("vision_model.", "embeddings.patch_embedding.weight")?.without(&siglip2::OTHERS)
            }
        })
    }

    /// Its weights under the names that [`load`](Self::load) reads.
    pub fn weights(&self) -> Weights {
        Weights::of(self, self.official_key())
    }

    /// From the path of a parameter in the network, such as `blocks.0.attn.qkv.query.weight`, to its official name.
    pub fn official_key(&self) -> fn(&str) -> String {
        match self {
            Self::Dinov2(_) => class_token::dinov2_key,
            Self::Siglip2(_) => siglip2::official_key,
            Self::Mae(_) => class_token::mae_key,
        }
    }
}
