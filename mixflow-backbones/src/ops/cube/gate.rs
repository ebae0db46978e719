//! The gated residual connection.

use burn::backend::{Cube, TensorMetadata};
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{Tensor as Memory, *};

use super::super::node::{self, Operation};
use super::launch::{CHUNK, each, element, empty, like, storage, tensor};

/// As [`ops::gated_residual`](super::super::gated_residual).
pub(in super::super) fn gated_residual(x: Tensor<3>, y: Tensor<3>, gate: Tensor<2>) -> Tensor<3> {
    node::apply_kernel::<Cube, _>(Gate, vec![x, y, gate.unsqueeze_dim(1)])
}

/// Gradients of `y` and of the gate, `[batch, 1, width]`, from that of the output; none has gradients itself.
pub(in super::super) fn gate_backward(y: Tensor<3>, gate: Tensor<3>, gradient: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
    let [batch, tokens, width] = y.dims();
    assert!(gate.dtype() == y.dtype() && gradient.dtype() == y.dtype(), "gate_backward: the tensors have one type");
    let [y, gate, gradient] = [y, gate, gradient].map(storage);
    let of_y = like(&y);
    let (count, dim) = each(&y, batch * tokens * width);
    gate_rows::launch(
        &y.client.clone(),
        count,
        dim,
        gradient.clone().into_tensor_arg(),
        gate.into_tensor_arg(),
        of_y.clone().into_tensor_arg(),
        tokens * width,
        width,
        element(y.dtype),
    );
    let dtype = y.dtype;
    (tensor(of_y), sums(y, gradient, [batch, tokens, width]).cast(dtype))
}

struct Gate;

impl Operation for Gate {
    fn forward(&self, inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let [x, y, gate]: [_; 3] = inputs.try_into().expect("there are three");
        let [_, tokens, width] = x.dims();
        let [x, y, gate] = [x, y, gate].map(storage);
        let output = like(&x);
        let (count, dim) = each(&x, x.shape().num_elements());
        add_gated::launch(
            &x.client.clone(),
            count,
            dim,
            x.clone().into_tensor_arg(),
            y.into_tensor_arg(),
            gate.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            tokens * width,
            width,
            element(x.dtype),
        );
        (tensor(output), vec![])
    }

    fn forgets(&self) -> usize {
        1
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, _: &[bool]) -> Vec<Option<Tensor<3>>> {
        let gate = kept.remove(1);
        let (of_y, of_gate) = gate_backward(kept.remove(0), gate, gradient.clone());
        vec![Some(gradient), Some(of_y), Some(of_gate)]
    }
}

/// `Σ gradient · y` over the tokens of each example, in 32 bits.
fn sums(y: CubeTensor, gradient: CubeTensor, [batch, tokens, width]: [usize; 3]) -> Tensor<3> {
    let chunks = tokens.div_ceil(CHUNK);
    let found = empty(&y, [batch, chunks, width], DType::F32);
    let (count, dim) = each(&y, batch * chunks * width);
    let dtype = element(y.dtype);
    sum_tokens::launch(
        &y.client.clone(),
        count,
        dim,
        y.into_tensor_arg(),
        gradient.into_tensor_arg(),
        found.clone().into_tensor_arg(),
        batch,
        tokens,
        width,
        chunks,
        dtype,
    );
    tensor::<3>(found).sum_dim(1)
}

#[cube(launch)]
fn add_gated<E: Float>(
    x: &Memory<E>,
    y: &Memory<E>,
    gate: &Memory<E>,
    output: &mut Memory<E>,
    example: usize,
    width: usize,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= output.len() {
        terminate!();
    }
    let factor = f32::cast_from(gate[place / example * width + place % width]);
    output[place] = E::cast_from(f32::cast_from(x[place]) + f32::cast_from(y[place]) * factor);
}

#[cube(launch)]
fn gate_rows<E: Float>(
    y: &Memory<E>,
    gate: &Memory<E>,
    output: &mut Memory<E>,
    example: usize,
    width: usize,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= output.len() {
        terminate!();
    }
    let factor = f32::cast_from(gate[place / example * width + place % width]);
    output[place] = E::cast_from(f32::cast_from(y[place]) * factor);
}

/// A unit for a column of each chunk of an example's tokens.
#[cube(launch)]
fn sum_tokens<E: Float>(
    y: &Memory<E>,
    gradient: &Memory<E>,
    sums: &mut Memory<f32>,
    batch: usize,
    tokens: usize,
    width: usize,
    chunks: usize,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= batch * chunks * width {
        terminate!();
    }
    let (column, chunk, example) = (place % width, place / width % chunks, place / width / chunks);
    let (first, mut last) = (chunk * CHUNK, (chunk + 1) * CHUNK);
    if last > tokens {
        last = tokens;
    }
    let mut sum = 0.0f32;
    for token in first..last {
        let at = (example * tokens + token) * width + column;
        sum += f32::cast_from(gradient[at]) * f32::cast_from(y[at]);
    }
    sums[place] = sum;
}
