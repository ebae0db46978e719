//! Affine layer in the layout of the published checkpoints.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::lora::LowRank;
use crate::ops::{self, Recomputed};

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
        let (x, bias) = (x.into(), self.bias.as_ref().map(Param::val));
        match self.adapter() {
            Some(adapter) => {
                let beside = adapter.forward_of(x.clone());
                (ops::linear_of(x, self.weight.base(), bias).value() + beside).into()
            }
            None => ops::linear_of(x, self.weight.val(), bias),
        }
    }

    /// The outputs of several layers one behind the other, `[batch, tokens, sum of outputs]`, by one product: there are more
    /// tokens in a batch than rows in a weight, so that the weights are what to put together. All of them have a bias, or none.
    pub fn forward_all<const N: usize>(layers: [&Self; N], x: impl Into<Recomputed>) -> Recomputed {
        let x = x.into();
        if layers.iter().any(|layer| layer.adapter().is_some()) {
            return Tensor::cat(layers.map(|layer| layer.forward_of(x.clone()).value()).into(), 2).into();
        }
        let weight = Tensor::cat(layers.map(|layer| layer.weight.val()).into(), 0);
        let biases: Vec<_> = layers.iter().filter_map(|layer| layer.bias.as_ref().map(Param::val)).collect();
        ops::linear_of(x, weight, (!biases.is_empty()).then(|| Tensor::cat(biases, 0)))
    }
}
