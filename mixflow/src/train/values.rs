//! The values of a network's parameters, one by one.

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use mixflow_backbones::ops::squared_norm;

/// Tensors by their parameters, flat, in the order of the network.
pub(super) type Flat = Vec<(ParamId, Tensor<1>)>;

/// The squared norm of each gradient, with the parameter's place in the network.
pub(super) struct Norm<'a> {
    pub(super) gradients: &'a GradientsParams,
    pub(super) place: usize,
    pub(super) squares: Vec<(usize, Tensor<1>)>,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.squares.push((self.place, squared_norm(widened(gradient))));
        }
        self.place += 1;
    }
}

/// Gives every parameter the value that a function makes of its own.
pub(super) struct Replace<F>(pub(super) F);

impl<F: Fn(ParamId, Tensor<1>) -> Tensor<1>> ModuleMapper for Replace<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        param.map(|old| {
            let shape = old.dims();
            (self.0)(id, old.reshape([-1])).reshape(shape)
        })
    }
}

/// The values of all parameters.
pub(super) struct Values(pub(super) Flat);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push((param.id, flat(param.val())));
    }
}

/// Replaces trained parameters by the values that there are for them.
pub(super) struct SetValues<'a>(pub(super) &'a mut BTreeMap<ParamId, Tensor<1>>);

impl ModuleMapper for SetValues<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove(&param.id) {
            Some(value) => param.map(|old| Tensor::from_inner(value.reshape(old.dims())).require_grad()),
            None => param,
        }
    }
}

/// Gives gradients the precision that they are added up in.
pub(super) struct Widen<'a>(pub(super) &'a mut GradientsParams);

impl ModuleVisitor for Widen<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.0.remove::<D>(param.id) {
            self.0.register::<D>(param.id, widened(gradient));
        }
    }
}

pub(super) fn is_low<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::BF16
}

/// A tensor in 32 bits, if it had 16.
pub(super) fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if is_low(&tensor) { tensor.cast(DType::F32) } else { tensor }
}

/// The values of a tensor, outside of any graph.
pub(super) fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.reshape([-1])
}
