//! The operations of this module on GPUs, in CubeCL: one source for CUDA, ROCm, Metal, Vulkan and WebGPU.
//!
//! Composed of Burn's operations a modulated norm is a dozen kernels that each read and write the whole tensor, and its
//! gradient three dozen; here it is one, and its gradient two. Kernels read and write the tensors' own type, of 16 or 32 bits,
//! and compute in 32. Sums are added in an order that depends on the shape alone.

#![allow(unused_qualifications, reason = "CubeCL's `terminate!` is written out with its path")]
#![allow(clippy::too_many_arguments, reason = "a kernel is given each tensor and number that it reads")]

mod activation;
mod adamw;
mod gate;
mod launch;
mod norm;
mod rotate;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Tensor};

pub(super) use activation::{Function, activate, swiglu};
pub(super) use adamw::step;
pub(super) use gate::{gate_backward, gated_residual};
pub(super) use norm::{affine_norm, modulated_norm, modulated_rms_norm, qk_rms_norm};
pub(super) use rotate::rotate;

/// Whether these kernels take `tensor`: on a GPU of this process, of 16 or 32 bits.
pub(super) fn takes<const D: usize>(tensor: &Tensor<D>) -> bool {
    let is_float = matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16);
    is_float && matches!(tensor.device().inner().as_dispatch(), DispatchDevice::Cube(_))
}
