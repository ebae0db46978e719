//! The gated residual connection.

use burn::backend::Cube;
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{Tensor as Memory, *};

use super::super::node::{self, Operation};
use super::launch::{CHUNK, each, element, empty, lanes, like, storage, tensor};

/// As [`ops::gated_residual`](super::super::gated_residual).
pub(in super::super) fn gated_residual(x: Tensor<3>, y: Tensor<3>, gate: Tensor<2>) -> Tensor<3> {
    node::apply_kernel::<Cube, _>(Gate, vec![x, y, gate.unsqueeze_dim(1)])
}

/// Gradients of `y` and, where it is wanted, of the gate, `[batch, 1, width]`, from that of the output; none has gradients itself.
pub(in super::super) fn gate_backward(
    y: Tensor<3>,
    gate: Tensor<3>,
    gradient: Tensor<3>,
    of_gate: bool,
) -> (Tensor<3>, Option<Tensor<3>>) {
    let (size, dtype) = (y.dims(), y.dtype());
    assert!(gate.dtype() == dtype && gradient.dtype() == dtype, "gate_backward: the tensors have one type");
    let [y, gate, gradient] = [y, gate, gradient].map(storage);
    let of_y = times_gate(None, &gradient, gate, size);
    let of_gate = of_gate.then(|| sums(y, gradient, size).cast(dtype));
    (tensor(of_y), of_gate)
}

struct Gate;

impl Operation for Gate {
    fn forward(&self, inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let [x, y, gate]: [_; 3] = inputs.try_into().expect("there are three");
        let size = x.dims();
        let [x, y, gate] = [x, y, gate].map(storage);
        (tensor(times_gate(Some(&x), &y, gate, size)), vec![])
    }

    fn forgets(&self) -> usize {
        1
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, wanted: &[bool]) -> Vec<Option<Tensor<3>>> {
        let gate = kept.remove(1);
        let (of_y, of_gate) = gate_backward(kept.remove(0), gate, gradient.clone(), wanted[2]);
        vec![Some(gradient), Some(of_y), of_gate]
    }
}

/// `gate y`, to which `x` is added if there is one.
fn times_gate(
    x: Option<&CubeTensor>,
    y: &CubeTensor,
    gate: CubeTensor,
    [batch, tokens, width]: [usize; 3],
) -> CubeTensor {
    let (output, lanes) = (like(y), lanes(y, width));
    let vectors = batch * tokens * width / lanes;
    let (count, dim) = each(y, vectors);
    add_gated::launch(
        &y.client,
        count,
        dim,
        lanes,
        // Without x another input stands in its place, and is not read there.
        x.unwrap_or(y).clone().into_tensor_arg(),
        y.clone().into_tensor_arg(),
        gate.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        vectors,
        tokens,
        width / lanes,
        x.is_some(),
        element(y.dtype),
    );
    output
}

/// `Σ gradient · y` over the tokens of each example, in 32 bits.
fn sums(y: CubeTensor, gradient: CubeTensor, [batch, tokens, width]: [usize; 3]) -> Tensor<3> {
    let chunks = tokens.div_ceil(CHUNK);
    let found = empty(&y, [batch, chunks, width], DType::F32);
    let lanes = lanes(&y, width);
    let (count, dim) = each(&y, batch * chunks * width / lanes);
    let dtype = element(y.dtype);
    sum_tokens::launch(
        &y.client.clone(),
        count,
        dim,
        lanes,
        y.into_tensor_arg(),
        gradient.into_tensor_arg(),
        found.clone().into_tensor_arg(),
        batch,
        tokens,
        width / lanes,
        chunks,
        dtype,
    );
    tensor::<3>(found).sum_dim(1)
}

/// A unit a vector; `width` counts vectors.
#[cube(launch)]
fn add_gated<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    y: &Memory<Vector<E, N>>,
    gate: &Memory<Vector<E, N>>,
    output: &mut Memory<Vector<E, N>>,
    vectors: usize,
    tokens: usize,
    width: usize,
    #[comptime] adds: bool,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= vectors {
        terminate!();
    }
    let factor = Vector::<f32, N>::cast_from(gate[place / (tokens * width) * width + place % width]);
    let mut value = Vector::<f32, N>::cast_from(y[place]) * factor;
    if adds {
        value += Vector::<f32, N>::cast_from(x[place]);
    }
    output[place] = Vector::cast_from(value);
}

/// A unit for a vector of columns of each chunk of an example's tokens.
#[cube(launch)]
fn sum_tokens<E: Float, N: Size>(
    y: &Memory<Vector<E, N>>,
    gradient: &Memory<Vector<E, N>>,
    sums: &mut Memory<Vector<f32, N>>,
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
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for token in first..last {
        let at = (example * tokens + token) * width + column;
        sum += Vector::<f32, N>::cast_from(gradient[at]) * Vector::<f32, N>::cast_from(y[at]);
    }
    sums[place] = sum;
}
