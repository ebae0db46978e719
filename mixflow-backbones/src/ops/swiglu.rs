//! The gate of a `SwiGLU` perceptron.

use super::buffer::{contiguous, for_each_part, task_len, tensor, values};
use super::kernel::{Kernel, apply, is_native};
use super::native::on_gpu;
use super::simd::{sigmoid, vectorized};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Tensor, activation};

/// SiLU of the first half of the last axis, times the second half.
///
/// # Shapes
/// - x: `[.., 2 hidden]`
/// - returns: `[.., hidden]`
///
/// # Source
/// Shazeer 2020 (arXiv 2002.05202), equation 5.
pub fn swiglu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    assert!(x.dims()[D - 1].is_multiple_of(2), "swiglu: {:?} has no two halves", x.dims());
    if !is_native(&x) {
        return on_gpu!(x, super::cube::swiglu(x), otherwise => composed(x));
    }
    Tensor::from_dispatch(apply(SwiGlu, [x.into_dispatch()]))
}

fn composed<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let hidden = x.dims()[D - 1] / 2;
    activation::silu(x.clone().narrow(D - 1, 0, hidden)) * x.narrow(D - 1, hidden, hidden)
}

#[derive(Clone, Copy, Debug)]
struct SwiGlu;

impl Kernel<1> for SwiGlu {
    fn forward(self, [x]: [FlexTensor; 1]) -> FlexTensor {
        let x = contiguous(x);
        let mut shape = x.shape();
        let last = shape.num_dims() - 1;
        shape[last] /= 2;
        let (hidden, len) = (shape[last], task_len(shape[last]));
        let mut y = vec![0.0; values(&x).len() / 2];
        for_each_part(&mut y, len, |index, y| forward(&values(&x)[2 * index * len..][..2 * y.len()], y, hidden));
        tensor(y, shape)
    }

    fn backward(self, [x]: [FlexTensor; 1], grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let (x, grad) = (contiguous(x), contiguous(grad));
        let shape = x.shape();
        let hidden = shape[shape.num_dims() - 1] / 2;
        let len = 2 * task_len(hidden);
        let mut d_x = vec![0.0; values(&x).len()];
        for_each_part(&mut d_x, len, |index, d_x| {
            let start = index * len;
            backward(&values(&x)[start..][..d_x.len()], &values(&grad)[start / 2..][..d_x.len() / 2], d_x, hidden);
        });
        [Some(tensor(d_x, shape))]
    }
}

vectorized! {
    fn forward(x: &[f32], y: &mut [f32], hidden: usize) {
        for (x, y) in x.chunks_exact(2 * hidden).zip(y.chunks_exact_mut(hidden)) {
            let (gate, value) = x.split_at(hidden);
            for ((y, gate), value) in y.iter_mut().zip(gate).zip(value) {
                *y = gate * sigmoid(*gate) * value;
            }
        }
    }

    fn backward(x: &[f32], grad: &[f32], d_x: &mut [f32], hidden: usize) {
        let rows = x.chunks_exact(2 * hidden).zip(grad.chunks_exact(hidden)).zip(d_x.chunks_exact_mut(2 * hidden));
        for ((x, grad), d_x) in rows {
            let ((gate, value), (d_gate, d_value)) = (x.split_at(hidden), d_x.split_at_mut(hidden));
            for ((((grad, gate), value), d_gate), d_value) in grad.iter().zip(gate).zip(value).zip(d_gate).zip(d_value) {
                let s = sigmoid(*gate);
                *d_gate = grad * value * (s + gate * s * (1.0 - s));
                *d_value = grad * gate * s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn swiglu_is_its_composition() {
        for shape in [[1, 1, 2], [3, 5, 34], [2, 300, 260]] {
            check([shape], |[x]| swiglu(x), |[x]| composed(x));
        }
    }
}
