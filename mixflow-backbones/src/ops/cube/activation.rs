//! Activation functions, and the gate of a `SwiGLU` perceptron.

use burn::backend::{Cube, TensorMetadata};
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{Tensor as Memory, *};

use super::super::node::{self, Operation};
use super::launch::{each, element, empty, like, storage, tensor};

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Function {
    /// [`ops::gelu`](super::super::gelu).
    Gelu,
    /// [`ops::gelu_tanh`](super::super::gelu_tanh).
    GeluTanh,
    /// [`ops::silu`](super::super::silu).
    Silu,
}

/// `function` of every number.
pub(in super::super) fn activate<const D: usize>(function: Function, x: Tensor<D>) -> Tensor<D> {
    let shape = x.dims();
    node::apply_kernel::<Cube, _>(function, vec![x.flatten::<1>(0, D - 1).unsqueeze()]).reshape(shape)
}

/// As [`ops::swiglu`](super::super::swiglu).
pub(in super::super) fn swiglu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let mut shape = x.dims();
    let width = shape[D - 1];
    shape[D - 1] /= 2;
    let rows = x.shape().num_elements() / width;
    node::apply_kernel::<Cube, _>(SwiGlu, vec![x.reshape([1, rows, width])]).reshape(shape)
}

impl Operation for Function {
    fn forward(&self, mut inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let x = storage(inputs.remove(0));
        let y = like(&x);
        let (count, dim) = each(&x, x.shape().num_elements());
        let (client, dtype) = (x.client.clone(), element(x.dtype));
        forward::launch(&client, count, dim, x.into_tensor_arg(), y.clone().into_tensor_arg(), *self, dtype);
        (tensor(y), vec![])
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, _: &[bool]) -> Vec<Option<Tensor<3>>> {
        let (x, gradient) = (storage(kept.remove(0)), storage(gradient));
        let of_x = like(&x);
        let (count, dim) = each(&x, x.shape().num_elements());
        backward::launch(
            &x.client.clone(),
            count,
            dim,
            x.clone().into_tensor_arg(),
            gradient.into_tensor_arg(),
            of_x.clone().into_tensor_arg(),
            *self,
            element(x.dtype),
        );
        vec![Some(tensor(of_x))]
    }
}

struct SwiGlu;

impl Operation for SwiGlu {
    fn forward(&self, mut inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let x = storage(inputs.remove(0));
        let (rows, hidden) = halves(&x);
        let y = empty(&x, [1, rows, hidden], x.dtype);
        let (count, dim) = each(&x, rows * hidden);
        let (client, dtype) = (x.client.clone(), element(x.dtype));
        gate::launch(&client, count, dim, x.into_tensor_arg(), y.clone().into_tensor_arg(), hidden, dtype);
        (tensor(y), vec![])
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, _: &[bool]) -> Vec<Option<Tensor<3>>> {
        let (x, gradient) = (storage(kept.remove(0)), storage(gradient));
        let (rows, hidden) = halves(&x);
        let of_x = like(&x);
        let (count, dim) = each(&x, rows * hidden);
        gate_backward::launch(
            &x.client.clone(),
            count,
            dim,
            x.clone().into_tensor_arg(),
            gradient.into_tensor_arg(),
            of_x.clone().into_tensor_arg(),
            hidden,
            element(x.dtype),
        );
        vec![Some(tensor(of_x))]
    }
}

fn halves(x: &CubeTensor) -> (usize, usize) {
    let shape = x.shape();
    (shape[1], shape[2] / 2)
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}

#[cube]
fn value(x: f32, #[comptime] function: Function) -> f32 {
    match comptime!(function) {
        Function::Gelu => x * below(x),
        Function::GeluTanh => x * sigmoid(tanh_argument(x)),
        Function::Silu => x * sigmoid(x),
    }
}

#[cube]
fn derivative(x: f32, #[comptime] function: Function) -> f32 {
    match comptime!(function) {
        Function::Gelu => below(x) + x * 0.398_942_3f32 * (-0.5f32 * x * x).exp(),
        Function::GeluTanh => {
            let s = sigmoid(tanh_argument(x));
            s + x * s * (1.0f32 - s) * 1.595_769_1f32 * (1.0f32 + 0.134_145f32 * x * x)
        }
        Function::Silu => {
            let s = sigmoid(x);
            s + x * s * (1.0f32 - s)
        }
    }
}

/// How much of the standard normal law is below `x`.
#[cube]
fn below(x: f32) -> f32 {
    0.5f32 * (1.0f32 + <f32 as Erf>::erf(x * 0.707_106_77f32))
}

/// Twice the argument of GELU's `tanh`: `(1 + tanh u) / 2` is the logistic function of `2u`.
#[cube]
fn tanh_argument(x: f32) -> f32 {
    1.595_769_1f32 * (x + 0.044_715f32 * x * x * x)
}

#[cube(launch)]
fn forward<E: Float>(
    x: &Memory<E>,
    y: &mut Memory<E>,
    #[comptime] function: Function,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= y.len() {
        terminate!();
    }
    y[place] = E::cast_from(value(f32::cast_from(x[place]), function));
}

#[cube(launch)]
fn backward<E: Float>(
    x: &Memory<E>,
    gradient: &Memory<E>,
    of_x: &mut Memory<E>,
    #[comptime] function: Function,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= of_x.len() {
        terminate!();
    }
    let slope = derivative(f32::cast_from(x[place]), function);
    of_x[place] = E::cast_from(f32::cast_from(gradient[place]) * slope);
}

/// A unit for each number of the output.
#[cube(launch)]
fn gate<E: Float>(x: &Memory<E>, y: &mut Memory<E>, hidden: usize, #[define(E)] _element: ElemType) {
    let place = ABSOLUTE_POS;
    if place >= y.len() {
        terminate!();
    }
    let at = place / hidden * 2 * hidden + place % hidden;
    let open = value(f32::cast_from(x[at]), Function::Silu);
    y[place] = E::cast_from(open * f32::cast_from(x[at + hidden]));
}

#[cube(launch)]
fn gate_backward<E: Float>(
    x: &Memory<E>,
    gradient: &Memory<E>,
    of_x: &mut Memory<E>,
    hidden: usize,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= gradient.len() {
        terminate!();
    }
    let at = place / hidden * 2 * hidden + place % hidden;
    let open = value(f32::cast_from(x[at]), Function::Silu);
    let slope = derivative(f32::cast_from(x[at]), Function::Silu);
    let own = f32::cast_from(gradient[place]);
    of_x[at] = E::cast_from(own * slope * f32::cast_from(x[at + hidden]));
    of_x[at + hidden] = E::cast_from(own * open);
}
