//! Rotary positions of queries and keys.

use super::buffer::{contiguous, for_each_part, task_len, values};
use super::kernel::{Kernel, apply, is_native};
use super::simd::vectorized;
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

/// Rotates every adjacent pair of numbers of the first `heads` heads of every token by the token's angle; others stay.
///
/// A pair `(a, b)` becomes `(a cos − b sin, b cos + a sin)`. The tables are constants: no gradient reaches them.
///
/// # Shapes
/// - x: `[batch, tokens, heads d]`, or more: of queries, keys and values packed as for [`attention`](super::attention), the
///   first two thirds are rotated; `d` is even
/// - cos, sin: `[tokens, d]`, the same for both numbers of a pair
/// - returns: as x
///
/// # Source
/// Su et al. 2021 (arXiv 2104.09864), section 3.2.
pub fn rotate(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>, heads: usize) -> Tensor<3> {
    let ([_, tokens, all], [_, width]) = (x.dims(), cos.dims());
    assert!(
        heads * width <= all && width.is_multiple_of(2),
        "rotate: {heads} heads of {width} do not fit {all} numbers"
    );
    for table in [&cos, &sin] {
        assert_eq!(table.dims(), [tokens, width], "rotate: the table does not fit {:?}", x.dims());
    }
    let (cos, sin) = (cos.detach(), sin.detach());
    if !is_native(&x) {
        return composed(x, cos, sin, heads);
    }
    let inputs = [x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch()];
    Tensor::from_dispatch(apply(Rotate { heads }, inputs))
}

fn composed(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>, heads: usize) -> Tensor<3> {
    let ([batch, tokens, all], [_, width]) = (x.dims(), cos.dims());
    let first = heads * width;
    let pairs = x.clone().narrow(2, 0, first).reshape([batch, tokens, heads, width / 2, 2]);
    let [a, b] = [0, 1].map(|place| pairs.clone().narrow(4, place, 1));
    let turned = Tensor::cat(vec![-b, a], 4); // a quarter turn of every pair
    let table = |table: Tensor<2>| table.reshape([1, tokens, 1, width / 2, 2]);
    let rotated = pairs * table(cos) + turned * table(sin);
    let rotated = rotated.reshape([batch, tokens, first]);
    if first == all { rotated } else { Tensor::cat(vec![rotated, x.narrow(2, first, all - first)], 2) }
}

#[derive(Clone, Copy, Debug)]
struct Rotate {
    heads: usize,
}

impl Rotate {
    /// Turns by the tables' angles, or back.
    fn turn(self, x: FlexTensor, [cos, sin]: [FlexTensor; 2], turn: fn(&mut [f32], &[f32], &[f32])) -> FlexTensor {
        let [mut x, cos, sin] = [x, cos, sin].map(contiguous);
        let ([tokens, all], width) = ([x.shape()[1], x.shape()[2]], cos.shape()[1]);
        let len = task_len(all);
        for_each_part(x.storage_mut::<f32>(), len, |index, part| {
            for (row, x) in part.chunks_exact_mut(all).enumerate() {
                let token = (index * len / all + row) % tokens;
                let table = token * width..(token + 1) * width;
                turn(&mut x[..self.heads * width], &values(&cos)[table.clone()], &values(&sin)[table]);
            }
        });
        x
    }
}

impl Kernel<3> for Rotate {
    fn forward(self, [x, cos, sin]: [FlexTensor; 3]) -> FlexTensor {
        self.turn(x, [cos, sin], forth)
    }

    fn backward(self, [_, cos, sin]: [FlexTensor; 3], grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        [Some(self.turn(grad, [cos, sin], back)), None, None]
    }

    fn keeps(self, index: usize) -> bool {
        index != 0
    }
}

vectorized! {
    fn forth(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
        for head in heads.chunks_exact_mut(cos.len()) {
            for ((x, cos), sin) in head.chunks_exact_mut(2).zip(cos.chunks_exact(2)).zip(sin.chunks_exact(2)) {
                let (a, b) = (x[0], x[1]);
                x[0] = a * cos[0] - b * sin[0];
                x[1] = b * cos[1] + a * sin[1];
            }
        }
    }

    /// The transpose of `forth`.
    fn back(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
        for head in heads.chunks_exact_mut(cos.len()) {
            for ((x, cos), sin) in head.chunks_exact_mut(2).zip(cos.chunks_exact(2)).zip(sin.chunks_exact(2)) {
                let (a, b) = (x[0], x[1]);
                x[0] = a * cos[0] + b * sin[1];
                x[1] = b * cos[1] - a * sin[0];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;
    use burn::tensor::TensorData;

    fn tables(x: &Tensor<3>, tokens: usize, width: usize) -> [Tensor<2>; 2] {
        [f64::cos as fn(f64) -> f64, f64::sin].map(|f| {
            let values: Vec<f64> = (0..tokens * width).map(|i| f((i / 2 * 2) as f64)).collect();
            Tensor::from_data(TensorData::new(values, [tokens, width]), (&x.device(), x.dtype()))
        })
    }

    #[test]
    fn rotate_is_its_composition() {
        for (batch, tokens, heads, others, width) in
            [(1, 1, 2, 1, 2), (2, 5, 6, 3, 6), (2, 5, 3, 0, 4), (2, 300, 4, 2, 24)]
        {
            check(
                [[batch, tokens, (heads + others) * width]],
                |[x]| {
                    let [cos, sin] = tables(&x, tokens, width);
                    rotate(x, cos, sin, heads)
                },
                |[x]| {
                    let [cos, sin] = tables(&x, tokens, width);
                    composed(x, cos, sin, heads)
                },
            );
        }
    }
}
