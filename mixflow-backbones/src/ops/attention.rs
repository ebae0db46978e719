//! Multi-head self-attention, from packed queries, keys and values to concatenated heads.

use super::buffer::{contiguous, is_large, tensor, values};
use super::gemm::{Matrix, Threads, multiply};
use super::kernel::{Kernel, apply, flex, from_flex, is_native, is_on_cpu};
use super::native::on_gpu;
use super::node::{self, Operation};
use super::recomputed::{Function, Recomputed};
use super::simd::{exp, fold, sum, vectorized};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::ModuleOps;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::activation::softmax;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Tensor, module};
use rayon::prelude::*;

/// `softmax(q kᵀ / √d) v` for every head, without mask; `d` is the width of a head.
///
/// The CPU kernel holds a block of rows of the attention matrix per thread, never the whole matrix, and computes it
/// again for the gradient.
///
/// # Shapes
/// - qkv: `[batch, tokens, 3 heads d]`, in memory `[batch, tokens, 3, heads, d]` as timm's `Attention` packs it
/// - returns: `[batch, tokens, heads d]`
///
/// # Source
/// Vaswani et al. 2017 (arXiv 1706.03762), section 3.2; row blocks and recomputation after Dao et al. 2022
/// (arXiv 2205.14135).
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [_, _, packed] = qkv.dims();
    assert!(heads > 0 && packed % (3 * heads) == 0, "attention: width {packed} is not 3 times {heads} heads");
    if qkv.dtype() == DType::BF16 && is_on_cpu(&qkv) {
        return attention(qkv.cast(DType::F32), heads).cast(DType::BF16);
    }
    if !is_native(&qkv) {
        return composed(qkv, heads);
    }
    Tensor::from_dispatch(apply(Attention { heads }, [qkv.into_dispatch()]))
}

fn composed(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [q, k, v] = apart(qkv, heads);
    together(match is_on_cpu(&q) {
        true => softmax((q.clone() * (q.dims()[3] as f64).powf(-0.5)).matmul(k.swap_dims(2, 3)), 3).matmul(v),
        false => without_scores(q, k, v),
    })
}

/// One operation forward and one backward, which hold no scores on a GPU. Without gradients, too, it is the one that training
/// runs: the other, Burn's `attention`, may take one that holds them.
fn without_scores(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let options = AttentionModuleOptions::default();
    if q.is_autodiff() {
        return module::attention(q, k, v, None, None, options);
    }
    on_gpu!(
        q,
        {
            let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
            Tensor::from_dispatch(Dispatch::attention_with_logsumexp(q, k, v, options).0)
        },
        otherwise => module::attention(q, k, v, None, None, options)
    )
}

/// Queries, keys and values, `[batch, heads, tokens, d]` each.
fn apart(qkv: Tensor<3>, heads: usize) -> [Tensor<4>; 3] {
    let [batch, tokens, packed] = qkv.dims();
    let parts = qkv.reshape([batch, tokens, 3, heads, packed / (3 * heads)]).permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|part| parts.clone().narrow(0, part, 1).squeeze_dim(0))
}

/// `[batch, heads, tokens, d]` to `[batch, tokens, heads d]`.
fn together(mixed: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, width] = mixed.dims();
    mixed.swap_dims(1, 2).reshape([batch, tokens, heads * width])
}

/// [`attention`] of queries, keys and values that are computed again for the backward pass. It keeps what they are computed
/// of, and off the CPU the output and the logarithm of each query's sum.
pub fn attention_of(qkv: Recomputed, heads: usize) -> Recomputed {
    match (is_on_cpu(&qkv.inputs[0]), qkv.inputs[0].dtype()) {
        (true, DType::F64) => composed(qkv.value(), heads).into(),
        (true, _) => node::apply(ByKernel { qkv: qkv.function, heads }, qkv.inputs).into(),
        (false, _) => fused(qkv, heads),
    }
}

fn fused(qkv: Recomputed, heads: usize) -> Recomputed {
    Recomputed::from(node::apply(Fused { qkv: qkv.function, heads }, qkv.inputs)).map(move |mixed| {
        let [rows, tokens, width] = mixed.dims();
        together(mixed.reshape([rows / heads, heads, tokens, width]))
    })
}

/// Attention by the kernel of this module, of 16 or 32 bits.
struct ByKernel {
    qkv: Function,
    heads: usize,
}

impl Operation for ByKernel {
    fn forward(&self, inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        (attention(self.qkv.value(inputs), self.heads), vec![])
    }

    fn backward(&self, kept: Vec<Tensor<3>>, gradient: Tensor<3>, wanted: &[bool]) -> Vec<Option<Tensor<3>>> {
        let heads = self.heads;
        self.qkv.pull_back(kept, wanted, |qkv| {
            let own = qkv.dtype();
            let [qkv, gradient] = [qkv, gradient].map(|tensor| flex(tensor.cast(DType::F32)));
            let [of_qkv] = Attention { heads }.backward([qkv], gradient, [true]);
            of_qkv.map(|of_qkv| from_flex::<3>(of_qkv).cast(own))
        })
    }
}

/// Attention by Burn's operations, which hold no scores on a GPU. The output is `[batch heads, tokens, d]`, as they need it
/// again.
struct Fused {
    qkv: Function,
    heads: usize,
}

impl Operation for Fused {
    fn forward(&self, inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let [q, k, v] = apart(self.qkv.value(inputs), self.heads).map(Tensor::into_dispatch);
        let (output, sums) = Dispatch::attention_with_logsumexp(q, k, v, AttentionModuleOptions::default());
        let output = Tensor::<4>::from_dispatch(output).flatten(0, 1);
        (output.clone(), vec![output, Tensor::from_dispatch(sums)])
    }

    fn composed(&self, inputs: Vec<Tensor<3>>) -> Tensor<3> {
        let [q, k, v] = apart(self.qkv.value(inputs), self.heads);
        without_scores(q, k, v).flatten(0, 1)
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, wanted: &[bool]) -> Vec<Option<Tensor<3>>> {
        let own = kept.split_off(kept.len() - 2);
        self.qkv.pull_back(kept, wanted, |qkv| {
            let [q, k, v] = apart(qkv, self.heads);
            let shape = q.dims();
            let [output, sums]: [_; 2] = own.try_into().expect("there are two");
            let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
            let [output, gradient] = [output, gradient].map(|tensor| tensor.reshape(shape).into_dispatch());
            let options = AttentionModuleOptions::default();
            let found = Dispatch::attention_backward(q, k, v, output, sums.into_dispatch(), gradient, options);
            let parts =
                [found.query_grad, found.key_grad, found.value_grad].map(|part| together(Tensor::from_dispatch(part)));
            Some(Tensor::cat(parts.into(), 2))
        })
    }
}

/// Values of the attention matrix that are held at a time.
const BLOCK: usize = 32 * 1024;

#[derive(Clone, Copy, Debug)]
struct Attention {
    heads: usize,
}

impl Kernel<1> for Attention {
    fn forward(self, [qkv]: [FlexTensor; 1]) -> FlexTensor {
        let qkv = contiguous(qkv);
        let shape = Shape::new(&qkv, self.heads);
        let mut output = vec![0.0; values(&qkv).len() / 3];
        shape.for_each_example(&mut output, 1, |batch, head, output| {
            let head = shape.head(values(&qkv), batch, head);
            forward(&head, output);
        });
        tensor(output, [shape.batch, shape.tokens, self.heads * shape.width].into())
    }

    fn backward(self, [qkv]: [FlexTensor; 1], grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let (qkv, grad) = (contiguous(qkv), contiguous(grad));
        let shape = Shape::new(&qkv, self.heads);
        let mut output = vec![0.0; values(&qkv).len()];
        shape.for_each_example(&mut output, 3, |batch, head, output| {
            let row = self.heads * shape.width;
            let start = batch * shape.tokens * row + head * shape.width;
            backward(&shape.head(values(&qkv), batch, head), &values(&grad)[start..], row, output);
        });
        [Some(tensor(output, qkv.shape()))]
    }
}

#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    tokens: usize,
    heads: usize,
    /// Width of a head.
    width: usize,
}

impl Shape {
    fn new(qkv: &FlexTensor, heads: usize) -> Self {
        let dims = qkv.shape();
        Self { batch: dims[0], tokens: dims[1], heads, width: dims[2] / (3 * heads) }
    }

    fn head(self, qkv: &[f32], batch: usize, head: usize) -> Head<'_> {
        let row = 3 * self.heads * self.width;
        let [q, k, v] = [0, 1, 2].map(|part| {
            &qkv[batch * self.tokens * row + (part * self.heads + head) * self.width..(batch + 1) * self.tokens * row]
        });
        Head { q, k, v, row, tokens: self.tokens, width: self.width }
    }

    /// Calls `f(batch, head, part)` for every head, where `part` is `[parts, tokens, width]`, and puts the parts at
    /// their place in `output`, `[batch, tokens, parts, heads, width]`.
    fn for_each_example(self, output: &mut [f32], parts: usize, f: impl Fn(usize, usize, &mut [f32]) + Sync + Send) {
        let size = self.tokens * parts * self.heads * self.width;
        let example = |(batch, output): (usize, &mut [f32])| {
            let mut scratch = vec![0.0; size];
            let heads = scratch.len() / self.heads;
            if is_large(self.batch * size * self.tokens / 64) {
                scratch.par_chunks_mut(heads).enumerate().for_each(|(head, part)| f(batch, head, part));
            } else {
                scratch.chunks_mut(heads).enumerate().for_each(|(head, part)| f(batch, head, part));
            }
            for (index, slot) in output.chunks_exact_mut(self.width).enumerate() {
                let (head, part) = (index % self.heads, index / self.heads % parts);
                let token = index / self.heads / parts;
                slot.copy_from_slice(
                    &scratch[((head * parts + part) * self.tokens + token) * self.width..][..self.width],
                );
            }
        };
        if is_large(self.batch * size * self.tokens / 64) {
            output.par_chunks_mut(size).enumerate().for_each(example);
        } else {
            output.chunks_mut(size).enumerate().for_each(example);
        }
    }
}

/// Queries, keys and values of one head, `row` values between tokens.
struct Head<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    row: usize,
    tokens: usize,
    width: usize,
}

impl Head<'_> {
    fn matrix<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix { values, strides: [self.row, 1] }
    }

    fn scale(&self) -> f32 {
        (self.width as f32).powf(-0.5)
    }

    /// Blocks of query tokens.
    fn blocks(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (tokens, rows) = (self.tokens, (BLOCK / self.tokens).clamp(16, self.tokens.max(16)));
        (0..tokens).step_by(rows).map(move |start| start..(start + rows).min(tokens))
    }

    /// Writes the attention matrix of a block of queries, `[queries, tokens]`, into `block`.
    fn probabilities(&self, queries: &std::ops::Range<usize>, block: &mut [f32]) {
        let q = self.matrix(&self.q[queries.start * self.row..]);
        let dims = [queries.len(), self.width, self.tokens];
        multiply(dims, self.scale(), q, self.matrix(self.k).transposed(), block, self.tokens, false, Threads::One);
        softmax_rows(block, self.tokens);
    }
}

fn forward(head: &Head<'_>, output: &mut [f32]) {
    let mut block = vec![0.0; head.tokens * head.blocks().next().map_or(0, |rows| rows.len())];
    for queries in head.blocks() {
        let block = &mut block[..queries.len() * head.tokens];
        head.probabilities(&queries, block);
        let output = &mut output[queries.start * head.width..queries.end * head.width];
        let dims = [queries.len(), head.tokens, head.width];
        multiply(
            dims,
            1.0,
            Matrix::rows(block, head.tokens),
            head.matrix(head.v),
            output,
            head.width,
            false,
            Threads::One,
        );
    }
}

/// Gradients of queries, keys and values, `[3, tokens, width]`, from that of the output, `grad_row` values a token.
fn backward(head: &Head<'_>, grad: &[f32], grad_row: usize, output: &mut [f32]) {
    let (tokens, width) = (head.tokens, head.width);
    let (d_q, d_kv) = output.split_at_mut(tokens * width);
    let (d_k, d_v) = d_kv.split_at_mut(tokens * width);
    let size = tokens * head.blocks().next().map_or(0, |rows| rows.len());
    let (mut p, mut d_p) = (vec![0.0; size], vec![0.0; size]);
    for queries in head.blocks() {
        let rows = queries.len();
        let (p, d_p) = (&mut p[..rows * tokens], &mut d_p[..rows * tokens]);
        let grad = Matrix { values: &grad[queries.start * grad_row..], strides: [grad_row, 1] };
        let q = head.matrix(&head.q[queries.start * head.row..]);
        head.probabilities(&queries, p);
        multiply([rows, width, tokens], 1.0, grad, head.matrix(head.v).transposed(), d_p, tokens, false, Threads::One);
        multiply(
            [tokens, rows, width],
            1.0,
            Matrix::rows(p, tokens).transposed(),
            grad,
            d_v,
            width,
            true,
            Threads::One,
        );
        softmax_rows_backward(p, d_p, tokens);
        let (d_s, scale) = (Matrix::rows(d_p, tokens), head.scale());
        let d_q = &mut d_q[queries.start * width..queries.end * width];
        multiply([rows, tokens, width], scale, d_s, head.matrix(head.k), d_q, width, false, Threads::One);
        multiply([tokens, rows, width], scale, d_s.transposed(), q, d_k, width, true, Threads::One);
    }
}

vectorized! {
    fn softmax_rows(rows: &mut [f32], width: usize) {
        for row in rows.chunks_exact_mut(width) {
            let max = fold(width, f32::NEG_INFINITY, |i| row[i], f32::max);
            for x in row.iter_mut() {
                *x = exp(*x - max);
            }
            let inverse = 1.0 / sum(width, |i| row[i]);
            for x in row {
                *x *= inverse;
            }
        }
    }

    /// Replaces the gradient of the probabilities by that of the scores.
    fn softmax_rows_backward(p: &[f32], grad: &mut [f32], width: usize) {
        for (p, grad) in p.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
            let mean = sum(width, |i| p[i] * grad[i]);
            for (grad, p) in grad.iter_mut().zip(p) {
                *grad = p * (*grad - mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;
    use crate::init::laws::numbers;
    use burn::tensor::Device;

    #[test]
    fn attention_is_its_composition() {
        for (batch, tokens, heads, width) in [(1, 1, 1, 1), (2, 5, 3, 7), (3, 33, 2, 16), (2, 300, 2, 24)] {
            let shape = [[batch, tokens, 3 * heads * width]];
            check(shape, |[qkv]| attention(qkv, heads), |[qkv]| composed(qkv, heads));
            // Twice a half, from which it is computed again.
            let again = |[qkv]: [Tensor<3>; 1]| {
                let qkv = Recomputed::new([qkv * 0.5], |[half]| half * 2.0);
                attention_of(qkv, heads).value()
            };
            check(shape, again, |[qkv]| composed(qkv, heads));
        }
    }

    /// Burn's on the CPU, which compose what they are on a GPU.
    #[test]
    fn what_other_devices_compute_is_the_composition() {
        let device = Device::flex().autodiff();
        let (shape, heads) = ([3, 33, 3 * 2 * 16], 2);
        let random = |shape| numbers::<3>(shape, &device) * 2.0 - 1.0;
        let (half, direction) = (random(shape).detach().require_grad(), random([3, 33, 2 * 16]));
        let values = |mixed: Tensor<3>| {
            let gradients = (mixed.clone() * direction.clone()).sum().backward();
            [mixed.inner(), half.grad(&gradients).unwrap()]
        };
        let found = values(fused(Recomputed::new([half.clone()], |[half]| half * 2.0), heads).value());
        for (found, expected) in found.into_iter().zip(values(composed(half.clone() * 2.0, heads))) {
            // Sums of 33 products of numbers below 1.
            let apart = (found - expected).abs().max().into_scalar::<f32>();
            assert!(apart < 2e-5, "{apart}");
        }
    }
}
