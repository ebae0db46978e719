//! Tensors that are computed again for the backward pass.

use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::native::{Native, on_native};
use super::node::{INPUTS, Operation, apply, seed};

/// A tensor `[batch, tokens, width]` as a function of others. What needs it for its backward pass keeps those in its place,
/// and computes it again: a layer behind a normalisation or an activation keeps what these are given, and gradients are the
/// same bit for bit where the device computes the same again.
///
/// Made for functions that cost little beside a matrix product, of tensors that are kept anyway or are smaller: rounded to 16
/// bits, or one for all tokens.
///
/// # Source
/// Chen et al. 2016 (arXiv 1604.06174), section 3.
#[derive(Clone)]
pub struct Recomputed {
    pub(super) inputs: Vec<Tensor<3>>,
    pub(super) function: Function,
}

type Computation = dyn Fn(Vec<Tensor<3>>) -> Tensor<3> + Send + Sync;

/// How a [`Recomputed`] is computed; none for a tensor as it is.
#[derive(Clone)]
pub(super) struct Function(Option<Arc<Computation>>);

impl Recomputed {
    /// `function(inputs)`. The function holds no tensor that has a gradient.
    pub fn new<const N: usize>(
        inputs: [Tensor<3>; N],
        function: impl Fn([Tensor<3>; N]) -> Tensor<3> + Send + Sync + 'static,
    ) -> Self {
        Self { inputs: inputs.into(), function: Function(Some(Arc::new(move |inputs| function(array(inputs))))) }
    }

    /// The tensor after `f`.
    #[must_use]
    pub fn map(self, f: impl Fn(Tensor<3>) -> Tensor<3> + Send + Sync + 'static) -> Self {
        self.map_with([], move |x, []| f(x))
    }

    /// `f` of it and more tensors, which are kept, too; with more than eight in all, its own value instead of what it is a
    /// function of.
    #[must_use]
    pub fn map_with<const N: usize>(
        self,
        more: [Tensor<3>; N],
        f: impl Fn(Tensor<3>, [Tensor<3>; N]) -> Tensor<3> + Send + Sync + 'static,
    ) -> Self {
        if self.inputs.len() > 1 && self.inputs.len() + N > INPUTS {
            return Self::from(self.value()).map_with(more, f);
        }
        let Self { mut inputs, function } = self;
        let own = inputs.len();
        inputs.extend(more);
        let composed = move |mut inputs: Vec<Tensor<3>>| {
            let more = array(inputs.split_off(own));
            f(function.value(inputs), more)
        };
        Self { inputs, function: Function(Some(Arc::new(composed))) }
    }

    /// `f` of it and another. What the two are functions of is kept; of more than eight tensors, the values of the two.
    #[must_use]
    pub fn zip_map(self, other: Self, f: impl Fn(Tensor<3>, Tensor<3>) -> Tensor<3> + Send + Sync + 'static) -> Self {
        if self.inputs.len() + other.inputs.len() > INPUTS {
            return Self::from(self.value()).zip_map(other.value().into(), f);
        }
        let (Self { mut inputs, function }, own) = (self, other.function);
        let first = inputs.len();
        inputs.extend(other.inputs);
        let composed = move |mut inputs: Vec<Tensor<3>>| {
            let second = own.value(inputs.split_off(first));
            f(function.value(inputs), second)
        };
        Self { inputs, function: Function(Some(Arc::new(composed))) }
    }

    /// The tensor, for whose own gradient no more is kept than what it is a function of.
    pub fn value(self) -> Tensor<3> {
        match self.function.0 {
            Some(_) => apply(Value { function: self.function }, self.inputs),
            None => self.function.value(self.inputs),
        }
    }
}

impl From<Tensor<3>> for Recomputed {
    fn from(tensor: Tensor<3>) -> Self {
        Self { inputs: vec![tensor], function: Function(None) }
    }
}

impl fmt::Debug for Recomputed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recomputed").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

fn array<const N: usize>(tensors: Vec<Tensor<3>>) -> [Tensor<3>; N] {
    tensors.try_into().expect("a function is given as many tensors as it was made of")
}

impl Function {
    pub(super) fn value(&self, mut inputs: Vec<Tensor<3>>) -> Tensor<3> {
        match &self.0 {
            Some(function) => function(inputs),
            None => inputs.remove(0),
        }
    }

    /// Gradients of the inputs, those in `wanted`, from the gradient that `gradient` makes of the value computed again:
    /// none if it is not wanted.
    pub(super) fn pull_back(
        &self,
        inputs: Vec<Tensor<3>>,
        wanted: &[bool],
        gradient: impl FnOnce(Tensor<3>) -> Option<Tensor<3>>,
    ) -> Vec<Option<Tensor<3>>> {
        if self.0.is_none() {
            return vec![gradient(self.value(inputs))];
        }
        let leaf = |(x, wanted): (Tensor<3>, &bool)| if *wanted { x.autodiff().require_grad() } else { x };
        let leaves: Vec<_> = inputs.into_iter().zip(wanted).map(leaf).collect();
        let value = self.value(leaves.clone());
        if !value.is_tracked() {
            gradient(value.inner());
            return vec![None; leaves.len()];
        }
        let gradient = |value| gradient(value).expect("a gradient that is wanted is computed");
        let seed = on_native!(
            value,
            B => seed::<B, 3>(B::tracked(value), gradient),
            otherwise => unreachable!("operations are recorded on native devices alone")
        );
        let mut found = seed.backward();
        leaves.iter().map(|leaf| leaf.grad_remove(&mut found)).collect()
    }
}

struct Value {
    function: Function,
}

impl Operation for Value {
    fn forward(&self, inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        (self.function.value(inputs), vec![])
    }

    fn backward(&self, kept: Vec<Tensor<3>>, gradient: Tensor<3>, wanted: &[bool]) -> Vec<Option<Tensor<3>>> {
        self.function.pull_back(kept, wanted, |_| Some(gradient))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::super::testing::check;
    use super::super::{gated_residual, gated_residual_of, gelu_tanh, layer_norm, linear, linear_of};
    use super::*;
    use crate::init::laws::numbers;

    /// Of x, weight and a shift of all tokens.
    fn shifted([x, shift]: [Tensor<3>; 2]) -> Recomputed {
        Recomputed::new([x, shift], |[x, shift]| layer_norm(x, 1e-2) + shift).map(gelu_tanh)
    }

    #[test]
    fn what_is_computed_again_has_the_same_gradients() {
        for (batch, tokens, width, outputs) in [(1, 1, 2, 1), (2, 5, 17, 6), (3, 70, 64, 130)] {
            let (x, shift) = ([batch, tokens, width], [batch, 1, width]);
            check([x, shift], |inputs| shifted(inputs).value(), |[x, shift]| gelu_tanh(layer_norm(x, 1e-2) + shift));
            check(
                [x, shift, [1, outputs, width], [1, 1, outputs]],
                |[x, shift, weight, bias]| {
                    linear_of(shifted([x, shift]), weight.squeeze_dim(0), Some(bias.flatten(0, 2))).value()
                },
                |[x, shift, weight, bias]| {
                    let x = gelu_tanh(layer_norm(x, 1e-2) + shift);
                    linear(x, weight.squeeze_dim(0), Some(bias.flatten(0, 2)))
                },
            );
            check(
                [x, shift, x, shift],
                |[x, shift, y, gate]| gated_residual_of(x, shifted([y, shift]), gate.squeeze_dim(1)),
                |[x, shift, y, gate]| gated_residual(x, gelu_tanh(layer_norm(y, 1e-2) + shift), gate.squeeze_dim(1)),
            );
            check(
                [x, shift, shift],
                |[x, a, b]| shifted([x.clone(), a]).zip_map(shifted([x, b]), |a, b| Tensor::cat(vec![a, b], 1)).value(),
                |[x, a, b]| {
                    let one = |shift| gelu_tanh(layer_norm(x.clone(), 1e-2) + shift);
                    Tensor::cat(vec![one(a), one(b)], 1)
                },
            );
        }
    }

    #[test]
    fn what_has_no_gradient_gets_none() {
        let random = |shape| numbers::<3>(shape, &Device::flex());
        let (x, shift, weight) = (random([2, 5, 8]), random([2, 1, 8]), random([1, 3, 8]));
        let trained = |tensor: &Tensor<3>| tensor.clone().autodiff().require_grad();
        let (some_shift, some_weight) = (trained(&shift), trained(&weight));
        // A layer alone, and what is before it alone.
        let layer = |shift: &Tensor<3>, weight: &Tensor<3>| {
            linear_of(shifted([x.clone(), shift.clone()]), weight.clone().squeeze_dim(0), None).value().sum().backward()
        };
        let (of_weight, of_shift) = (layer(&shift, &some_weight), layer(&some_shift, &weight));
        assert!(some_weight.grad(&of_weight).is_some() && some_shift.grad(&of_weight).is_none());
        assert!(some_shift.grad(&of_shift).is_some() && some_weight.grad(&of_shift).is_none());
        let both = layer(&some_shift, &some_weight);
        for (tensor, alone) in [(&some_weight, &of_weight), (&some_shift, &of_shift)] {
            assert_eq!(tensor.grad(alone).unwrap().into_data(), tensor.grad(&both).unwrap().into_data());
        }
    }
}
