//! The networks that a recipe can name.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::dit::Dit;
use crate::dit_dh::{DitDh, DitDhConfig};
use crate::keys::official_key;
use crate::lightning_dit::{LightningDit, LightningDitConfig};
use crate::repa::{Repa, RepaConfig};
use crate::sit::{Sit, SitConfig};
use crate::weights::Weights;
use crate::{Activations, Aligned, AlignedBackbone, Backbone, ClassLabels, Error, Invalid, Precision};

/// The networks for class labels: type, shape, and what people call it. A new one is a line here.
macro_rules! networks {
    ($then:ident $($arguments:tt)*) => {
        $then! {
            [
                Sit(SitConfig) "SiT",
                Repa(RepaConfig) "SiT with projectors (REPA)",
                DitDh(DitDhConfig) "DiT^DH",
                LightningDit(LightningDitConfig) "LightningDiT",
                Dit(SitConfig) "DiT",
            ]
            $($arguments)*
        }
    };
}

macro_rules! define_networks {
    ([$($network:ident($config:ty) $name:literal,)+]) => {
        /// Any of this crate's networks for class labels, chosen when the program runs.
        #[derive(Module, Debug)]
        #[expect(missing_docs, reason = "each variant is documented at its type")]
        #[expect(clippy::large_enum_variant, reason = "a program holds a few networks, whose weights lie elsewhere")]
        pub enum Network {
            $($network($network),)+
        }

        /// Shape of a [`Network`]; in JSON `kind` says which.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        #[expect(missing_docs, reason = "each variant is documented at its type")]
        pub enum NetworkConfig {
            $($network($config),)+
        }

        impl Network {
            /// This network with the weights of a published checkpoint, or of one that mixflow wrote.
            ///
            /// # Errors
            /// As [`Weights::into_module`].
            pub fn load(self, weights: Weights) -> Result<Self, Error> {
                match self {
                    $(Self::$network(network) => network.load(weights).map(Self::$network),)+
                }
            }

            fn recomputing_inside(&self) -> Option<Self> {
                match self {
                    $(Self::$network(network) => network.recomputing().map(Self::$network),)+
                }
            }
        }

        impl NetworkConfig {
            /// A network with the initial values of the published training code, which depend on `seed` alone.
            ///
            /// # Panics
            /// If [`check`](Self::check) finds fault.
            pub fn init(&self, seed: u64, device: &Device) -> Network {
                match self {
                    $(Self::$network(config) => Network::$network(config.init(seed, device).into()),)+
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

networks!(define_networks);

/// The same expression for whichever variant it is.
macro_rules! dispatch {
    ([$($network:ident($config:ty) $name:literal,)+] $which:ident, $value:expr, $inner:ident => $result:expr) => {
        match $value {
            $($which::$network($inner) => $result,)+
        }
    };
}

impl Backbone for Network {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        networks!(dispatch Self, self, network => network.forward(x, time, condition))
    }

    fn forward_with_variance(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        condition: ClassLabels,
    ) -> (Tensor<4>, Option<Tensor<4>>) {
        networks!(dispatch Self, self, network => network.forward_with_variance(x, time, condition))
    }

    fn in_precision(&self, precision: Precision) -> Option<Self> {
        Some(precision.of_blocks(self.clone()))
    }

    fn recomputing(&self) -> Option<Self> {
        self.recomputing_inside()
    }
}

/// Networks without projectors have no projections; [`NetworkConfig::projections`] tells before.
impl AlignedBackbone for Network {
    fn forward_aligned(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Aligned {
        match self {
            Self::Repa(network) => network.forward_aligned(x, time, condition),
            _ => Aligned { output: self.forward(x, time, condition), projections: vec![] },
        }
    }
}

impl Network {
    /// The network of this crate for class labels that a file holds, under its own names: see [`Weights::network`].
    ///
    /// # Errors
    /// If there are several.
    pub fn select_weights(weights: Weights) -> Result<Weights, Error> {
        weights.network(&["x_embedder.proj.weight"])
    }

    /// The official name of the parameter at a path.
    pub fn official_key(&self) -> fn(&str) -> String {
        official_key
    }

    /// The parameters under their official names.
    pub fn weights(&self) -> Weights {
        Weights::of(self, official_key)
    }
}

impl NetworkConfig {
    /// What is wrong with these numbers, if anything.
    pub fn check(&self) -> Result<(), Invalid> {
        networks!(dispatch Self, self, config => config.check())
    }

    /// The official name of the parameter of the network at a path.
    pub fn official_key(&self) -> fn(&str) -> String {
        official_key
    }

    /// Channels, height and width of what it makes: images or latents.
    pub fn shape(&self) -> [usize; 3] {
        networks!(dispatch Self, self, config => config.shape())
    }

    /// Number of classes; the null label is this number.
    pub fn classes(&self) -> usize {
        networks!(dispatch Self, self, config => config.classes)
    }

    /// Whether it knows a label for no class.
    pub fn null_class(&self) -> bool {
        networks!(dispatch Self, self, config => config.null_class)
    }

    /// Widths of the features that its tokens are projected to, one a target encoder; empty where it has no projectors.
    pub fn projections(&self) -> &[usize] {
        match self {
            Self::Repa(config) => &config.projectors,
            _ => &[],
        }
    }

    /// Rows and columns of its tokens.
    pub fn token_grid(&self) -> [usize; 2] {
        [networks!(dispatch Self, self, config => config.side()); 2]
    }

    /// Number of parameters, as published ones are counted. No weights are drawn.
    pub fn parameters(&self) -> u64 {
        networks!(dispatch Self, self, config => config.parameters())
    }

    /// Multiplications with addition of one image's forward pass: matrix products alone.
    pub fn multiply_adds(&self) -> u64 {
        networks!(dispatch Self, self, config => config.multiply_adds())
    }

    /// The same in training, where projectors run too.
    pub fn training_multiply_adds(&self) -> u64 {
        match self {
            Self::Repa(config) => config.multiply_adds() + config.projector_multiply_adds(),
            _ => self.multiply_adds(),
        }
    }

    /// What a training step keeps of one image for its backward pass.
    pub fn activations(&self) -> Activations {
        networks!(dispatch Self, self, config => config.activations())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dit_dh::Stack;
    use crate::init::laws::numbers;

    #[test]
    fn names_and_weights_are_those_of_the_network_inside() {
        let config = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
        let dispatch = config.init(3, &Device::default());
        let network = NetworkConfig::Sit(config.clone()).init(3, &Device::default());
        let bytes = |weights: &Weights| weights.to_safetensors(&[]).unwrap();
        let (expected, found) = (Weights::of(&dispatch, official_key), network.weights());
        assert_eq!(bytes(&expected), bytes(&found));

        let other = NetworkConfig::Sit(config).init(4, &Device::default());
        assert_eq!(bytes(&other.load(found).unwrap().weights()), bytes(&expected));
    }

    #[test]
    fn new_networks_predict_exactly_zero() {
        let device = Device::default();
        let sit =
            SitConfig { input_size: 8, width: 64, depth: 2, heads: 4, hidden: 96, classes: 99, ..SitConfig::small(2) };
        let stack = |width, depth| Stack { width, depth, heads: 4, hidden: 96 };
        for config in [
            NetworkConfig::Sit(sit.clone()),
            NetworkConfig::Dit(sit.clone()),
            NetworkConfig::LightningDit(LightningDitConfig {
                input_size: 4,
                channels: 64,
                width: 64,
                depth: 2,
                heads: 4,
                hidden: 96,
                classes: 99,
                ..LightningDitConfig::extra_large()
            }),
            NetworkConfig::DitDh(DitDhConfig {
                input_size: 4,
                channels: 64,
                encoder: stack(64, 2),
                head: stack(128, 1),
                classes: 99,
                ..DitDhConfig::small()
            }),
        ] {
            let [channels, height, width] = config.shape();
            let x = numbers([2, channels, height, width], &device);
            let labels = ClassLabels::new(&[3, 99], 99, &device);
            let y = config.init(5, &device).forward(x, Tensor::from_data([0.1f32, 0.9], &device), labels);
            assert_eq!(y.dims(), [2, channels, height, width], "{config:?}");
            assert!(y.into_data().iter::<f32>().all(|v| v == 0.0), "{config:?}");
        }
    }

    /// Formulas against the networks themselves.
    #[test]
    fn parameters_are_those_that_a_network_has() {
        let sit =
            SitConfig { width: 16, depth: 2, heads: 2, hidden: 24, input_size: 8, classes: 5, ..SitConfig::small(2) };
        let repa = RepaConfig {
            width: 16,
            depth: 2,
            heads: 2,
            hidden: 24,
            input_size: 8,
            classes: 5,
            encoder_depth: 1,
            projectors: vec![12, 20],
            projector_hidden: 28,
            ..RepaConfig::base(4)
        };
        for config in [
            NetworkConfig::Sit(SitConfig { null_class: false, ..sit.clone() }),
            NetworkConfig::Sit(SitConfig { learn_sigma: false, ..sit }),
            NetworkConfig::Repa(RepaConfig { qk_norm: true, ..repa.clone() }),
            NetworkConfig::Repa(repa),
        ] {
            assert_eq!(config.parameters(), config.init(0, &Device::default()).num_params() as u64, "{config:?}");
        }
    }

    #[test]
    fn parameters_are_those_of_the_official_classes() {
        // Counted on instances of the official classes, frozen tables included.
        for (config, expected) in [
            (SitConfig::small(2), 32_963_360),
            (SitConfig::base(2), 130_512_416),
            (SitConfig::large(2), 458_102_816),
            (SitConfig::extra_large(2), 675_129_632),
            (SitConfig { input_size: 64, ..SitConfig::extra_large(2) }, 676_014_368),
        ] {
            assert_eq!(NetworkConfig::Sit(config).parameters(), expected);
        }
    }
}
