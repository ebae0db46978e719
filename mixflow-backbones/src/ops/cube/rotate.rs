//! Rotary positions.

use burn::backend::{Cube, TensorMetadata};
use burn::tensor::Tensor;
use cubecl::prelude::{Tensor as Memory, *};

use super::super::node::{self, Operation};
use super::launch::{each, element, like, storage, tensor};

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
        let ([_, tokens, all], [_, _, width]) = (x.dims(), cos.dims());
        let [x, cos, sin] = [x, cos, sin].map(storage);
        let y = like(&x);
        let (count, dim) = each(&x, x.shape().num_elements());
        turn::launch(
            &x.client.clone(),
            count,
            dim,
            x.clone().into_tensor_arg(),
            cos.into_tensor_arg(),
            sin.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            tokens,
            all,
            self.heads * width,
            width,
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

/// A unit a number: with its partner turned by the angle of its token, or as it is past the heads that turn.
#[cube(launch)]
fn turn<E: Float>(
    x: &Memory<E>,
    cos: &Memory<E>,
    sin: &Memory<E>,
    y: &mut Memory<E>,
    tokens: usize,
    all: usize,
    turned: usize,
    width: usize,
    #[comptime] adjacent: bool,
    #[comptime] back: bool,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= y.len() {
        terminate!();
    }
    let column = place % all;
    if column >= turned {
        y[place] = x[place];
        terminate!();
    }
    let own = column % width;
    let angle = place / all % tokens * width + own;
    let (mut is_first, mut apart) = (own % 2 == 0, 1usize);
    if !adjacent {
        is_first = own < width / 2;
        apart = width / 2;
    }
    let mut partner = place;
    let mut sign = 1.0f32;
    if is_first {
        partner += apart;
        sign = -1.0f32;
    } else {
        partner -= apart;
    }
    if back {
        sign = 0.0f32 - sign;
    }
    let value = f32::cast_from(x[place]) * f32::cast_from(cos[angle])
        + sign * f32::cast_from(x[partner]) * f32::cast_from(sin[angle]);
    y[place] = E::cast_from(value);
}
