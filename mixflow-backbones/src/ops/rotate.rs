//! Rotary positions of queries and keys.

use super::buffer::{contiguous, for_each_part, task_len, values};
use super::kernel::{Kernel, apply, is_native};
use super::native::on_gpu;
use super::simd::vectorized;
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

/// Which numbers of a head are rotated as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// The first and the second, the third and the fourth: `GPT-J`, RAE, FLUX.
    Adjacent,
    /// The `i`-th of the first half and the `i`-th of the second, `rotate_half`: `GPT-NeoX`, Llama, MiniT2I.
    Halves,
}

/// Rotates every pair of numbers of the first `heads` heads of every token by the token's angle; others stay.
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
pub fn rotate(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>, heads: usize, pairs: Pairs) -> Tensor<3> {
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
        return on_gpu!(
            x,
            super::cube::rotate(x, cos, sin, heads, pairs == Pairs::Adjacent),
            otherwise => composed(x, cos, sin, heads, pairs)
        );
    }
    let inputs = [x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch()];
    Tensor::from_dispatch(apply(Rotate { heads, pairs }, inputs))
}

fn composed(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>, heads: usize, pairs: Pairs) -> Tensor<3> {
    let ([batch, tokens, all], [_, width]) = (x.dims(), cos.dims());
    let first = heads * width;
    let ([outer, inner], axis) = match pairs {
        Pairs::Adjacent => ([width / 2, 2], 4),
        Pairs::Halves => ([2, width / 2], 3),
    };
    let head = x.clone().narrow(2, 0, first).reshape([batch, tokens, heads, outer, inner]);
    let [a, b] = [0, 1].map(|place| head.clone().narrow(axis, place, 1));
    let turned = Tensor::cat(vec![-b, a], axis); // a quarter turn of every pair
    let table = |table: Tensor<2>| table.reshape([1, tokens, 1, outer, inner]);
    let rotated = head * table(cos) + turned * table(sin);
    let rotated = rotated.reshape([batch, tokens, first]);
    if first == all { rotated } else { Tensor::cat(vec![rotated, x.narrow(2, first, all - first)], 2) }
}

#[derive(Clone, Copy, Debug)]
struct Rotate {
    heads: usize,
    pairs: Pairs,
}

impl Rotate {
    /// Rotates by the angles of the tables, or back.
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
        self.turn(x, [cos, sin], if self.pairs == Pairs::Adjacent { forth } else { forth_halves })
    }

    fn backward(self, [_, cos, sin]: [FlexTensor; 3], grad: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let back = if self.pairs == Pairs::Adjacent { back } else { back_halves };
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

    fn forth_halves(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
        let half = cos.len() / 2;
        for head in heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for i in 0..half {
                let (a, b) = (first[i], second[i]);
                first[i] = a * cos[i] - b * sin[i];
                second[i] = b * cos[half + i] + a * sin[half + i];
            }
        }
    }

    /// The transpose of `forth_halves`.
    fn back_halves(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
        let half = cos.len() / 2;
        for head in heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for i in 0..half {
                let (a, b) = (first[i], second[i]);
                first[i] = a * cos[i] + b * sin[half + i];
                second[i] = b * cos[half + i] - a * sin[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;
    use burn::tensor::{Device, TensorData};

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
            for pairs in [Pairs::Adjacent, Pairs::Halves] {
                check(
                    [[batch, tokens, (heads + others) * width]],
                    |[x]| {
                        let [cos, sin] = tables(&x, tokens, width);
                        rotate(x, cos, sin, heads, pairs)
                    },
                    |[x]| {
                        let [cos, sin] = tables(&x, tokens, width);
                        composed(x, cos, sin, heads, pairs)
                    },
                );
            }
        }
    }

    /// The same turns with the numbers of a head in another order.
    #[test]
    fn halves_are_adjacent_pairs_in_another_order() {
        let x = Tensor::<3>::from_data([[[1.0f32, 2.0, 3.0, 4.0], [0.5, -1.0, 2.0, 0.1]]], &Device::flex());
        let [cos, sin] = tables(&x, 2, 4);
        let order = Tensor::from_data([0, 2, 1, 3], &x.device());
        let halves = |table: Tensor<2>| table.select(1, order.clone());
        let adjacent = rotate(x.clone(), cos.clone(), sin.clone(), 1, Pairs::Adjacent).select(2, order.clone());
        let found = rotate(x.select(2, order.clone()), halves(cos), halves(sin), 1, Pairs::Halves);
        assert_eq!(found.into_data(), adjacent.into_data());
    }
}
