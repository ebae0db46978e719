//! Layer normalisation, plain and modulated by a condition.

use super::buffer::{contiguous, for_each_example, for_each_part, sum_rows, task_len, tensor, values};
use super::kernel::{Kernel, apply, is_native};
use super::native::on_gpu;
use super::simd::{sum, vectorized};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::ModuleOps;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Tensor, module};

/// Every token to mean 0 and variance 1: `(x - mean) / √(variance + epsilon)`, without learned scale and shift.
///
/// # Shapes
/// - x: `[batch, tokens, width]`, normalised over the width
/// - returns: as x
///
/// # Source
/// Ba et al. 2016 (arXiv 1607.06450), equation 3.
pub fn layer_norm(x: Tensor<3>, epsilon: f64) -> Tensor<3> {
    let (width, options) = ([x.dims()[2]], (&x.device(), x.dtype()));
    affine_layer_norm(x, Tensor::ones(width, options), Tensor::zeros(width, options), epsilon)
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
        return on_gpu!(
            x,
            super::cube::modulated_norm(x, shift, scale, epsilon),
            otherwise => composed(x, shift, scale, epsilon)
        );
    }
    let inputs = [x.into_dispatch(), shift.into_dispatch(), scale.into_dispatch()];
    Tensor::from_dispatch(apply(ModulatedLayerNorm { epsilon }, inputs))
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
    let [_, _, width] = x.dims();
    assert_eq!(weight.dims(), [width], "affine_layer_norm: weight does not fit x {:?}", x.dims());
    assert_eq!(bias.dims(), [width], "affine_layer_norm: bias does not fit x {:?}", x.dims());
    if !is_native(&x) {
        return on_gpu!(
            x,
            super::cube::affine_norm(x, weight, bias, epsilon),
            otherwise => module::layer_norm(x, weight, Some(bias), epsilon)
        );
    }
    let inputs = [x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()];
    Tensor::from_dispatch(apply(AffineLayerNorm { epsilon }, inputs))
}

fn composed(x: Tensor<3>, shift: Tensor<2>, scale: Tensor<2>, epsilon: f64) -> Tensor<3> {
    layer_norm(x, epsilon) * (scale.unsqueeze_dim(1) + 1.0) + shift.unsqueeze_dim(1)
}

/// Forward is Burn's, whose backward pass is composed of many operations.
#[derive(Clone, Copy, Debug)]
struct AffineLayerNorm {
    epsilon: f64,
}

impl Kernel<3> for AffineLayerNorm {
    fn forward(self, [x, weight, bias]: [FlexTensor; 3]) -> FlexTensor {
        Flex::layer_norm(x, weight, Some(bias), self.epsilon)
    }

    fn backward(self, [x, weight, _]: [FlexTensor; 3], grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let width = x.shape()[2];
        let [x, weight, mut grad] = [x, weight, grad].map(contiguous);
        let len = task_len(width);
        // For every task the sums for bias and weight.
        let mut sums = vec![0.0; 2 * width * values(&x).len().div_ceil(len)];
        for_each_example(grad.storage_mut::<f32>(), len, &mut sums, 2 * width, |index, grad, sums| {
            let x = &values(&x)[index * len..][..grad.len()];
            let (d_bias, d_weight) = sums.split_at_mut(width);
            scaled_backward(x, values(&weight), grad, d_bias, d_weight, 0.0, self.epsilon as f32);
        });
        let mut d_bias = sum_rows(&sums, 2 * width);
        let d_weight = d_bias.split_off(width);
        [Some(grad), Some(tensor(d_weight, [width].into())), Some(tensor(d_bias, [width].into()))]
    }

    fn keeps(self, index: usize) -> bool {
        index != 2
    }
}

#[derive(Clone, Copy, Debug)]
struct ModulatedLayerNorm {
    epsilon: f64,
}

impl Kernel<3> for ModulatedLayerNorm {
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
                modulate(&values(&x)[row * width..][..width], shift, scale, y, self.epsilon as f32);
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
            scaled_backward(x, scale, grad, d_shift, d_scale, 1.0, self.epsilon as f32);
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

/// Mean and inverse standard deviation of a row.
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
    fn modulate(x: &[f32], shift: &[f32], scale: &[f32], y: &mut [f32], epsilon: f32) {
        let (mean, inverse) = moments(x, epsilon);
        for (((y, x), shift), scale) in y.iter_mut().zip(x).zip(shift).zip(scale) {
            *y = (x - mean) * inverse * (1.0 + scale) + shift;
        }
    }

    /// Backward pass of rows that were normalised, multiplied by `one + scale` and shifted: `grad` becomes the gradient of
    /// the rows.
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
            let composed = |[x]: [Tensor<3>; 1]| {
                let x = x.clone() - x.mean_dim(2);
                x.clone() / (x.square().mean_dim(2) + 1e-2).sqrt()
            };
            check([shape], |[x]| layer_norm(x, 1e-2), composed);
        }
    }

    #[test]
    fn modulated_layer_norm_is_its_composition() {
        for [batch, tokens, width] in SHAPES {
            check(
                [[batch, tokens, width], [batch, 1, width], [batch, 1, width]],
                |[x, shift, scale]| modulated_layer_norm(x, shift.squeeze_dim(1), scale.squeeze_dim(1), 1e-2),
                |[x, shift, scale]| composed(x, shift.squeeze_dim(1), scale.squeeze_dim(1), 1e-2),
            );
        }
    }

    #[test]
    fn affine_layer_norm_is_burns() {
        for [batch, tokens, width] in SHAPES {
            check(
                [[batch, tokens, width], [1, 1, width], [1, 1, width]],
                |[x, weight, bias]| affine_layer_norm(x, weight.reshape([width]), bias.reshape([width]), 1e-2),
                |[x, weight, bias]| module::layer_norm(x, weight.reshape([width]), Some(bias.reshape([width])), 1e-2),
            );
        }
    }
}
