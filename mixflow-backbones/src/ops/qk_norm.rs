//! Root mean square normalisation of packed queries and keys.

use super::buffer::{contiguous, for_each_example, for_each_part, sum_rows, task_len, tensor, values};
use super::kernel::{Kernel, apply, is_native};
use super::native::on_gpu;
use super::rms_norm::inverse;
use super::simd::{sum, vectorized};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

/// `x / √(mean x² + epsilon) · weight` of the queries and of the keys of every head, each with a weight for all heads;
/// values stay.
///
/// # Shapes
/// - qkv: `[batch, tokens, 3 heads d]`, packed as for [`attention`](super::attention)
/// - queries, keys: `[d]`, the weights
/// - returns: as qkv
///
/// # Source
/// Dehghani et al. 2023 (arXiv 2302.05442), section 2, with Zhang & Sennrich 2019 (arXiv 1910.07467), equation 4.
pub fn qk_rms_norm(qkv: Tensor<3>, queries: Tensor<1>, keys: Tensor<1>, heads: usize, epsilon: f64) -> Tensor<3> {
    let [_, _, packed] = qkv.dims();
    let width = packed / (3 * heads);
    assert_eq!(packed, 3 * heads * width, "qk_rms_norm: {heads} heads do not fit {packed} numbers");
    for weight in [&queries, &keys] {
        assert_eq!(weight.dims(), [width], "qk_rms_norm: a weight does not fit {heads} heads of {packed} numbers");
    }
    if !is_native(&qkv) {
        return on_gpu!(
            qkv,
            super::cube::qk_rms_norm(qkv, queries, keys, heads, epsilon),
            otherwise => composed(qkv, queries, keys, heads, epsilon)
        );
    }
    let inputs = [qkv.into_dispatch(), queries.into_dispatch(), keys.into_dispatch()];
    Tensor::from_dispatch(apply(QkRmsNorm { epsilon }, inputs))
}

fn composed(qkv: Tensor<3>, queries: Tensor<1>, keys: Tensor<1>, heads: usize, epsilon: f64) -> Tensor<3> {
    let [batch, tokens, packed] = qkv.dims();
    let all = qkv.reshape([batch, tokens, 3 * heads, packed / (3 * heads)]);
    let part = |index| all.clone().narrow(2, index * heads, heads);
    let norm =
        |x: Tensor<4>, weight: Tensor<1>| x.clone() / (x.square().mean_dim(3) + epsilon).sqrt() * weight.unsqueeze();
    Tensor::cat(vec![norm(part(0), queries), norm(part(1), keys), part(2)], 2).reshape([batch, tokens, packed])
}

#[derive(Clone, Copy, Debug)]
struct QkRmsNorm {
    epsilon: f64,
}

impl Kernel<3> for QkRmsNorm {
    fn forward(self, inputs: [FlexTensor; 3]) -> FlexTensor {
        let [mut qkv, queries, keys] = inputs.map(contiguous);
        let packed = qkv.shape()[2];
        for_each_part(qkv.storage_mut::<f32>(), task_len(packed), |_, part| {
            for row in part.chunks_exact_mut(packed) {
                for (x, weight) in row.chunks_exact_mut(packed / 3).zip([&queries, &keys]) {
                    forward(x, values(weight), self.epsilon as f32);
                }
            }
        });
        qkv
    }

    fn backward(self, inputs: [FlexTensor; 3], grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [qkv, queries, keys] = inputs.map(contiguous);
        let mut grad = contiguous(grad);
        let (packed, width) = (qkv.shape()[2], queries.shape()[0]);
        let len = task_len(packed);
        // Sums of both weights, one pair a task.
        let mut sums = vec![0.0; values(&qkv).len().div_ceil(len) * 2 * width];
        for_each_example(grad.storage_mut::<f32>(), len, &mut sums, 2 * width, |task, grad, sums| {
            let qkv = &values(&qkv)[task * len..][..grad.len()];
            for (x, grad) in qkv.chunks_exact(packed).zip(grad.chunks_exact_mut(packed)) {
                let parts = x.chunks_exact(packed / 3).zip(grad.chunks_exact_mut(packed / 3));
                for (((x, grad), weight), sum) in parts.zip([&queries, &keys]).zip(sums.chunks_exact_mut(width)) {
                    backward(x, values(weight), grad, sum, self.epsilon as f32);
                }
            }
        });
        let sums = sum_rows(&sums, 2 * width);
        let [queries, keys] = [&sums[..width], &sums[width..]].map(|sum| Some(tensor(sum.to_vec(), [width].into())));
        [Some(grad), queries, keys]
    }
}

vectorized! {
    fn forward(heads: &mut [f32], weight: &[f32], epsilon: f32) {
        for x in heads.chunks_exact_mut(weight.len()) {
            let inverse = inverse(x, epsilon);
            for (x, weight) in x.iter_mut().zip(weight) {
                *x = *x * inverse * weight;
            }
        }
    }

    fn backward(heads: &[f32], weight: &[f32], grads: &mut [f32], d_weight: &mut [f32], epsilon: f32) {
        let width = weight.len();
        let d_weight = &mut d_weight[..width];
        for (x, grad) in heads.chunks_exact(width).zip(grads.chunks_exact_mut(width)) {
            let inverse = inverse(x, epsilon);
            for i in 0..width {
                d_weight[i] += grad[i] * x[i] * inverse;
                grad[i] *= weight[i];
            }
            // Without its part along the head, which normalisation removes.
            let along_head = sum(width, |i| grad[i] * x[i]) * inverse * inverse / width as f32;
            for (grad, x) in grad.iter_mut().zip(x) {
                *grad = inverse * (*grad - x * along_head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn qk_rms_norm_is_its_composition() {
        for (batch, tokens, heads, width) in [(1, 1, 1, 2), (2, 5, 3, 7), (2, 300, 2, 24), (3, 130, 4, 40)] {
            check(
                [[batch, tokens, 3 * heads * width], [1, 1, width], [1, 1, width]],
                |[qkv, q, k]| qk_rms_norm(qkv, q.flatten(0, 2), k.flatten(0, 2), heads, 1e-2),
                |[qkv, q, k]| composed(qkv, q.flatten(0, 2), k.flatten(0, 2), heads, 1e-2),
            );
        }
    }
}
