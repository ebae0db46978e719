//! The operations a network spends its time in, each with one forward and one backward pass.
//!
//! In `f32` on the CPU ([`Flex`](burn::backend::Flex)) an operation runs a kernel of this module, forward and backward,
//! without intermediate tensors. On a GPU of this process (feature `cube`) norms, gates, activations, rotary places and
//! [`AdamW`] run kernels in CubeCL, in 16 or 32 bits. Everywhere else, other devices and other types, the same function
//! composes Burn's operations. All compute the same mathematics; the tests compare kernels of the CPU with the composition and
//! with finite differences, the self-test of `mixflow` those of a GPU with the CPU's. What is here for the CPU was measured to be
//! faster than Burn's: `mixflow/benches/README.md`; what is here for GPUs reads and writes memory less often.
//!
//! Results do not depend on the number of threads: work is cut into pieces of fixed size and partial sums are added in
//! order. First derivatives only: differentiating a gradient again panics.

mod activation;
mod adamw;
mod adamw_update;
mod attention;
mod buffer;
mod conv;
#[cfg(feature = "cube")]
mod cube;
mod dropout;
mod gemm;
mod group_norm;
mod kernel;
mod linear;
pub(crate) mod native;
pub(crate) mod node;
mod norm;
mod pool;
mod qk_norm;
mod read;
mod recomputed;
mod residual;
mod rms_norm;
mod rotate;
mod simd;
mod swiglu;
#[cfg(test)]
mod testing;
mod upsample;

pub use activation::{gelu, gelu_tanh, silu};
pub use adamw::{AdamW, AdamWState};
pub use adamw_update::squared_norm;
pub use attention::{attention, attention_of};
pub use conv::{Window, conv2d};
pub use dropout::{Dropped, dropout};
pub use group_norm::{group_norm, group_norm_silu};
pub use linear::{linear, linear_of, product_of, widened};
pub use norm::{affine_layer_norm, layer_norm, modulated_layer_norm};
pub use pool::{average_pool2d, max_pool2d};
pub use qk_norm::qk_rms_norm;
pub use read::read;
pub use recomputed::Recomputed;
pub use residual::{gated_residual, gated_residual_of};
pub use rms_norm::modulated_rms_norm;
pub use rotate::{Pairs, rotate};
pub use swiglu::swiglu;
pub use upsample::upsample;
