//! Activation functions.

use super::buffer::{contiguous, for_each_part, task_len, tensor, values};
#[cfg(feature = "cube")]
use super::cube;
use super::kernel::{Kernel, apply, is_native};
use super::native::on_gpu;
use super::simd::{exp, sigmoid, vectorized};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Tensor, activation};

/// GELU, `x Φ(x)` with the normal law's distribution function `Φ`, of the same shape as `x`.
///
/// # Source
/// Hendrycks & Gimpel 2016 (arXiv 1606.08415), section 2.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_native(&x) {
        return elementwise(x, gelu_exact, gelu_exact_backward);
    }
    on_gpu!(x, cube::activate(cube::Function::Gelu, x), otherwise => activation::gelu(x))
}

/// GELU in the tanh form, `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, of the same shape as `x`.
///
/// # Source
/// Hendrycks & Gimpel 2016 (arXiv 1606.08415), section 2.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_native(&x) {
        return elementwise(x, gelu_tanh_forward, gelu_tanh_backward);
    }
    on_gpu!(x, cube::activate(cube::Function::GeluTanh, x), otherwise => activation::gelu_approximate(x))
}

/// `x / (1 + exp(-x))`, of the same shape as `x`.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_native(&x) {
        return elementwise(x, silu_forward, silu_backward);
    }
    on_gpu!(x, cube::activate(cube::Function::Silu, x), otherwise => activation::silu(x))
}

type Forward = fn(&[f32], &mut [f32]);
/// Multiplies the gradient of the output by the derivative at the input.
type Derivative = fn(&[f32], &mut [f32]);

fn elementwise<const D: usize>(x: Tensor<D>, forward: Forward, derivative: Derivative) -> Tensor<D> {
    Tensor::from_dispatch(apply(Elementwise { forward, derivative }, [x.into_dispatch()]))
}

#[derive(Clone, Copy, Debug)]
struct Elementwise {
    forward: Forward,
    derivative: Derivative,
}

impl Kernel<1> for Elementwise {
    fn forward(self, [x]: [FlexTensor; 1]) -> FlexTensor {
        let x = contiguous(x);
        let len = task_len(1);
        let mut y = vec![0.0; values(&x).len()];
        for_each_part(&mut y, len, |index, y| (self.forward)(&values(&x)[index * len..][..y.len()], y));
        tensor(y, x.shape())
    }

    fn backward(self, [x]: [FlexTensor; 1], grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let (x, mut grad) = (contiguous(x), contiguous(grad));
        let len = task_len(1);
        for_each_part(grad.storage_mut::<f32>(), len, |index, grad| {
            (self.derivative)(&values(&x)[index * len..][..grad.len()], grad);
        });
        [Some(grad)]
    }
}

const ROOT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// Distribution function and density of the standard normal law, the first to 2e-7.
///
/// # Source
/// Abramowitz and Stegun 1964, formula 7.1.26 for the error function.
#[inline(always)]
fn normal_law(x: f32) -> (f32, f32) {
    const INVERSE_ROOT_2_PI: f32 = 0.398_942_3;
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let p = 1.061_405_4_f32;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let tail = 0.5 * p * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, INVERSE_ROOT_2_PI * bell)
}

vectorized! {
    fn gelu_exact(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * normal_law(x).0;
        }
    }

    fn gelu_exact_backward(x: &[f32], grad: &mut [f32]) {
        for (grad, &x) in grad.iter_mut().zip(x) {
            let (below, density) = normal_law(x);
            *grad *= below + x * density;
        }
    }

    fn gelu_tanh_forward(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            // (1 + tanh u) / 2 is the logistic function of 2u
            *y = x * sigmoid(2.0 * ROOT_2_OVER_PI * (x + CUBIC * x * x * x));
        }
    }

    fn gelu_tanh_backward(x: &[f32], grad: &mut [f32]) {
        for (grad, &x) in grad.iter_mut().zip(x) {
            let s = sigmoid(2.0 * ROOT_2_OVER_PI * (x + CUBIC * x * x * x));
            let d = 2.0 * ROOT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
            *grad *= s + x * s * (1.0 - s) * d;
        }
    }

    fn silu_forward(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * sigmoid(x);
        }
    }

    fn silu_backward(x: &[f32], grad: &mut [f32]) {
        for (grad, &x) in grad.iter_mut().zip(x) {
            let s = sigmoid(x);
            *grad *= s + x * s * (1.0 - s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn activations_are_their_compositions() {
        for shape in [[1, 1], [3, 17], [260, 300]] {
            check([shape], |[x]| gelu(x), |[x]| activation::gelu(x));
            check([shape], |[x]| gelu_tanh(x), |[x]| activation::gelu_approximate(x));
            check([shape], |[x]| silu(x), |[x]| activation::silu(x));
        }
    }
}
