//! Root mean square normalisation, modulated by a condition.

use super::buffer::{TASK, contiguous, for_each_part, is_large, sum_rows, task_len, tensor, values};
use super::kernel::{Kernel, apply, is_native};
use super::native::on_gpu;
use super::simd::{sum, vectorized};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// `x / √(mean x² + epsilon) · weight`, then `(1 + scale) x + shift` with one scale and shift for all tokens of an
/// example.
///
/// # Shapes
/// - x: `[batch, tokens, width]`, normalised over the width
/// - weight: `[width]`
/// - shift, scale: `[batch, width]`
/// - returns: as x
///
/// # Source
/// Zhang & Sennrich 2019 (arXiv 1910.07467), equation 4, with the modulation of
/// [`modulated_layer_norm`](super::modulated_layer_norm).
pub fn modulated_rms_norm(
    x: Tensor<3>,
    weight: Tensor<1>,
    shift: Tensor<2>,
    scale: Tensor<2>,
    epsilon: f64,
) -> Tensor<3> {
    let [batch, _, width] = x.dims();
    assert_eq!(weight.dims(), [width], "modulated_rms_norm: weight does not fit x {:?}", x.dims());
    assert_eq!(shift.dims(), [batch, width], "modulated_rms_norm: shift does not fit x {:?}", x.dims());
    assert_eq!(scale.dims(), [batch, width], "modulated_rms_norm: scale does not fit x {:?}", x.dims());
    if !is_native(&x) {
        return on_gpu!(
            x,
            super::cube::modulated_rms_norm(x, weight, shift, scale, epsilon),
            otherwise => composed(x, weight, shift, scale, epsilon)
        );
    }
    let inputs = [x.into_dispatch(), weight.into_dispatch(), shift.into_dispatch(), scale.into_dispatch()];
    Tensor::from_dispatch(apply(ModulatedRmsNorm { epsilon }, inputs))
}

fn composed(x: Tensor<3>, weight: Tensor<1>, shift: Tensor<2>, scale: Tensor<2>, epsilon: f64) -> Tensor<3> {
    let normalised = x.clone() / (x.square().mean_dim(2) + epsilon).sqrt();
    normalised * weight.unsqueeze() * (scale.unsqueeze_dim(1) + 1.0) + shift.unsqueeze_dim(1)
}

#[derive(Clone, Copy, Debug)]
struct ModulatedRmsNorm {
    epsilon: f64,
}

impl Kernel<4> for ModulatedRmsNorm {
    fn forward(self, inputs: [FlexTensor; 4]) -> FlexTensor {
        let [tokens, width] = [inputs[0].shape()[1], inputs[0].shape()[2]];
        let [x, weight, shift, scale] = inputs.map(contiguous);
        let mut y = vec![0.0; values(&x).len()];
        let len = task_len(width);
        for_each_part(&mut y, len, |index, y| {
            for (row, y) in y.chunks_exact_mut(width).enumerate() {
                let row = index * len / width + row;
                let condition = row / tokens * width..(row / tokens + 1) * width;
                let (shift, scale) = (&values(&shift)[condition.clone()], &values(&scale)[condition]);
                forward(&values(&x)[row * width..][..width], values(&weight), shift, scale, y, self.epsilon as f32);
            }
        });
        tensor(y, x.shape())
    }

    fn backward(self, inputs: [FlexTensor; 4], grad: FlexTensor, _: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let [batch, tokens, width] = [inputs[0].shape()[0], inputs[0].shape()[1], inputs[0].shape()[2]];
        let [x, weight, _, scale] = inputs;
        let [x, weight, scale, mut grad] = [x, weight, scale, grad].map(contiguous);
        let (mut d_shift, mut d_scale) = (vec![0.0; batch * width], vec![0.0; batch * width]);
        // A task is whole examples, so that their sums are its own; only the weight's are added up afterwards.
        let examples = (TASK / (tokens * width)).max(1);
        let mut d_weight = vec![0.0; batch.div_ceil(examples) * width];
        let large = is_large(values(&x).len());
        let tasks: Vec<_> = (grad.storage_mut::<f32>().chunks_mut(examples * tokens * width))
            .zip(d_shift.chunks_mut(examples * width))
            .zip(d_scale.chunks_mut(examples * width))
            .zip(d_weight.chunks_mut(width))
            .enumerate()
            .collect();
        let task = |(index, (((grad, d_shift), d_scale), d_weight)): (usize, Sums<'_>)| {
            let sums = d_shift.chunks_exact_mut(width).zip(d_scale.chunks_exact_mut(width));
            for (example, (grad, (d_shift, d_scale))) in grad.chunks_exact_mut(tokens * width).zip(sums).enumerate() {
                let example = index * examples + example;
                let x = &values(&x)[example * tokens * width..][..tokens * width];
                let scale = &values(&scale)[example * width..][..width];
                backward(x, values(&weight), scale, grad, d_shift, d_scale, d_weight, self.epsilon as f32);
            }
        };
        if large {
            tasks.into_par_iter().for_each(task)
        } else {
            tasks.into_iter().for_each(task)
        }
        [
            Some(grad),
            Some(tensor(sum_rows(&d_weight, width), [width].into())),
            Some(tensor(d_shift, [batch, width].into())),
            Some(tensor(d_scale, [batch, width].into())),
        ]
    }

    fn keeps(self, index: usize) -> bool {
        index != 2
    }
}

/// Gradients of the examples of one task: of x, shift, scale and weight.
type Sums<'a> = (((&'a mut [f32], &'a mut [f32]), &'a mut [f32]), &'a mut [f32]);

/// The factor that gives a row the mean square 1.
#[inline(always)]
pub(super) fn inverse(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (sum(x.len(), |i| x[i] * x[i]) / x.len() as f32 + epsilon).sqrt()
}

vectorized! {
    fn forward(x: &[f32], weight: &[f32], shift: &[f32], scale: &[f32], y: &mut [f32], epsilon: f32) {
        let inverse = inverse(x, epsilon);
        for ((((y, x), weight), shift), scale) in y.iter_mut().zip(x).zip(weight).zip(shift).zip(scale) {
            *y = x * inverse * weight * (1.0 + scale) + shift;
        }
    }

    fn backward(x: &[f32], weight: &[f32], scale: &[f32], grad: &mut [f32], d_shift: &mut [f32], d_scale: &mut [f32], d_weight: &mut [f32], epsilon: f32) {
        let width = weight.len();
        let (scale, d_shift) = (&scale[..width], &mut d_shift[..width]);
        let (d_scale, d_weight) = (&mut d_scale[..width], &mut d_weight[..width]);
        for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
            let inverse = inverse(x, epsilon);
            for i in 0..width {
                let (normalised, modulated) = (x[i] * inverse, grad[i] * (1.0 + scale[i]));
                d_shift[i] += grad[i];
                d_scale[i] += grad[i] * normalised * weight[i];
                d_weight[i] += modulated * normalised;
                grad[i] = modulated * weight[i];
            }
            // Without its part along the row, which normalisation removes.
            let along_row = sum(width, |i| grad[i] * x[i]) * inverse * inverse / width as f32;
            for (grad, x) in grad.iter_mut().zip(x) {
                *grad = inverse * (*grad - x * along_row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn modulated_rms_norm_is_its_composition() {
        for [batch, tokens, width] in [[1, 1, 2], [3, 5, 17], [600, 1, 40], [4, 70, 300]] {
            check(
                [[batch, tokens, width], [1, 1, width], [batch, 1, width], [batch, 1, width]],
                |[x, weight, shift, scale]| {
                    let weight = weight.reshape([width]);
                    modulated_rms_norm(x, weight, shift.squeeze_dim(1), scale.squeeze_dim(1), 1e-2)
                },
                |[x, weight, shift, scale]| {
                    composed(x, weight.reshape([width]), shift.squeeze_dim(1), scale.squeeze_dim(1), 1e-2)
                },
            );
        }
    }
}
