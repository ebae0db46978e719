//! The operations of this module on GPUs, in CubeCL: one source for CUDA, ROCm, Metal, Vulkan and WebGPU.
//!
//! Composed of Burn's operations a modulated norm is a dozen kernels that each read and write the whole tensor, and its
//! gradient three dozen; here it is one, and its gradient two. Kernels read and write the tensors' own type, of 16 or 32 bits,
//! in vectors as long as the device likes best of those that divide a row, and compute in 32. A device adds sums in an order that
//! depends on the shape alone.

#![allow(unused_qualifications, reason = "CubeCL's `terminate!` is written out with its path")]
#![allow(clippy::too_many_arguments, reason = "a kernel is given each tensor and number that it reads")]
#![allow(clippy::manual_is_multiple_of, reason = "kernels have no such method")]

mod activation;
mod adamw;
mod gate;
mod launch;
mod norm;
mod rotate;

pub(super) use activation::{Function, activate, swiglu};
pub(super) use adamw::step;
pub(super) use gate::{gate_backward, gated_residual};
pub(super) use norm::{affine_norm, modulated_norm, modulated_rms_norm, qk_rms_norm};
pub(super) use rotate::rotate;
