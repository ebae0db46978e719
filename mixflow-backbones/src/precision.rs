//! How exactly matrix products are computed.

use std::collections::BTreeSet;
use std::fmt;

use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::linear;

/// The numbers that matrix products of a network multiply.
///
/// In [`Bf16`](Self::Bf16) the layers of attention and perceptrons, and attention itself, multiply numbers of 8 bits of
/// precision and add them in 32 bits. Everything else stays in `f32`: the tokens between blocks, norms and their
/// modulation, softmax, activations, embeddings, the time (whose 701 would be 700), the loss, and in training weights,
/// gradients, moments and average. There is no loss scaling, as `bf16` has the range of `f32`. What products give is kept in
/// 16 bits until the backward pass.
///
/// A layer multiplies in the type of its weight: [`Linear`](crate::Linear) and [`Attention`](crate::block::Attention) round
/// what they are given to that. A network of one's own that is made of these implements
/// [`Backbone::in_precision`](crate::Backbone::in_precision) by [`of_blocks`](Self::of_blocks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 24 bits of precision; on some GPUs products may take 11 of them (TF32).
    #[default]
    F32,
    /// 8 bits of precision in products.
    Bf16,
}

impl Precision {
    /// Whether it is the one that weights are stored and trained in.
    pub fn is_full(&self) -> bool {
        *self == Self::F32
    }

    /// Whether `device` computes so. One that does not may give zeros instead of an error.
    pub fn is_supported(self, device: &Device) -> bool {
        self.is_full() || device.supports_dtype(DType::BF16)
    }

    /// `network` with the weights of the linear layers in its attention and perceptrons rounded where they are used. They are
    /// stored as before: gradients, optimiser and files see them in `f32`. [`Module::materialize`] keeps what is rounded
    /// alone, for networks that only draw.
    pub fn of_blocks<M: Module>(self, network: M) -> M {
        if self.is_full() {
            return network;
        }
        // Biases are added in `f32`.
        let rounded = linear::places(&network).into_iter().filter(|place| PARTS.contains(&place.part.as_str()));
        let paths = rounded.map(|place| place.path).collect();
        network.apply_reparameterization(Round { paths })
    }
}

/// The type that a layer of this weight multiplies in.
pub(crate) fn product_type(weight: &Param<Tensor<2>>) -> DType {
    match weight.reparameterization::<Rounded>() {
        Some(_) => DType::BF16,
        None => weight.base().dtype(),
    }
}

/// `f32` or `bf16`, as in recipes.
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// The parts of a block that are rounded, by the names of their types.
const PARTS: [&str; 8] = [
    "Struct:Attention",
    "Struct:SplitProjection",
    "Struct:JointAttention",
    "Struct:SingleBlock",
    "Struct:Mlp",
    "Struct:SplitSwiGlu",
    "Struct:SwiGlu",
    "Struct:T5Block",
];

/// What a weight that is rounded remembers: nothing.
#[derive(Module, Debug)]
struct Rounded {}

impl Reparameterization for Rounded {
    const NAME: &'static str = "bf16";

    fn apply<const D: usize>(&self, weight: Tensor<D>) -> Tensor<D> {
        weight.cast(DType::BF16)
    }
}

struct Round {
    paths: BTreeSet<String>,
}

impl Reparameterizer for Round {
    type Reparam = Rounded;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        weight: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Rounded>) {
        let rounded = self.paths.contains(path).then_some(Rounded {});
        (weight, rounded)
    }
}
