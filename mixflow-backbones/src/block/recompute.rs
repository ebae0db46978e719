//! A block that is run again for its gradient.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use crate::ops::native::{Native, on_native};
use crate::ops::node::seed;

/// `forward(module, x, condition)`, of which nothing but both inputs is kept for the backward pass: that runs it again, and
/// gives the same gradients bit for bit where the device computes the same again.
///
/// Costs the time of one more forward pass. On devices that are neither the CPU nor a GPU of this process it is the forward
/// pass alone.
///
/// # Shapes
/// - x, condition and output: any
///
/// # Source
/// Chen et al. 2016 (arXiv 1604.06174), section 3.
pub fn recompute<M: Module + 'static>(
    module: &M,
    x: Tensor<3>,
    condition: Tensor<3>,
    forward: impl Fn(&M, Tensor<3>, Tensor<3>) -> Tensor<3> + Send + 'static,
) -> Tensor<3> {
    if !x.is_autodiff() || !condition.is_autodiff() {
        return forward(module, x, condition);
    }
    on_native!(
        x,
        B => tracked::<B, M, _>(module, x, condition, forward),
        otherwise => forward(module, x, condition)
    )
}

fn tracked<B: Native, M: Module + 'static, F>(module: &M, x: Tensor<3>, condition: Tensor<3>, forward: F) -> Tensor<3>
where
    F: Fn(&M, Tensor<3>, Tensor<3>) -> Tensor<3> + Send + 'static,
{
    let mut leaves = Leaves::<B>(HashMap::new(), PhantomData);
    module.visit(&mut leaves);
    let trains = !leaves.0.is_empty();
    let again = Again { module: module.valid(), forward, leaves: leaves.0 };
    let output = B::primitive((again.forward)(&again.module, x.clone().inner(), condition.clone().inner()));

    let [mut x, condition] = [x, condition].map(B::tracked);
    // What lies before the first adapter of a network is frozen, but the block's own is trained.
    if trains && !x.is_tracked() && !condition.is_tracked() {
        x = x.require_grad();
    }
    let nodes = [x.node(), condition.node()];
    let kept = [x.into_primitive(), condition.into_primitive()];
    B::whole(match Backward::<B, 2>::prepare::<NoCheckpointing>(again, nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(kept, output),
        OpsKind::UnTracked(step) => step.finish(output),
    })
}

/// What runs a block again. Gradients of its parameters are given to their nodes, so that the operation has two inputs
/// whatever the block holds.
struct Again<M, F> {
    module: M,
    forward: F,
    leaves: HashMap<ParamId, NodeId>,
}

impl<M, F> fmt::Debug for Again<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Again").field("leaves", &self.leaves.len()).finish_non_exhaustive()
    }
}

impl<B: Native, M: Module + 'static, F> Backward<B, 2> for Again<M, F>
where
    F: Fn(&M, Tensor<3>, Tensor<3>) -> Tensor<3> + Send + 'static,
{
    type State = [B::FloatTensorPrimitive; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = B::tensor::<3>(gradients.consume::<B>(&ops.node));
        let [x, condition] = ops.state.map(|input| B::tensor::<3>(input).autodiff().require_grad());
        // Its own leaves: with those of the graph outside, both graphs would be one.
        let module = self.module.train();
        let output = B::tracked((self.forward)(&module, x.clone(), condition.clone()));
        let mut inner = seed::<B, 3>(output, |_| gradient).backward();
        for (parent, input) in ops.parents.into_iter().zip([x, condition]) {
            if let Some(parent) = parent {
                // What comes before it waits for a gradient, also where the block did not look at it.
                let gradient = input.grad_remove(&mut inner).unwrap_or_else(|| input.inner().zeros_like());
                gradients.register::<B>(parent.id, B::primitive(gradient));
            }
        }
        module.visit(&mut Hand::<B> { from: inner, to: gradients, leaves: &self.leaves, backend: PhantomData });
    }
}

/// Finds the nodes of trained parameters.
struct Leaves<B>(HashMap<ParamId, NodeId>, PhantomData<B>);

impl<B: Native> ModuleVisitor for Leaves<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.base().is_require_grad() {
            self.0.insert(param.id, B::tracked(param.base()).id());
        }
    }
}

/// Hands gradients of parameters from the graph inside to that outside.
struct Hand<'a, B> {
    from: burn::tensor::Gradients,
    to: &'a mut Gradients,
    leaves: &'a HashMap<ParamId, NodeId>,
    backend: PhantomData<B>,
}

impl<B: Native> ModuleVisitor for Hand<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let (Some(&leaf), Some(gradient)) = (self.leaves.get(&param.id), param.base().grad_remove(&mut self.from)) {
            self.to.register::<B>(leaf, B::primitive(gradient));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::Linear;
    use crate::init::{Initializer, laws::numbers};

    #[test]
    fn a_condition_that_is_not_looked_at_has_no_gradient() {
        let device = &Device::flex().autodiff();
        let layer: Linear = Initializer::new(0, device).pytorch_linear(4, 4);
        let [x, told] = [[2, 3, 4], [2, 1, 4]].map(|shape| numbers::<3>(shape, device).require_grad());
        let y = recompute(&layer, x.clone() * 2.0, told.clone() * 3.0, |layer, x, _| layer.forward(x));
        let again = (layer.forward(x.clone() * 2.0)).sum().backward();
        let gradients = y.sum().backward();
        assert_eq!(x.grad(&gradients).map(Tensor::into_data), x.grad(&again).map(Tensor::into_data));
        assert_eq!(told.grad(&gradients).map(|none| none.abs().max().into_scalar::<f32>()), Some(0.0));
    }
}
