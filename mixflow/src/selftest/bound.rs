//! How far apart two computations may be.

/// What follows from a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rounding explains it.
    Agrees,
    /// The device's products of `f32` take 11 bits (TF32), which explains it.
    Tf32,
    /// It computes something else.
    Fails,
}

/// What is compared and how far apart it may be, in the units of [`Finding::difference`](super::Finding::difference).
#[derive(Clone, Copy)]
pub(super) struct Bound {
    pub(super) what: &'static str,
    /// By the rounding of the numbers that it is computed in.
    pub(super) allowed: f64,
    /// On a device whose products of `f32` take TF32.
    pub(super) tf32: f64,
}

// Rounding to `f32` errs by up to 2⁻²⁴ = 6e-8. A product sums some hundred terms, a network is some dozen operations, and
// two devices add in another order and approximate functions by a few units in the last place: 1e-6 is usual. Rounding to
// TF32 errs by up to 2⁻¹¹ = 5e-4, to bf16 by 2⁻⁸ = 4e-3, and a network by about as much: on the CPU in bf16 by up to 1.1e-3,
// its gradients by 3.5e-3.

pub(super) const PRODUCTS: Bound = Bound { what: "matrix products", allowed: 1e-5, tf32: 1e-3 };
pub(super) const FUNCTIONS: Bound = Bound { what: "functions", allowed: 1e-5, tf32: 1e-5 };
/// Single ones.
pub(super) const OPERATIONS: Bound = Bound { what: "operations", allowed: 1e-5, tf32: 1e-5 };
/// One formula on numbers of its own.
pub(super) const ADAMW: Bound = Bound { what: "AdamW", allowed: 1e-5, tf32: 1e-5 };
/// Beside the CPU's in `f32`, of numbers that are rounded to bf16 in both.
pub(super) const BF16_OPERATIONS: Bound = Bound { what: "operations in bf16", allowed: 1e-2, tf32: 1e-2 };
pub(super) const OUTPUT: Bound = Bound { what: "output", allowed: 1e-5, tf32: 5e-3 };
/// Twice the operations, and the worst of all parameters.
pub(super) const GRADIENTS: Bound = Bound { what: "gradients", allowed: 5e-5, tf32: 2.5e-2 };
/// How weights and average moved, which is small beside the weights, so that their rounding counts too.
pub(super) const STEPS: Bound = Bound { what: "five training steps", allowed: 2.5e-4, tf32: 1e-1 };
/// The same kernels again, if autotune stays with them: as far apart as gradients may be.
pub(super) const RECOMPUTED: Bound = Bound { what: "gradients, recomputed", ..GRADIENTS };
pub(super) const BF16_OUTPUT: Bound = Bound { what: "output in bf16", allowed: 1e-2, tf32: 1e-2 };
/// The same steps in bf16, updated by the CPU. Where it rounds otherwise, a weight can be rounded to its other neighbour.
pub(super) const OFFLOADED: Bound = Bound { what: "training steps, offloaded", allowed: 2e-2, tf32: 2e-2 };
pub(super) const BF16_GRADIENTS: Bound = Bound { what: "gradients in bf16", allowed: 2e-2, tf32: 2e-2 };

impl Bound {
    pub(super) fn verdict(self, difference: f64, tf32: bool) -> Verdict {
        match difference {
            d if d <= self.allowed => Verdict::Agrees,
            d if tf32 && d <= self.tf32 => Verdict::Tf32,
            _ => Verdict::Fails,
        }
    }
}
