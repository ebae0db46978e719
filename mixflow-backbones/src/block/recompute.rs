//! A block that is run again for its gradient.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, BackendTensor, DispatchDevice, DispatchKindConversion, DispatchTensor, DispatchTensorKind, Flex,
    TensorMetadata,
};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

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
    match x.device().inner().as_dispatch() {
        DispatchDevice::Flex(_) => tracked::<Flex, M, _>(module, x, condition, forward),
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => tracked::<burn::backend::Cube, M, _>(module, x, condition, forward),
        #[allow(unreachable_patterns, reason = "which devices there are is a matter of features")]
        _ => forward(module, x, condition),
    }
}

fn tracked<B: Native, M: Module + 'static, F>(module: &M, x: Tensor<3>, condition: Tensor<3>, forward: F) -> Tensor<3>
where
    F: Fn(&M, Tensor<3>, Tensor<3>) -> Tensor<3> + Send + 'static,
    DispatchTensor: DispatchKindConversion<B>,
{
    let mut leaves = Leaves::<B>(HashMap::new(), PhantomData);
    module.visit(&mut leaves);
    let again = Again { module: module.valid(), forward, leaves: leaves.0 };
    let output = (again.forward)(&again.module, x.clone().inner(), condition.clone().inner());
    let output = output.try_into_primitive::<B>().expect("a block stays on its device");

    let (x, condition) = (x.into_dispatch(), condition.into_dispatch());
    let autodiff = x.autodiff.merge(condition.autodiff);
    let (x, condition) = (B::tracked(x.kind), B::tracked(condition.kind));
    let nodes = [x.node(), condition.node()];
    let kept = [x.into_primitive(), condition.into_primitive()];
    let output = match Backward::<B, 2>::prepare::<NoCheckpointing>(again, nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(kept, output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_dispatch(DispatchTensor { kind: B::whole(output), autodiff })
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
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = [B::FloatTensorPrimitive; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = Tensor::<3>::from_primitive::<B>(gradients.consume::<B>(&ops.node));
        let [x, condition] = ops.state.map(|input| Tensor::<3>::from_primitive::<B>(input).autodiff().require_grad());
        // Its own leaves: with those of the graph outside, both graphs would be one.
        let module = self.module.train();
        let output = (self.forward)(&module, x.clone(), condition.clone());
        let mut inner = (output * gradient.autodiff()).sum().backward();
        for (parent, input) in ops.parents.into_iter().zip([x, condition]) {
            if let (Some(parent), Some(gradient)) = (parent, input.grad_remove(&mut inner)) {
                gradients.register::<B>(parent.id, primitive(gradient));
            }
        }
        module.visit(&mut Hand::<B> { from: inner, to: gradients, leaves: &self.leaves, backend: PhantomData });
    }
}

fn primitive<B: Native, const D: usize>(tensor: Tensor<D>) -> B::FloatTensorPrimitive
where
    DispatchTensor: DispatchKindConversion<B>,
{
    tensor.try_into_primitive::<B>().expect("gradients are on the device of their tensors")
}

/// Finds the nodes of trained parameters.
struct Leaves<B>(HashMap<ParamId, NodeId>, PhantomData<B>);

impl<B: Native> ModuleVisitor for Leaves<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.base().is_require_grad() {
            self.0.insert(param.id, B::tracked(param.base().into_dispatch().kind).id());
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

impl<B: Native> ModuleVisitor for Hand<'_, B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let (Some(&leaf), Some(gradient)) = (self.leaves.get(&param.id), param.base().grad_remove(&mut self.from)) {
            self.to.register::<B>(leaf, primitive(gradient));
        }
    }
}

/// A backend whose tensors can be taken out of Burn's dispatch and put back.
trait Native: Backend + Any {
    fn tracked(tensor: DispatchTensorKind) -> FloatTensor<Autodiff<Self>>;
    fn whole(tensor: FloatTensor<Autodiff<Self>>) -> DispatchTensorKind;
}

macro_rules! native {
    ($variant:ident, $backend:ty) => {
        impl Native for $backend {
            fn tracked(tensor: DispatchTensorKind) -> FloatTensor<Autodiff<Self>> {
                match tensor {
                    DispatchTensorKind::Autodiff(tensor) => match *tensor {
                        DispatchTensorKind::$variant(tensor) => tensor.autodiff(),
                        other => panic!("expected a tensor of the block's device, found one on {:?}", other.device()),
                    },
                    constant => panic!("expected a tracked tensor, found a constant on {:?}", constant.device()),
                }
            }

            fn whole(tensor: FloatTensor<Autodiff<Self>>) -> DispatchTensorKind {
                let tensor = DispatchTensorKind::$variant(BackendTensor::Autodiff(tensor));
                DispatchTensorKind::Autodiff(Box::new(tensor))
            }
        }
    };
}

native!(Flex, Flex);
#[cfg(feature = "cube")]
native!(Cube, burn::backend::Cube);
