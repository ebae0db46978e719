//! Tensors as the automatic differentiation of their backend holds them.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};
use burn::tensor::Tensor;
#[cfg(feature = "cube")]
use burn::{backend::DispatchDevice, tensor::DType};

/// A backend on whose tensors operations of one's own are recorded.
pub(crate) trait Native: Backend {
    /// The tensor of a primitive, without gradients.
    fn tensor<const D: usize>(primitive: Self::FloatTensorPrimitive) -> Tensor<D>;

    /// The primitive of a tensor without gradients.
    fn primitive<const D: usize>(tensor: Tensor<D>) -> Self::FloatTensorPrimitive;

    /// The primitive of a tensor with its node in the graph; one without gradients is a constant.
    fn tracked<const D: usize>(tensor: Tensor<D>) -> FloatTensor<Autodiff<Self>>;

    /// The inverse of [`tracked`](Self::tracked).
    fn whole<const D: usize>(tensor: FloatTensor<Autodiff<Self>>) -> Tensor<D>;
}

macro_rules! native {
    ($backend:ty) => {
        impl Native for $backend {
            fn tensor<const D: usize>(primitive: Self::FloatTensorPrimitive) -> Tensor<D> {
                Tensor::from_primitive::<Self>(primitive)
            }

            fn primitive<const D: usize>(tensor: Tensor<D>) -> Self::FloatTensorPrimitive {
                tensor.try_into_primitive::<Self>().expect("the tensors of an operation are on one device")
            }

            fn tracked<const D: usize>(tensor: Tensor<D>) -> FloatTensor<Autodiff<Self>> {
                if !tensor.is_autodiff() {
                    return FloatTensor::<Autodiff<Self>>::new(Self::primitive(tensor));
                }
                tensor.try_into_primitive::<Autodiff<Self>>().expect("the tensors of an operation are on one device")
            }

            fn whole<const D: usize>(tensor: FloatTensor<Autodiff<Self>>) -> Tensor<D> {
                Tensor::from_primitive::<Autodiff<Self>>(tensor)
            }
        }
    };
}

native!(burn::backend::Flex);
#[cfg(feature = "cube")]
native!(burn::backend::Cube);

/// `run` with `B` the [`Native`] backend of a tensor: the CPU, or a GPU of this process. On other devices `otherwise`.
macro_rules! on_native {
    ($tensor:expr, $B:ident => $run:expr, otherwise => $otherwise:expr) => {
        match $tensor.device().inner().as_dispatch() {
            burn::backend::DispatchDevice::Flex(_) => {
                type $B = burn::backend::Flex;
                $run
            }
            #[cfg(feature = "cube")]
            burn::backend::DispatchDevice::Cube(_) => {
                type $B = burn::backend::Cube;
                $run
            }
            #[allow(unreachable_patterns, reason = "which devices there are is a matter of features")]
            _ => $otherwise,
        }
    };
}

/// Whether kernels for GPUs take a tensor: on a GPU of this process, of 16 or 32 bits, and small enough to be counted in 32 bits,
/// in which kernels count a little further than there are numbers.
#[cfg(feature = "cube")]
pub(super) fn is_on_gpu<const D: usize>(tensor: &Tensor<D>) -> bool {
    let is_float = matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16);
    let is_countable = tensor.shape().num_elements() <= 1 << 31;
    is_float && is_countable && matches!(tensor.device().inner().as_dispatch(), DispatchDevice::Cube(_))
}

/// `fused` where a tensor is on a GPU that this build has kernels for, else `composed`.
macro_rules! on_gpu {
    ($tensor:expr, $fused:expr, otherwise => $composed:expr) => {{
        #[cfg(feature = "cube")]
        let value = if super::native::is_on_gpu(&$tensor) { $fused } else { $composed };
        #[cfg(not(feature = "cube"))]
        let value = $composed;
        value
    }};
}

pub(super) use on_gpu;
pub(crate) use on_native;
