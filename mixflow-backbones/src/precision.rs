//! How exactly matrix products are computed.

use std::collections::BTreeSet;
use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, Reparameterization, Reparameterizer};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::linear::{self, Place};
use crate::walk::{Walk, walks};

/// The numbers that matrix products of a network multiply.
///
/// In [`Bf16`](Self::Bf16) the layers of attention and perceptrons, and attention itself, multiply numbers of 8 bits of
/// precision and add them in 32 bits. Everything else stays in `f32`: the tokens between blocks, norms and their
/// modulation, softmax, activations, embeddings, the time (whose 701 would be 700), the loss, and in training weights,
/// gradients, moments and average, unless weights are [stored](Self::of_trained) so. There is no loss scaling, as `bf16` has the
/// range of `f32`. What products give is kept in 16 bits until the backward pass.
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
        let paths = rounded(&network).map(|place| place.path).collect();
        network.apply_reparameterization(Round { paths })
    }

    /// `network`, in which these weights are frozen, with them stored as they are multiplied, in half the memory: beside adapters,
    /// which stay in `f32`. Those that are yet to be drawn or read are rounded then, one after another.
    pub fn of_frozen<M: Module>(self, network: M) -> M {
        if self.is_full() { network } else { network.map(&mut Store::new(false)) }
    }

    /// Whether some weights of a `network` are stored in less than `f32`.
    pub fn is_stored_low(network: &impl Module) -> bool {
        struct Low(bool);
        impl ModuleVisitor for Low {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0 |= param.base().dtype() == DType::BF16;
            }
        }
        let mut low = Low(false);
        network.visit(&mut low);
        low.0
    }

    /// `network` with those of these weights that are trained stored as they are multiplied, for a training that has them in `f32`
    /// elsewhere. Their gradients are rounded, too, and added up so where a loss runs the network several times.
    pub fn of_trained<M: Module>(self, network: M) -> M {
        if self.is_full() { network } else { network.map(&mut Store::new(true)) }
    }

    /// Bytes of the weights of a `network` after [`of_frozen`](Self::of_frozen), which need not be there.
    pub fn frozen_bytes(self, network: &impl Module) -> u64 {
        let saved = if self.is_full() { 0 } else { 2 };
        let rounded: u64 = rounded(network).map(|place| (place.shape[0] * place.shape[1]) as u64).sum();
        4 * network.num_params() as u64 - saved * rounded
    }
}

/// The layers that are rounded, but for their biases, which are added in `f32`.
fn rounded(network: &impl Module) -> impl Iterator<Item = Place> {
    linear::places(network).into_iter().filter(|place| is_rounded(&place.part))
}

/// Whether layers in a part of this type are rounded.
fn is_rounded(part: &str) -> bool {
    PARTS.contains(&part)
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

/// Stores the weights that are rounded so: what is there and what comes, or what is trained alone.
struct Store {
    trained: bool,
    walk: Walk,
}

impl Store {
    fn new(trained: bool) -> Self {
        Self { trained, walk: Walk::default() }
    }
}

impl ModuleMapper for Store {
    walks!();

    fn map_float<const D: usize>(&mut self, weight: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let round = |weight: Tensor<D>| weight.cast(DType::BF16);
        if !self.walk.linear_in(D).is_some_and(is_rounded) {
            return weight;
        }
        match self.trained {
            false => weight.init_mapper(round).load_mapper(round),
            true if weight.is_initialized() && weight.base().is_require_grad() => {
                weight.map(|weight| Tensor::from_inner(round(weight.inner())).require_grad())
            }
            true => weight,
        }
    }
}
