//! Operations that choose what they keep for their backward pass, on every [`Native`] backend.

use std::fmt;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;

use super::native::{Native, on_native};

/// Most inputs of an operation.
pub(super) const INPUTS: usize = 8;

/// A differentiable operation on tensors of three axes, written with operations on tensors without gradients.
pub(super) trait Operation: Send + 'static {
    /// The output, and what the backward pass needs beside the inputs.
    fn forward(&self, inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>);

    /// The output by operations that Burn differentiates, for devices that are not [`Native`].
    fn composed(&self, inputs: Vec<Tensor<3>>) -> Tensor<3> {
        self.forward(inputs).0
    }

    /// How many of the first inputs the backward pass does not read: they are not kept.
    fn forgets(&self) -> usize {
        0
    }

    /// Gradients of all inputs from what was kept: the other inputs, then what [`forward`](Self::forward) gave beside its
    /// output. One whose entry in `wanted` is false is not used.
    fn backward(&self, kept: Vec<Tensor<3>>, gradient: Tensor<3>, wanted: &[bool]) -> Vec<Option<Tensor<3>>>;
}

/// The output of an operation, whose gradients are recorded where an input has some.
pub(super) fn apply<O: Operation>(operation: O, inputs: Vec<Tensor<3>>) -> Tensor<3> {
    if !inputs.iter().any(Tensor::is_tracked) {
        return operation.composed(inputs);
    }
    on_native!(inputs[0], B => record::<B, O>(operation, inputs), otherwise => operation.composed(inputs))
}

/// As [`apply`], of an operation whose forward pass takes tensors of `B` without gradients alone.
#[cfg(feature = "cube")]
pub(super) fn apply_kernel<B: Native, O: Operation>(operation: O, inputs: Vec<Tensor<3>>) -> Tensor<3> {
    let dtype = inputs[0].dtype();
    assert!(inputs.iter().all(|input| input.dtype() == dtype), "the tensors of an operation have one type");
    if inputs.iter().any(Tensor::is_autodiff) { record::<B, O>(operation, inputs) } else { operation.forward(inputs).0 }
}

fn record<B: Native, O: Operation>(operation: O, inputs: Vec<Tensor<3>>) -> Tensor<3> {
    assert!(inputs.len() <= INPUTS, "an operation has at most {INPUTS} inputs, found {}", inputs.len());
    let plain: Vec<_> = inputs.iter().map(|input| input.clone().inner()).collect();
    let mut kept: Vec<_> = plain[operation.forgets()..].iter().cloned().map(B::primitive).collect();
    // All operations have as many parents as the largest.
    let constant = B::tracked(plain[0].clone());
    let inputs: Vec<_> = inputs.into_iter().map(B::tracked).collect();
    let nodes = std::array::from_fn(|index| inputs.get(index).unwrap_or(&constant).node());
    drop((constant, inputs));
    let (output, also) = operation.forward(plain);
    kept.extend(also.into_iter().map(B::primitive));
    let output = B::primitive(output);
    B::whole(
        match Backward::<B, INPUTS>::prepare::<NoCheckpointing>(Step(operation), nodes).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(kept, output),
            OpsKind::UnTracked(step) => step.finish(output),
        },
    )
}

struct Step<O>(O);

impl<O> fmt::Debug for Step<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<O>())
    }
}

impl<B: Native, O: Operation> Backward<B, INPUTS> for Step<O> {
    type State = Vec<B::FloatTensorPrimitive>;

    fn backward(self, ops: Ops<Self::State, INPUTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = B::tensor(gradients.consume::<B>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = self.0.backward(ops.state.into_iter().map(B::tensor).collect(), gradient, &wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<B>(parent.id, B::primitive(gradient));
            }
        }
    }
}

/// A number whose gradient with respect to `value` is what `gradient` makes of the value: where a backward pass of one's own
/// goes on by Burn's.
pub(crate) fn seed<B: Native, const D: usize>(
    value: FloatTensor<Autodiff<B>>,
    gradient: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<1> {
    let (value, node) = value.into_parts();
    let value = B::tensor(value);
    let number = Tensor::<1>::zeros([1], &value.device());
    let (gradient, number) = (B::primitive(gradient(value)), B::primitive(number));
    B::whole(match Backward::<B, 1>::prepare::<NoCheckpointing>(Seed, [node]).compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(gradient, number),
        OpsKind::UnTracked(step) => step.finish(number),
    })
}

#[derive(Debug)]
struct Seed;

impl<B: Native> Backward<B, 1> for Seed {
    type State = B::FloatTensorPrimitive;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        // That of the number itself is one.
        gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, ops.state);
        }
    }
}
