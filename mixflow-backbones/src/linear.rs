//! Affine layer in the layout of the published checkpoints.

mod low_rank;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};

use crate::init::Initializer;
use crate::ops::{self, Recomputed};
use crate::walk::{Walk, walks};

pub use low_rank::LowRank;

/// `y = x Wᵀ + b`, or `x Wᵀ`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`, as PyTorch stores it.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`, of layers that have one.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// The same layer with its weight alone.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// # Shapes
    /// - x: `[..., inputs]`
    /// - output: `[..., outputs]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        match self.adapter() {
            Some(adapter) => ops::linear(x.clone(), self.weight.base(), bias) + adapter.forward(x),
            None => ops::linear(x, self.weight.val(), bias),
        }
    }

    /// What is trained beside the weight, if that is frozen.
    fn adapter(&self) -> Option<&LowRank> {
        self.weight.reparameterization()
    }

    /// [`forward`](Self::forward) of what is computed again for the backward pass: `[batch, tokens, inputs]` to
    /// `[batch, tokens, outputs]`.
    pub fn forward_of(&self, x: impl Into<Recomputed>) -> Recomputed {
        Self::forward_all([self], x)
    }

    /// The output of a layer that has an adapter, or stands beside one that has. Where the weight is stored in 16 bits it is without
    /// the bias, and kept in 16 bits as a product is. One that is trained multiplies in `f32` there. Otherwise the adapter is part of
    /// the one product: added to numbers that are rounded already, a small one would be lost when the sum is rounded.
    fn adapted(&self, x: Recomputed) -> Tensor<3> {
        let low = self.is_stored_low();
        if let Some(adapter) = self.adapter().filter(|adapter| low && adapter.is_frozen()) {
            let (x, weight) = adapter.beside(x.value(), self.weight.base());
            return ops::product_of(x.into(), weight, None);
        }
        let bias = self.bias.as_ref().filter(|_| !low).map(Param::val);
        let product = ops::product_of(x.clone(), self.weight.base(), bias);
        match self.adapter() {
            Some(adapter) if low => {
                let beside = adapter.forward_of(x.map(|x| x.cast(DType::F32)));
                (product.cast(DType::F32) + beside).cast(DType::BF16)
            }
            Some(adapter) => product + adapter.forward_of(x),
            None => product,
        }
    }

    fn is_stored_low(&self) -> bool {
        self.weight.base().dtype() == DType::BF16
    }

    /// The outputs of several layers one behind the other, `[batch, tokens, sum of outputs]`, by one product: there are more
    /// tokens in a batch than rows in a weight, so that the weights are what to put together. All of them have a bias, or none.
    pub fn forward_all<const N: usize>(layers: [&Self; N], x: impl Into<Recomputed>) -> Recomputed {
        let x = x.into();
        let bias = || {
            let biases: Vec<_> = layers.iter().filter_map(|layer| layer.bias.as_ref().map(Param::val)).collect();
            (!biases.is_empty()).then(|| together(biases, 0))
        };
        if layers.iter().all(|layer| layer.adapter().is_none()) {
            return ops::linear_of(x, together(layers.map(|layer| layer.weight.val()).into(), 0), bias());
        }
        let outputs = together(layers.map(|layer| layer.adapted(x.clone())).into(), 2);
        if layers[0].is_stored_low() { ops::widened(outputs, bias()) } else { outputs.into() }
    }
}

impl Initializer {
    /// Linear layer with Xavier-uniform weights and zero bias.
    pub fn xavier_linear(&self, inputs: usize, outputs: usize) -> Linear {
        Linear { weight: self.xavier([outputs, inputs]), bias: Some(self.zeros([outputs])) }
    }

    /// Linear layer as PyTorch draws it unless told otherwise: weight and bias `U(-a, a)` with `a = 1 / √inputs`.
    ///
    /// # Source
    /// PyTorch, `torch.nn.Linear.reset_parameters`.
    pub fn pytorch_linear(&self, inputs: usize, outputs: usize) -> Linear {
        let bound = (inputs as f64).powf(-0.5);
        Linear { weight: self.uniform([outputs, inputs], bound), bias: Some(self.uniform([outputs], bound)) }
    }

    /// Linear layer with weights `N(0, std²)` and zero bias.
    pub fn normal_linear(&self, inputs: usize, outputs: usize, std: f64) -> Linear {
        Linear { weight: self.normal([outputs, inputs], std), bias: Some(self.zeros([outputs])) }
    }

    /// Linear layer of zeros: a branch that starts silent.
    pub fn zero_linear(&self, inputs: usize, outputs: usize) -> Linear {
        Linear { weight: self.zeros([outputs, inputs]), bias: Some(self.zeros([outputs])) }
    }
}

fn together<const D: usize>(mut tensors: Vec<Tensor<D>>, axis: usize) -> Tensor<D> {
    if tensors.len() == 1 { tensors.remove(0) } else { Tensor::cat(tensors, axis) }
}

/// Where a network has a linear layer.
pub(crate) struct Place {
    /// Of its weight, as Burn walks there.
    pub(crate) path: String,
    /// The same without the variants of enums, which are no part of names in files.
    pub(crate) key: String,
    /// The type that the layer lies in.
    pub(crate) part: String,
    /// Of its weight, `[outputs, inputs]`.
    pub(crate) shape: [usize; 2],
}

/// All linear layers of a network, in its order.
pub(crate) fn places(network: &impl Module) -> Vec<Place> {
    let mut find = Find { walk: Walk::default(), found: vec![] };
    network.visit(&mut find);
    find.found
}

struct Find {
    walk: Walk,
    found: Vec<Place>,
}

impl ModuleVisitor for Find {
    walks!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(part) = self.walk.linear_in(D) {
            let shape = param.lazy_shape();
            let (path, key, part) = (self.walk.path(), self.walk.key(), part.to_owned());
            self.found.push(Place { path, key, part, shape: [shape[0], shape[1]] });
        }
    }
}
