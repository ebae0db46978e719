//! The networks that a recipe can name.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::repa::{self, Repa, RepaConfig};
use crate::sit::{self, Sit, SitConfig};
use crate::weights::Weights;
use crate::{Aligned, AlignedBackbone, Backbone, ClassLabels, Error};

/// Any of this crate's networks for class labels, chosen when the program runs.
#[derive(Module, Debug)]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum Network {
    Sit(Sit),
    Repa(Repa),
}

impl Backbone for Network {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        match self {
            Self::Sit(network) => network.forward(x, time, condition),
            Self::Repa(network) => network.forward(x, time, condition),
        }
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
    /// This network with the weights of a published checkpoint, or of one that mixflow wrote.
    ///
    /// # Errors
    /// As [`Weights::into_module`].
    pub fn load(self, weights: Weights) -> Result<Self, Error> {
        Ok(match self {
            Self::Sit(network) => Self::Sit(network.load(weights)?),
            Self::Repa(network) => Self::Repa(network.load(weights)?),
        })
    }

    /// The official name of the parameter at a path.
    pub fn official_key(&self) -> fn(&str) -> String {
        match self {
            Self::Sit(_) => sit::official_key,
            Self::Repa(_) => repa::official_key,
        }
    }

    /// The parameters under their official names.
    pub fn weights(&self) -> Weights {
        Weights::of(self, self.official_key())
    }
}

/// Shape of a [`Network`]; in JSON `kind` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each variant is documented at its type")]
pub enum NetworkConfig {
    Sit(SitConfig),
    Repa(RepaConfig),
}

impl NetworkConfig {
    /// What is wrong with these numbers, if anything: a sentence for whoever wrote them.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Sit(config) => config.check(),
            Self::Repa(config) => config.check(),
        }
    }

    /// A network with the initial values of the published training code, which depend on `seed` alone.
    ///
    /// # Panics
    /// If [`check`](Self::check) finds fault.
    pub fn init(&self, seed: u64, device: &Device) -> Network {
        match self {
            Self::Sit(config) => Network::Sit(config.init(seed, device)),
            Self::Repa(config) => Network::Repa(config.init(seed, device)),
        }
    }

    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sit(_) => "SiT",
            Self::Repa(_) => "SiT with projectors (REPA)",
        }
    }

    /// Channels, height and width of what it makes: images or latents.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Sit(config) => config.shape(),
            Self::Repa(config) => config.shape(),
        }
    }

    /// Number of classes; the null label is this number.
    pub fn classes(&self) -> usize {
        match self {
            Self::Sit(config) => config.classes,
            Self::Repa(config) => config.classes,
        }
    }

    /// Whether it knows a label for no class.
    pub fn null_class(&self) -> bool {
        match self {
            Self::Sit(config) => config.null_class,
            Self::Repa(config) => config.null_class,
        }
    }

    /// Widths of the features that its tokens are projected to, one a target encoder; empty where it has no projectors.
    pub fn projections(&self) -> &[usize] {
        match self {
            Self::Repa(config) => &config.projectors,
            Self::Sit(_) => &[],
        }
    }

    /// Rows and columns of its tokens.
    pub fn token_grid(&self) -> [usize; 2] {
        let (Self::Sit(SitConfig { input_size, patch, .. }) | Self::Repa(RepaConfig { input_size, patch, .. })) = self;
        [input_size / patch; 2]
    }

    /// Number of parameters, frozen tables included. No weights are drawn.
    pub fn parameters(&self) -> u64 {
        let mut count = Count(0);
        self.init(0, &Device::default()).visit(&mut count);
        count.0
    }

    /// Multiplications with addition of one image's forward pass: matrix products alone.
    pub fn multiply_adds(&self) -> u64 {
        match self {
            Self::Sit(config) => config.multiply_adds(),
            Self::Repa(config) => config.multiply_adds(),
        }
    }

    /// Numbers that a training step keeps of one image for its backward pass, by the layers of the blocks alone.
    pub fn activations(&self) -> u64 {
        self.stacks().iter().map(Stack::activations).sum()
    }

    /// The runs of equal blocks that it is made of.
    fn stacks(&self) -> Vec<Stack> {
        match self {
            Self::Sit(SitConfig { width, depth, hidden, .. }) | Self::Repa(RepaConfig { width, depth, hidden, .. }) => {
                let tokens = self.token_grid().iter().product();
                vec![Stack { depth: *depth, tokens, width: *width, hidden: *hidden }]
            }
        }
    }
}

/// Equal transformer blocks, one after the other.
struct Stack {
    depth: usize,
    tokens: usize,
    width: usize,
    hidden: usize,
}

impl Stack {
    /// A block keeps ten values a channel (two normalised inputs, three of attention and its result, two branches, two
    /// sums) and the hidden layer before and after its activation.
    fn activations(&self) -> u64 {
        (self.depth * self.tokens * (10 * self.width + 2 * self.hidden)) as u64
    }
}

/// Counts parameters without drawing them.
struct Count(u64);

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 += param.lazy_shape().num_elements() as u64;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_and_weights_are_those_of_the_network_inside() {
        let config = SitConfig { width: 16, depth: 1, heads: 2, hidden: 32, input_size: 4, ..SitConfig::small(2) };
        let inside = config.init(3, &Device::default());
        let network = NetworkConfig::Sit(config.clone()).init(3, &Device::default());
        let (expected, found) = (Weights::of(&inside, sit::official_key), network.weights());
        assert!(expected.iter().eq(found.iter()));

        let other = NetworkConfig::Sit(config).init(4, &Device::default());
        assert!(other.load(found).unwrap().weights().iter().eq(expected.iter()));
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
