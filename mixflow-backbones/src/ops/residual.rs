//! The gated residual connection of adaLN blocks.

use super::buffer::{contiguous, for_each_example, for_each_part, task_len, tensor, values};
use super::kernel::{Kernel, apply, flex, from_flex, is_native};
use super::native::on_gpu;
use super::node::{self, Operation};
use super::recomputed::{Function, Recomputed};
use super::simd::vectorized;
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

/// `x + gate y`, one gate for all tokens of an example.
///
/// # Shapes
/// - x, y: `[batch, tokens, width]`
/// - gate: `[batch, width]`
/// - returns: `[batch, tokens, width]`
pub fn gated_residual(x: Tensor<3>, y: Tensor<3>, gate: Tensor<2>) -> Tensor<3> {
    let [batch, tokens, width] = x.dims();
    assert_eq!(y.dims(), [batch, tokens, width], "gated_residual: y does not fit x");
    assert_eq!(gate.dims(), [batch, width], "gated_residual: gate does not fit x {:?}", [batch, tokens, width]);
    if !is_native(&x) {
        return on_gpu!(x, super::cube::gated_residual(x, y, gate), otherwise => composed(x, y, gate));
    }
    Tensor::from_dispatch(apply(GatedResidual, [x.into_dispatch(), y.into_dispatch(), gate.into_dispatch()]))
}

/// [`gated_residual`] of a `y` that is computed again for the gate's gradient.
pub fn gated_residual_of(x: Tensor<3>, y: Recomputed, gate: Tensor<2>) -> Tensor<3> {
    let mut inputs = vec![x, gate.unsqueeze_dim(1)];
    inputs.extend(y.inputs);
    node::apply(Gated { y: y.function }, inputs)
}

/// The operation on x, gate `[batch, 1, width]` and the inputs of y.
struct Gated {
    y: Function,
}

impl Operation for Gated {
    fn forward(&self, mut inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let y = self.y.value(inputs.split_off(2));
        let gate = inputs.remove(1).squeeze_dim(1);
        (gated_residual(inputs.remove(0), y, gate), vec![])
    }

    fn forgets(&self) -> usize {
        1
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, wanted: &[bool]) -> Vec<Option<Tensor<3>>> {
        let gate = kept.remove(0);
        let mut of_gate = None;
        let of_y = self.y.pull_back(kept, &wanted[2..], |y| {
            let of_its_y;
            (of_its_y, of_gate) = gradients(y, gate, gradient.clone(), wanted[1]);
            Some(of_its_y)
        });
        [Some(gradient), of_gate].into_iter().chain(of_y).collect()
    }
}

/// Gradients of y and, on a GPU where it is wanted, of the gate, `[batch, 1, width]`.
fn gradients(y: Tensor<3>, gate: Tensor<3>, gradient: Tensor<3>, of_gate: bool) -> (Tensor<3>, Option<Tensor<3>>) {
    if !is_native(&y) {
        return on_gpu!(
            y,
            super::cube::gate_backward(y, gate, gradient, of_gate),
            otherwise => (gradient.clone() * gate, of_gate.then(|| (gradient * y).sum_dim(1)))
        );
    }
    let (of_y, of_its_gate) = both_backward(flex(y), flex(gate.squeeze_dim::<2>(1)), &contiguous(flex(gradient)));
    (from_flex(of_y), Some(from_flex::<2>(of_its_gate).unsqueeze_dim(1)))
}

fn composed(x: Tensor<3>, y: Tensor<3>, gate: Tensor<2>) -> Tensor<3> {
    x + y * gate.unsqueeze_dim(1)
}

#[derive(Clone, Copy, Debug)]
struct GatedResidual;

impl Kernel<3> for GatedResidual {
    fn forward(self, [x, y, gate]: [FlexTensor; 3]) -> FlexTensor {
        let [tokens, width] = [x.shape()[1], x.shape()[2]];
        let (mut x, y, gate) = (contiguous(x), contiguous(y), contiguous(gate));
        let len = task_len(width);
        for_each_part(x.storage_mut::<f32>(), len, |index, x| {
            let start = index * len;
            for (row, x) in x.chunks_exact_mut(width).enumerate() {
                let row = start / width + row;
                gate_row(x, &values(&y)[row * width..][..width], &values(&gate)[row / tokens * width..][..width]);
            }
        });
        x
    }

    fn backward(self, [_, y, gate]: [FlexTensor; 3], grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let grad = contiguous(grad);
        let (of_y, of_gate) = both_backward(y, gate, &grad);
        [Some(grad), Some(of_y), Some(of_gate)]
    }

    fn keeps(self, index: usize) -> bool {
        index != 0
    }
}

/// Gradients of y and gate.
fn both_backward(y: FlexTensor, gate: FlexTensor, grad: &FlexTensor) -> (FlexTensor, FlexTensor) {
    let [batch, tokens, width] = [y.shape()[0], y.shape()[1], y.shape()[2]];
    let (y, gate) = (contiguous(y), contiguous(gate));
    let mut d_y = vec![0.0; values(grad).len()];
    let mut d_gate = vec![0.0; batch * width];
    for_each_example(&mut d_y, tokens * width, &mut d_gate, width, |b, d_y, d_gate| {
        let rows = b * tokens * width..(b + 1) * tokens * width;
        backward(&values(grad)[rows.clone()], &values(&y)[rows], &values(&gate)[b * width..][..width], d_y, d_gate);
    });
    (tensor(d_y, y.shape()), tensor(d_gate, [batch, width].into()))
}

vectorized! {
    fn gate_row(x: &mut [f32], y: &[f32], gate: &[f32]) {
        for ((x, y), gate) in x.iter_mut().zip(y).zip(gate) {
            *x += y * gate;
        }
    }

    fn backward(grad: &[f32], y: &[f32], gate: &[f32], d_y: &mut [f32], d_gate: &mut [f32]) {
        let width = gate.len();
        let d_gate = &mut d_gate[..width];
        for ((grad, y), d_y) in grad.chunks_exact(width).zip(y.chunks_exact(width)).zip(d_y.chunks_exact_mut(width)) {
            for i in 0..width {
                d_y[i] = grad[i] * gate[i];
                d_gate[i] += grad[i] * y[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn gated_residual_is_its_composition() {
        for (batch, tokens, width) in [(1, 1, 1), (3, 5, 17), (4, 70, 300)] {
            check(
                [[batch, tokens, width], [batch, tokens, width], [batch, 1, width]],
                |[x, y, gate]| gated_residual(x, y, gate.squeeze_dim(1)),
                |[x, y, gate]| composed(x, y, gate.squeeze_dim(1)),
            );
        }
    }
}
