//! How a pair of CPU kernels becomes a differentiable operation of Burn.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, Flex, TensorMetadata,
};
use burn::tensor::{DType, Tensor};
use std::fmt::Debug;

/// A differentiable operation on `N` `f32` tensors, given by its two passes.
pub(super) trait Kernel<const N: usize>: Copy + Debug + Send + 'static {
    fn forward(self, inputs: [FlexTensor; N]) -> FlexTensor;

    /// Gradients of the inputs. One whose entry in `wanted` is false is not used and may be `None`.
    fn backward(self, inputs: [FlexTensor; N], grad: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];

    /// Whether backward reads the input at `index`. One that is not read is not kept alive.
    fn keeps(self, _index: usize) -> bool {
        true
    }
}

/// Whether the kernels of this module take `tensor`.
pub(super) fn is_native<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && is_on_cpu(tensor)
}

/// Whether `tensor` is Flex's, of whatever type.
pub(super) fn is_on_cpu<const D: usize>(tensor: &Tensor<D>) -> bool {
    matches!(tensor.device().inner().as_dispatch(), burn::backend::DispatchDevice::Flex(_))
}

/// Applies a kernel to tensors for which [`is_native`] holds, tracking gradients where an input does.
pub(super) fn apply<K: Kernel<N>, const N: usize>(kernel: K, inputs: [DispatchTensor; N]) -> DispatchTensor {
    let context = inputs.iter().fold(DispatchAutodiffContext::Disabled, |all, input| all.merge(input.autodiff));
    let inputs = inputs.map(|input| input.kind);
    let output = match context {
        DispatchAutodiffContext::Disabled => {
            DispatchTensorKind::Flex(BackendTensor::Float(kernel.forward(inputs.map(plain))))
        }
        DispatchAutodiffContext::Enabled(_) => {
            let output = apply_tracked(kernel, inputs.map(tracked));
            DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Flex(BackendTensor::Autodiff(output))))
        }
    };
    DispatchTensor { kind: output, autodiff: context }
}

/// What kernels compute with, of a tensor on the CPU without gradients.
pub(super) fn flex<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    plain(tensor.into_dispatch().kind)
}

/// The inverse of [`flex`].
pub(super) fn from_flex<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(tensor)
}

/// The storage of a tensor on the CPU.
pub(super) fn plain(tensor: DispatchTensorKind) -> FlexTensor {
    match tensor {
        DispatchTensorKind::Flex(tensor) => tensor.float(),
        other => panic!("expected a tensor on the flex device, found one on {:?}", other.device()),
    }
}

fn tracked(tensor: DispatchTensorKind) -> FloatTensor<Autodiff<Flex>> {
    match tensor {
        DispatchTensorKind::Autodiff(tensor) => match *tensor {
            DispatchTensorKind::Flex(tensor) => tensor.autodiff(),
            other => panic!("expected a tensor on the flex device, found one on {:?}", other.device()),
        },
        constant => FloatTensor::<Autodiff<Flex>>::new(plain(constant)),
    }
}

fn apply_tracked<K: Kernel<N>, const N: usize>(
    kernel: K,
    inputs: [FloatTensor<Autodiff<Flex>>; N],
) -> FloatTensor<Autodiff<Flex>> {
    let nodes = inputs.each_ref().map(FloatTensor::<Autodiff<Flex>>::node);
    let inputs = inputs.map(FloatTensor::<Autodiff<Flex>>::into_primitive);
    match Step(kernel).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => {
            let mut index = 0..N;
            let kept = inputs.each_ref().map(|input| {
                let keep = index.next().is_some_and(|index| kernel.keeps(index));
                if keep { input.clone() } else { shape_only(input) }
            });
            step.finish(kept, kernel.forward(inputs))
        }
        OpsKind::UnTracked(step) => step.finish(kernel.forward(inputs)),
    }
}

/// A tensor of the same shape without storage of its own.
fn shape_only(tensor: &FlexTensor) -> FlexTensor {
    let layout = burn::backend::flex::Layout::new(tensor.shape(), vec![0; tensor.shape().num_dims()], 0);
    FlexTensor::zeros([1].into(), DType::F32).with_layout(layout)
}

#[derive(Debug)]
struct Step<K>(K);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for Step<K> {
    type State = [FlexTensor; N];

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let inputs = self.0.backward(ops.state, grad, wanted);
        for (parent, grad) in ops.parents.into_iter().zip(inputs) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}
