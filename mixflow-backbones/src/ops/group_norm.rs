//! Normalisation of groups of channels, alone or followed by SiLU.

use super::activation;
use super::buffer::{contiguous, for_each_example, for_each_part, sum_rows, tensor, values};
use super::kernel::{Kernel, apply, is_native};
use super::simd::{sigmoid, sum, vectorized};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

/// Every group of neighbouring channels to mean 0 and variance 1, then `weight x + bias` with one of each a channel.
///
/// # Shapes
/// - x: `[batch, channels, height, width]`, normalised over the channels of a group and all pixels
/// - weight, bias: `[channels]`; `groups` divides their number
/// - returns: as x
///
/// # Source
/// Wu and He 2018 (arXiv 1803.08494), equation 7.
pub fn group_norm(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, groups: usize, epsilon: f64) -> Tensor<4> {
    run(x, weight, bias, GroupNorm { groups, epsilon, silu: false })
}

/// [`group_norm`], then [`silu`](super::silu), as one operation.
pub fn group_norm_silu(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, groups: usize, epsilon: f64) -> Tensor<4> {
    run(x, weight, bias, GroupNorm { groups, epsilon, silu: true })
}

fn run(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, norm: GroupNorm) -> Tensor<4> {
    let [_, channels, ..] = x.dims();
    let groups = norm.groups;
    assert!(groups > 0 && channels % groups == 0, "group_norm: {channels} channels do not make {groups} groups");
    assert_eq!(weight.dims(), [channels], "group_norm: weight does not fit x {:?}", x.dims());
    assert_eq!(bias.dims(), [channels], "group_norm: bias does not fit x {:?}", x.dims());
    if !is_native(&x) {
        return norm.composed(x, weight, bias);
    }
    Tensor::from_dispatch(apply(norm, [x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()]))
}

#[derive(Clone, Copy, Debug)]
struct GroupNorm {
    groups: usize,
    epsilon: f64,
    silu: bool,
}

impl GroupNorm {
    fn composed(self, x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let x = x.reshape([batch, self.groups, channels / self.groups * height * width]);
        let x = x.clone() - x.mean_dim(2);
        let variance = (x.clone() * x.clone()).mean_dim(2);
        let x = (x / (variance + self.epsilon).sqrt()).reshape([batch, channels, height, width]);
        let [weight, bias] = [weight, bias].map(|of_channel| of_channel.reshape([1, channels, 1, 1]));
        let y = x * weight + bias;
        if self.silu { activation::silu(y) } else { y }
    }

    /// Channels of a group and pixels of a channel.
    fn sizes(self, x: &FlexTensor) -> [usize; 2] {
        let shape = x.shape();
        [shape[1] / self.groups, shape[2] * shape[3]]
    }
}

impl Kernel<3> for GroupNorm {
    fn forward(self, [x, weight, bias]: [FlexTensor; 3]) -> FlexTensor {
        let [channels, pixels] = self.sizes(&x);
        let (x, weight, bias) = (contiguous(x), contiguous(weight), contiguous(bias));
        let mut y = vec![0.0; values(&x).len()];
        let len = channels * pixels;
        for_each_part(&mut y, len, |index, y| {
            let x = &values(&x)[index * len..][..len];
            let (mean, inverse) = moments(x, self.epsilon);
            let first = index % self.groups * channels;
            for (channel, (x, y)) in x.chunks_exact(pixels).zip(y.chunks_exact_mut(pixels)).enumerate() {
                let scale = inverse * values(&weight)[first + channel];
                let apply = if self.silu { affine_silu } else { affine };
                apply(x, y, mean, scale, values(&bias)[first + channel]);
            }
        });
        tensor(y, x.shape())
    }

    fn backward(self, [x, weight, bias]: [FlexTensor; 3], grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [channels, pixels] = self.sizes(&x);
        let (x, weight, bias, mut grad) = (contiguous(x), contiguous(weight), contiguous(bias), contiguous(grad));
        let len = channels * pixels;
        // For every image and channel the sums for weight and bias, side by side.
        let mut sums = vec![0.0; 2 * values(&x).len() / pixels.max(1)];
        for_each_example(grad.storage_mut::<f32>(), len, &mut sums, 2 * channels, |index, grad, sums| {
            let x = &values(&x)[index * len..][..len];
            let (mean, inverse) = moments(x, self.epsilon);
            let first = index % self.groups * channels;
            let (weight, bias) = (&values(&weight)[first..][..channels], &values(&bias)[first..][..channels]);
            let (mut along_one, mut along_row) = (0.0, 0.0);
            let parts = x.chunks_exact(pixels).zip(grad.chunks_exact_mut(pixels));
            for (channel, (x, grad)) in parts.enumerate() {
                if self.silu {
                    silu_backward(x, grad, mean, inverse * weight[channel], bias[channel]);
                }
                let [d_weight, d_bias] = affine_backward(x, grad, mean, inverse);
                sums[2 * channel..][..2].copy_from_slice(&[d_weight, d_bias]);
                along_row += weight[channel] * d_weight / len as f32;
                along_one += weight[channel] * d_bias / len as f32;
            }
            for ((x, grad), weight) in x.chunks_exact(pixels).zip(grad.chunks_exact_mut(pixels)).zip(weight) {
                project(x, grad, [mean, inverse], *weight, [along_one, along_row]);
            }
        });
        let sums = sum_rows(&sums, 2 * values(&weight).len());
        let every_second =
            |offset: usize| Some(tensor(sums.iter().skip(offset).step_by(2).copied().collect(), weight.shape()));
        [Some(grad), every_second(0), every_second(1)]
    }
}

/// Values whose sum is taken in `f32`; longer sums are taken in parts.
const PART: usize = 4096;

vectorized! {
    /// Mean and inverse standard deviation of a group.
    fn moments(x: &[f32], epsilon: f64) -> (f32, f32) {
        let mut total = 0.0;
        for x in x.chunks(PART) {
            total += f64::from(sum(x.len(), |i| x[i]));
        }
        let mean = (total / x.len() as f64) as f32;
        let mut total = 0.0;
        for x in x.chunks(PART) {
            total += f64::from(sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)));
        }
        (mean, (1.0 / (total / x.len() as f64 + epsilon).sqrt()) as f32)
    }

    fn affine(x: &[f32], y: &mut [f32], mean: f32, scale: f32, bias: f32) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) * scale + bias;
        }
    }

    fn affine_silu(x: &[f32], y: &mut [f32], mean: f32, scale: f32, bias: f32) {
        for (y, x) in y.iter_mut().zip(x) {
            let z = (x - mean) * scale + bias;
            *y = z * sigmoid(z);
        }
    }

    /// Turns the gradient behind SiLU into that before it.
    fn silu_backward(x: &[f32], grad: &mut [f32], mean: f32, scale: f32, bias: f32) {
        for (grad, x) in grad.iter_mut().zip(x) {
            let z = (x - mean) * scale + bias;
            let s = sigmoid(z);
            *grad *= s + z * s * (1.0 - s);
        }
    }

    /// Gradients of weight and bias from one channel of one image.
    fn affine_backward(x: &[f32], grad: &[f32], mean: f32, inverse: f32) -> [f32; 2] {
        [sum(x.len(), |i| grad[i] * (x[i] - mean)) * inverse, sum(x.len(), |i| grad[i])]
    }

    /// Turns the gradient of a channel into that of its input: without the group's part along 1 and along itself.
    fn project(x: &[f32], grad: &mut [f32], moments: [f32; 2], weight: f32, along: [f32; 2]) {
        let ([mean, inverse], [along_one, along_row]) = (moments, along);
        for (grad, x) in grad.iter_mut().zip(x) {
            *grad = inverse * (weight * *grad - along_one - (x - mean) * inverse * along_row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn group_norm_is_its_composition() {
        for (groups, shape) in [(1, [1, 1, 1, 2]), (3, [2, 6, 3, 5]), (2, [3, 4, 1, 9]), (4, [2, 8, 70, 66])] {
            let channels = [1, shape[1], 1, 1];
            for silu in [false, true] {
                let norm = GroupNorm { groups, epsilon: 1e-2, silu };
                check(
                    [shape, channels, channels],
                    |[x, weight, bias]| run(x, weight.flatten(0, 3), bias.flatten(0, 3), norm),
                    |[x, weight, bias]| norm.composed(x, weight.flatten(0, 3), bias.flatten(0, 3)),
                );
            }
        }
    }

    #[test]
    fn a_large_offset_costs_no_accuracy() {
        // 2^18 values of mean 1000 and deviation 1: a sum of squares in f32 would lose the variance.
        let values: Vec<f32> = (0..1 << 18).map(|i| 1000.0 + if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let (mean, inverse) = moments(&values, 0.0);
        assert!((mean - 1000.0).abs() < 1e-4 && (inverse - 1.0).abs() < 1e-6, "{mean} {inverse}");
    }
}
