//! The transformers that a recipe can name.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mixflow::backbones::diffusers::{is_config, read_config};
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Activations, Backbone, Error, Invalid, Precision};
use mixflow::recipe::Sides;
use serde::{Deserialize, Serialize};

use crate::TextEmbedding;
use crate::flux::{self, Flux, FluxConfig};
use crate::mmdit::{self, MmDit, MmDitConfig};
use crate::mmjit::{self, MmJit, MmJitConfig};
pub use crate::shape::TextInputShape;
use crate::z_image::{self, ZImage, ZImageConfig};

/// The transformers: type, shape, module, and what people call it. A new one is a line here.
macro_rules! transformers {
    ($then:ident $($arguments:tt)*) => {
        $then! {
            [
                MmDit(MmDitConfig, mmdit) "multimodal transformer (MMDiT)",
                MmJit(MmJitConfig, mmjit) "MiniT2I (MM-JiT)",
                Flux(FluxConfig, flux) "FLUX.1",
                ZImage(ZImageConfig, z_image) "Z-Image",
            ]
            $($arguments)*
        }
    };
}

macro_rules! define {
    ([$($network:ident($config:ident, $module:ident) $name:literal,)+]) => {
        /// Any of this crate's transformers, chosen when the program runs.
        #[derive(Module, Debug)]
        #[expect(missing_docs, reason = "each variant is documented at its type")]
        #[expect(clippy::large_enum_variant, reason = "a program holds a few networks, whose weights lie elsewhere")]
        pub enum Transformer {
            $($network($network),)+
        }

        /// Shape of a [`Transformer`]; in JSON `kind` says which.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        #[expect(missing_docs, reason = "each variant is documented at its type")]
        pub enum TransformerConfig {
            $($network($config),)+
        }

        $(
            impl From<$network> for Transformer {
                fn from(network: $network) -> Self {
                    Self::$network(network)
                }
            }

            impl From<$config> for TransformerConfig {
                fn from(config: $config) -> Self {
                    Self::$network(config)
                }
            }
        )+

        impl TransformerConfig {
            /// The network that a `transformer/config.json` of `diffusers` describes.
            ///
            /// # Errors
            /// If the file cannot be read, or describes something else or what such a network cannot be.
            pub fn from_diffusers(file: &Path) -> Result<Self, Error> {
                $(
                    if is_config(file, $config::CLASS) {
                        return $config::from_diffusers(file).map(Self::from);
                    }
                )+
                // Of none of them, which tells what it is.
                read_config(file, &[$($config::CLASS),+].join(" or "))
            }

            /// The published name of the parameter at a path.
            pub fn official_key(&self) -> fn(&str) -> String {
                match self {
                    $(Self::$network(_) => $module::official_key,)+
                }
            }

            /// The network of this kind that a file holds.
            ///
            /// # Errors
            /// If there are several.
            pub fn select_weights(&self, weights: Weights) -> Result<Weights, Error> {
                match self {
                    $(Self::$network(_) => $network::select_weights(weights),)+
                }
            }

            /// What people call it.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$network(_) => $name,)+
                }
            }
        }
    };
}

transformers!(define);

/// The same expression for whichever variant it is.
macro_rules! inside {
    ([$($network:ident($config:ident, $module:ident) $name:literal,)+] $value:expr, $inner:ident => $result:expr) => {
        match $value {
            $(Self::$network($inner) => $result,)+
        }
    };
}

impl Backbone for Transformer {
    type Condition = TextEmbedding;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, text: TextEmbedding) -> Tensor<4> {
        transformers!(inside self, network => network.forward(x, time, text))
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        transformers!(inside self, network => network.recomputing().map(Self::from))
    }

    fn dropping(&self, rate: f64, seed: u64, first: u64) -> Self {
        transformers!(inside self, network => network.dropping(rate, seed, first).into())
    }

    fn without_blocks(&self, blocks: &[usize]) -> Result<Self, Invalid> {
        transformers!(inside self, network => network.without_blocks(blocks).map(Self::from))
    }

    fn with_guidance(&self, scale: f64) -> Option<Self> {
        transformers!(inside self, network => network.with_guidance(scale).map(Self::from))
    }
}

impl Transformer {
    /// This network with the weights of a published checkpoint.
    ///
    /// # Errors
    /// As those of the network.
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        transformers!(inside self, network => network.load(weights).map(Self::from))
    }
}

impl TransformerConfig {
    /// A network with initial values that depend on `seed` alone.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> Transformer {
        transformers!(inside self, config => config.init(seed, device).into())
    }

    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        transformers!(inside self, config => config.check())
    }

    /// Channels, height and width of what it makes: images or latents.
    pub fn shape(&self) -> [usize; 3] {
        transformers!(inside self, config => config.shape())
    }

    /// Heights and widths that it takes beside those of its shape.
    pub fn sides(&self) -> Sides {
        transformers!(inside self, config => config.sides())
    }

    /// Number of parameters; nothing is allocated for them.
    pub fn parameters(&self) -> u64 {
        transformers!(inside self, config => config.parameters())
    }

    /// Multiplications with addition of the forward pass of one image beside so many tokens of text.
    pub fn multiply_adds(&self, text: usize) -> u64 {
        transformers!(inside self, config => config.multiply_adds(text))
    }

    /// What a training step keeps of one image and `text` tokens for its backward pass.
    pub fn activations(&self, text: usize) -> Activations {
        transformers!(inside self, config => config.activations(text))
    }

    /// An adapter of a file by this network's names of layers: those of Stable Diffusion 3 may have the names of the Stability code,
    /// those of FLUX the names of Black Forest Labs, those of Z-Image the names of its official code.
    ///
    /// # Errors
    /// As [`mmdit::adapter`], [`flux::adapter`] and [`z_image::adapter`].
    pub fn adapter(&self, adapter: Adapter) -> Result<Adapter, Error> {
        match self {
            Self::Flux(_) => flux::adapter(adapter),
            Self::ZImage(_) => z_image::adapter(adapter),
            Self::MmDit(config) => mmdit::adapter(adapter, config.depth),
            Self::MmJit(_) => Ok(adapter),
        }
    }

    /// What it is told of a text.
    pub fn text_input_shape(&self) -> TextInputShape {
        transformers!(inside self, config => config.text_input_shape())
    }
}

/// A [`TransformerConfig`] in a recipe, whose `kind` is that of Stable Diffusion unless it says another: recipes from before there
/// was another say none.
pub(crate) mod in_recipe {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    use super::TransformerConfig;

    const FIRST: &str = "mm-dit";

    pub(crate) fn serialize<S: Serializer>(config: &TransformerConfig, serializer: S) -> Result<S::Ok, S::Error> {
        let mut value = serde_json::to_value(config).map_err(S::Error::custom)?;
        if value["kind"] == FIRST
            && let Some(keys) = value.as_object_mut()
        {
            keys.remove("kind");
        }
        value.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TransformerConfig, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(keys) = value.as_object_mut() {
            keys.entry("kind").or_insert_with(|| FIRST.into());
        }
        serde_json::from_value(value).map_err(D::Error::custom)
    }
}
