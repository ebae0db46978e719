//! Rotary positions.

use burn::backend::Cube;
use burn::tensor::Tensor;
use cubecl::prelude::{Tensor as Memory, *};

use super::super::node::{self, Operation};
use super::launch::{each, element, lanes, like, storage, tensor};

/// As [`ops::rotate`](super::super::rotate), of adjacent pairs or of halves; tables without gradients.
pub(in super::super) fn rotate(
    x: Tensor<3>,
    cos: Tensor<2>,
    sin: Tensor<2>,
    heads: usize,
    adjacent: bool,
) -> Tensor<3> {
    node::apply_kernel::<Cube, _>(Rotate { heads, adjacent }, vec![x, cos.unsqueeze(), sin.unsqueeze()])
}

struct Rotate {
    heads: usize,
    adjacent: bool,
}

impl Rotate {
    /// Turns by the angle, or back by it: what turns a gradient.
    fn turn(&self, x: Tensor<3>, cos: Tensor<3>, sin: Tensor<3>, back: bool) -> Tensor<3> {
        let ([batch, tokens, all], [_, _, width]) = (x.dims(), cos.dims());
        let [x, cos, sin] = [x, cos, sin].map(storage);
        let y = like(&x);
        // Halves of a head are whole vectors; pairs lie in one, but where numbers go one by one.
        let lanes = lanes(&x, if self.adjacent { width } else { width / 2 });
        let vectors = batch * tokens * all / lanes;
        let (count, dim) = each(&x, vectors);
        turn::launch(
            &x.client.clone(),
            count,
            dim,
            lanes,
            x.clone().into_tensor_arg(),
            cos.into_tensor_arg(),
            sin.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            vectors,
            tokens,
            all / lanes,
            self.heads * width / lanes,
            width / lanes,
            self.adjacent,
            back,
            element(x.dtype),
        );
        tensor(y)
    }
}

impl Operation for Rotate {
    fn forward(&self, inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let [x, cos, sin]: [_; 3] = inputs.try_into().expect("there are three");
        (self.turn(x, cos, sin, false), vec![])
    }

    fn forgets(&self) -> usize {
        1
    }

    fn backward(&self, kept: Vec<Tensor<3>>, gradient: Tensor<3>, _: &[bool]) -> Vec<Option<Tensor<3>>> {
        let [cos, sin]: [_; 2] = kept.try_into().expect("there are two");
        vec![Some(self.turn(gradient, cos, sin, true)), None, None]
    }
}

/// A unit a vector: with its partners turned by the angles of its token, or as it is past the heads that turn. Counts are of
/// vectors.
#[cube(launch)]
fn turn<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    cos: &Memory<Vector<E, N>>,
    sin: &Memory<Vector<E, N>>,
    y: &mut Memory<Vector<E, N>>,
    vectors: usize,
    tokens: usize,
    all: usize,
    turned: usize,
    width: usize,
    #[comptime] adjacent: bool,
    #[comptime] back: bool,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= vectors {
        terminate!();
    }
    let column = place % all;
    if column >= turned {
        y[place] = x[place];
        terminate!();
    }
    let own = column % width;
    let angle = place / all % tokens * width + own;
    let value = Vector::<f32, N>::cast_from(x[place]);
    let mut quarter = value; // turned by 90 degrees
    let lanes = N::value().comptime();
    if comptime!(adjacent && lanes > 1) {
        #[unroll]
        for pair in 0..comptime!(lanes / 2) {
            quarter.insert(comptime!(2 * pair), -value.extract(comptime!(2 * pair + 1)));
            quarter.insert(comptime!(2 * pair + 1), value.extract(comptime!(2 * pair)));
        }
    } else {
        let (mut is_first, mut apart) = (own % 2 == 0, 1usize);
        if !adjacent {
            is_first = own < width / 2;
            apart = width / 2;
        }
        if is_first {
            quarter = -Vector::<f32, N>::cast_from(x[place + apart]);
        } else {
            quarter = Vector::<f32, N>::cast_from(x[place - apart]);
        }
    }
    if back {
        quarter = -quarter;
    }
    let (cos, sin) = (Vector::<f32, N>::cast_from(cos[angle]), Vector::<f32, N>::cast_from(sin[angle]));
    y[place] = Vector::cast_from(value * cos + quarter * sin);
}
