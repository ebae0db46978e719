//! Activation functions, and the gate of a `SwiGLU` perceptron.

use burn::backend::{Cube, TensorMetadata};
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{Tensor as Memory, *};

use super::super::node::{self, Operation};
use super::launch::{each, element, empty, lanes, like, storage, tensor};

/// An activation function.
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
        let (lanes, vectors) = vectors(&x);
        let (count, dim) = each(&x, vectors);
        forward::launch(
            &x.client.clone(),
            count,
            dim,
            lanes,
            x.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            vectors,
            *self,
            element(x.dtype),
        );
        (tensor(y), vec![])
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, _: &[bool]) -> Vec<Option<Tensor<3>>> {
        let (x, gradient) = (storage(kept.remove(0)), storage(gradient));
        let of_x = like(&x);
        let (lanes, vectors) = vectors(&x);
        let (count, dim) = each(&x, vectors);
        backward::launch(
            &x.client.clone(),
            count,
            dim,
            lanes,
            x.clone().into_tensor_arg(),
            gradient.into_tensor_arg(),
            of_x.clone().into_tensor_arg(),
            vectors,
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
        let lanes = lanes(&x, hidden);
        let (count, dim) = each(&x, rows * hidden / lanes);
        gate::launch(
            &x.client.clone(),
            count,
            dim,
            lanes,
            x.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            rows,
            hidden / lanes,
            element(x.dtype),
        );
        (tensor(y), vec![])
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, _: &[bool]) -> Vec<Option<Tensor<3>>> {
        let (x, gradient) = (storage(kept.remove(0)), storage(gradient));
        let (rows, hidden) = halves(&x);
        let of_x = like(&x);
        let lanes = lanes(&x, hidden);
        let (count, dim) = each(&x, rows * hidden / lanes);
        gate_backward::launch(
            &x.client.clone(),
            count,
            dim,
            lanes,
            x.clone().into_tensor_arg(),
            gradient.into_tensor_arg(),
            of_x.clone().into_tensor_arg(),
            rows,
            hidden / lanes,
            element(x.dtype),
        );
        vec![Some(tensor(of_x))]
    }
}

/// Numbers of a vector, and vectors of a tensor whose rows do not matter.
fn vectors(x: &CubeTensor) -> (usize, usize) {
    let count = x.shape().num_elements();
    let lanes = lanes(x, count);
    (lanes, count / lanes)
}

/// Rows, and numbers of half a row.
fn halves(x: &CubeTensor) -> (usize, usize) {
    let shape = x.shape();
    (shape[1], shape[2] / 2)
}

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    Vector::new(1.0f32) / ((-x).exp() + Vector::new(1.0f32))
}

#[cube]
fn value<N: Size>(x: Vector<f32, N>, #[comptime] function: Function) -> Vector<f32, N> {
    match comptime!(function) {
        Function::Gelu => x * below(x),
        Function::GeluTanh => x * sigmoid(tanh_argument(x)),
        Function::Silu => x * sigmoid(x),
    }
}

#[cube]
fn derivative<N: Size>(x: Vector<f32, N>, #[comptime] function: Function) -> Vector<f32, N> {
    match comptime!(function) {
        Function::Gelu => {
            let density = (x * x * Vector::new(-0.5f32)).exp() * Vector::new(0.398_942_3f32);
            below(x) + x * density
        }
        Function::GeluTanh => {
            let slope = (x * x * Vector::new(0.134_145f32) + Vector::new(1.0f32)) * Vector::new(1.595_769_2f32);
            sigmoid_slope(x, sigmoid(tanh_argument(x)), slope)
        }
        Function::Silu => sigmoid_slope(x, sigmoid(x), Vector::new(1.0f32)),
    }
}

/// The derivative of `x · s` of a logistic function `s` of an argument with this slope.
#[cube]
fn sigmoid_slope<N: Size>(x: Vector<f32, N>, s: Vector<f32, N>, slope: Vector<f32, N>) -> Vector<f32, N> {
    s + x * s * (Vector::new(1.0f32) - s) * slope
}

/// How much of the standard normal law is below `x`.
#[cube]
fn below<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let erf = Erf::erf(x * Vector::new(0.707_106_77f32));
    (erf + Vector::new(1.0f32)) * Vector::new(0.5f32)
}

/// Twice the argument of GELU's `tanh`: `(1 + tanh u) / 2` is the logistic function of `2u`.
#[cube]
fn tanh_argument<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    (x + x * x * x * Vector::new(0.044_715f32)) * Vector::new(1.595_769_2f32)
}

#[cube(launch)]
fn forward<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    y: &mut Memory<Vector<E, N>>,
    vectors: usize,
    #[comptime] function: Function,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= vectors {
        terminate!();
    }
    y[place] = Vector::cast_from(value(Vector::<f32, N>::cast_from(x[place]), function));
}

#[cube(launch)]
fn backward<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    gradient: &Memory<Vector<E, N>>,
    of_x: &mut Memory<Vector<E, N>>,
    vectors: usize,
    #[comptime] function: Function,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= vectors {
        terminate!();
    }
    let slope = derivative(Vector::<f32, N>::cast_from(x[place]), function);
    of_x[place] = Vector::cast_from(Vector::<f32, N>::cast_from(gradient[place]) * slope);
}

/// A unit for each vector of the output; `hidden` counts vectors.
#[cube(launch)]
fn gate<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    y: &mut Memory<Vector<E, N>>,
    rows: usize,
    hidden: usize,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= rows * hidden {
        terminate!();
    }
    let at = place / hidden * 2 * hidden + place % hidden;
    let open = value(Vector::<f32, N>::cast_from(x[at]), Function::Silu);
    y[place] = Vector::cast_from(open * Vector::<f32, N>::cast_from(x[at + hidden]));
}

#[cube(launch)]
fn gate_backward<E: Float, N: Size>(
    x: &Memory<Vector<E, N>>,
    gradient: &Memory<Vector<E, N>>,
    of_x: &mut Memory<Vector<E, N>>,
    rows: usize,
    hidden: usize,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= rows * hidden {
        terminate!();
    }
    let at = place / hidden * 2 * hidden + place % hidden;
    let gated = Vector::<f32, N>::cast_from(x[at]);
    let own = Vector::<f32, N>::cast_from(gradient[place]);
    let slope = derivative(gated, Function::Silu);
    of_x[at] = Vector::cast_from(own * slope * Vector::<f32, N>::cast_from(x[at + hidden]));
    of_x[at + hidden] = Vector::cast_from(own * value(gated, Function::Silu));
}
