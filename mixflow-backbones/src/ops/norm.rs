//! Layer normalisation, plain and modulated by a condition.

use super::buffer::{contiguous, for_each_example, for_each_part, task_len, tensor, values};
use super::kernel::{Kernel, apply, is_native};
use super::simd::{sum, vectorized};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

/// Every token to mean 0 and variance 1: `(x - mean) / √(variance + epsilon)`, without learned scale and shift.
///
/// # Shapes
/// - x: `[batch, tokens, width]`, normalised over the width
/// - returns: as x
///
/// # Source
/// Ba et al. 2016 (arXiv 1607.06450), equation 3.
pub fn layer_norm(x: Tensor<3>, epsilon: f64) -> Tensor<3> {
    if !is_native(&x) {
        return composed(x, epsilon);
    }
    Tensor::from_dispatch(apply(LayerNorm { epsilon }, [x.into_dispatch()]))
}

/// [`layer_norm`], then `(1 + scale) x + shift` with one scale and shift for all tokens of an example.
///
/// # Shapes
/// - x: `[batch, tokens, width]`
/// - shift, scale: `[batch, width]`
/// - returns: as x
///
/// # Source
/// Peebles & Xie 2022 (arXiv 2212.09748), section 3.2, adaLN; `modulate` in its code.
pub fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<2>, scale: Tensor<2>, epsilon: f64) -> Tensor<3> {
    let [batch, _, width] = x.dims();
    assert_eq!(shift.dims(), [batch, width], "modulated_layer_norm: shift does not fit x {:?}", x.dims());
    assert_eq!(scale.dims(), [batch, width], "modulated_layer_norm: scale does not fit x {:?}", x.dims());
    if !is_native(&x) {
        return modulated(x, shift, scale, epsilon);
    }
    let inputs = [x.into_dispatch(), shift.into_dispatch(), scale.into_dispatch()];
    Tensor::from_dispatch(apply(ScaledLayerNorm { epsilon, one: 1.0 }, inputs))
}

/// [`layer_norm`], then `weight x + bias` with one weight and bias for all tokens. Weights of any size keep their digits.
///
/// # Shapes
/// - x: `[batch, tokens, width]`
/// - weight, bias: `[width]`
/// - returns: as x
///
/// # Source
/// Ba et al. 2016 (arXiv 1607.06450), equation 4.
pub fn affine_layer_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<3> {
    let [batch, _, width] = x.dims();
    assert_eq!(weight.dims(), [width], "affine_layer_norm: weight does not fit x {:?}", x.dims());
    assert_eq!(bias.dims(), [width], "affine_layer_norm: bias does not fit x {:?}", x.dims());
    if !is_native(&x) {
        return affine(x, weight, bias, epsilon);
    }
    let [bias, weight] = [bias, weight].map(|row| row.unsqueeze::<2>().expand([batch, width]).into_dispatch());
    Tensor::from_dispatch(apply(ScaledLayerNorm { epsilon, one: 0.0 }, [x.into_dispatch(), bias, weight]))
}

fn composed(x: Tensor<3>, epsilon: f64) -> Tensor<3> {
    let x = x.clone() - x.mean_dim(2);
    let variance = (x.clone() * x.clone()).mean_dim(2);
    x / (variance + epsilon).sqrt()
}

fn modulated(x: Tensor<3>, shift: Tensor<2>, scale: Tensor<2>, epsilon: f64) -> Tensor<3> {
    composed(x, epsilon) * (scale.unsqueeze_dim(1) + 1.0) + shift.unsqueeze_dim(1)
}

fn affine(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<3> {
    composed(x, epsilon) * weight.unsqueeze() + bias.unsqueeze()
}

#[derive(Clone, Copy, Debug)]
struct LayerNorm {
    epsilon: f64,
}

impl Kernel<1> for LayerNorm {
    fn forward(self, [x]: [FlexTensor; 1]) -> FlexTensor {
        let width = x.shape()[2];
        let mut x = contiguous(x);
        for_each_part(x.storage_mut::<f32>(), task_len(width), |_, part| normalise(part, width, self.epsilon as f32));
        x
    }

    fn backward(self, [x]: [FlexTensor; 1], grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let width = x.shape()[2];
        let (x, mut grad) = (contiguous(x), contiguous(grad));
        let len = task_len(width);
        for_each_part(grad.storage_mut::<f32>(), len, |index, grad| {
            backward(&values(&x)[index * len..][..grad.len()], grad, width, self.epsilon as f32);
        });
        [Some(grad)]
    }
}

/// A normalised row times `one + scale`, then plus `shift`.
#[derive(Clone, Copy, Debug)]
struct ScaledLayerNorm {
    epsilon: f64,
    /// 1 of a modulation, 0 where the scale is the whole factor.
    one: f32,
}

impl Kernel<3> for ScaledLayerNorm {
    fn forward(self, [x, shift, scale]: [FlexTensor; 3]) -> FlexTensor {
        let [tokens, width] = [x.shape()[1], x.shape()[2]];
        let (x, shift, scale) = (contiguous(x), contiguous(shift), contiguous(scale));
        let mut y = vec![0.0; values(&x).len()];
        let len = task_len(width);
        for_each_part(&mut y, len, |index, y| {
            for (row, y) in y.chunks_exact_mut(width).enumerate() {
                let row = index * len / width + row;
                let condition = row / tokens * width..(row / tokens + 1) * width;
                let (shift, scale) = (&values(&shift)[condition.clone()], &values(&scale)[condition]);
                scaled(&values(&x)[row * width..][..width], shift, scale, y, self.one, self.epsilon as f32);
            }
        });
        tensor(y, x.shape())
    }

    fn backward(self, [x, shift, scale]: [FlexTensor; 3], grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [tokens, width] = [x.shape()[1], x.shape()[2]];
        let (x, scale, mut grad) = (contiguous(x), contiguous(scale), contiguous(grad));
        let mut condition = vec![0.0; 2 * values(&scale).len()];
        for_each_example(grad.storage_mut::<f32>(), tokens * width, &mut condition, 2 * width, |b, grad, condition| {
            let x = &values(&x)[b * tokens * width..][..tokens * width];
            let scale = &values(&scale)[b * width..][..width];
            let (d_shift, d_scale) = condition.split_at_mut(width);
            scaled_backward(x, scale, grad, d_shift, d_scale, self.one, self.epsilon as f32);
        });
        let half = |offset: usize| {
            let rows = condition.chunks_exact(2 * width).flat_map(|row| &row[offset..offset + width]);
            Some(tensor(rows.copied().collect(), shift.shape()))
        };
        [Some(grad), half(0), half(width)]
    }

    fn keeps(self, index: usize) -> bool {
        index != 1
    }
}

/// Mean and inverse deviation of a row.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let mean = sum(x.len(), |i| x[i]) / x.len() as f32;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / x.len() as f32;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// Turns the gradient of a normalised row into that of the row: without its part along 1 and along the row.
#[inline(always)]
fn project(x: &[f32], grad: &mut [f32], mean: f32, inverse: f32) {
    let width = x.len() as f32;
    let along_one = sum(x.len(), |i| grad[i]) / width;
    let along_row = sum(x.len(), |i| grad[i] * (x[i] - mean)) * inverse / width;
    for (grad, x) in grad.iter_mut().zip(x) {
        *grad = inverse * (*grad - along_one - (x - mean) * inverse * along_row);
    }
}

vectorized! {
    fn normalise(rows: &mut [f32], width: usize, epsilon: f32) {
        for row in rows.chunks_exact_mut(width) {
            let (mean, inverse) = moments(row, epsilon);
            for x in row {
                *x = (*x - mean) * inverse;
            }
        }
    }

    fn backward(x: &[f32], grad: &mut [f32], width: usize, epsilon: f32) {
        for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(x, epsilon);
            project(x, grad, mean, inverse);
        }
    }

    fn scaled(x: &[f32], shift: &[f32], scale: &[f32], y: &mut [f32], one: f32, epsilon: f32) {
        let (mean, inverse) = moments(x, epsilon);
        for (((y, x), shift), scale) in y.iter_mut().zip(x).zip(shift).zip(scale) {
            *y = (x - mean) * inverse * (one + scale) + shift;
        }
    }

    fn scaled_backward(x: &[f32], scale: &[f32], grad: &mut [f32], d_shift: &mut [f32], d_scale: &mut [f32], one: f32, epsilon: f32) {
        let width = scale.len();
        let (d_shift, d_scale) = (&mut d_shift[..width], &mut d_scale[..width]);
        for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(x, epsilon);
            for i in 0..width {
                d_shift[i] += grad[i];
                d_scale[i] += grad[i] * (x[i] - mean) * inverse;
                grad[i] *= one + scale[i];
            }
            project(x, grad, mean, inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    const SHAPES: [[usize; 3]; 4] = [[1, 1, 2], [3, 5, 17], [1, 9, 64], [4, 70, 300]];

    #[test]
    fn layer_norm_is_its_composition() {
        for shape in SHAPES {
            check([shape], |[x]| layer_norm(x, 1e-2), |[x]| composed(x, 1e-2));
        }
    }

    #[test]
    fn modulated_layer_norm_is_its_composition() {
        for [batch, tokens, width] in SHAPES {
            check(
                [[batch, tokens, width], [batch, 1, width], [batch, 1, width]],
                |[x, shift, scale]| modulated_layer_norm(x, shift.squeeze_dim(1), scale.squeeze_dim(1), 1e-2),
                |[x, shift, scale]| modulated(x, shift.squeeze_dim(1), scale.squeeze_dim(1), 1e-2),
            );
        }
    }

    #[test]
    fn affine_layer_norm_is_its_composition() {
        for [batch, tokens, width] in SHAPES {
            check(
                [[batch, tokens, width], [1, 1, width], [1, 1, width]],
                |[x, weight, bias]| affine_layer_norm(x, weight.reshape([width]), bias.reshape([width]), 1e-2),
                |[x, weight, bias]| affine(x, weight.reshape([width]), bias.reshape([width]), 1e-2),
            );
        }
    }
}
