//! The affine map of a layer.

use super::buffer::{contiguous, for_each_part, sum_rows, task_len, tensor, values};
use super::gemm::{Matrix, Threads, multiply};
use super::kernel::{Kernel, apply, is_native};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Tensor, module};

/// `x Wᵀ + b`, the weight stored as PyTorch stores it.
///
/// # Shapes
/// - x: `[.., input]`
/// - weight: `[output, input]`
/// - bias: `[output]`
/// - returns: `[.., output]`
///
/// The product is computed in the type of the weight, the result is in that of `x`.
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let [output, input] = weight.dims();
    assert_eq!(x.dims()[D - 1], input, "linear: x {:?} does not fit weight {:?}", x.dims(), weight.dims());
    if weight.dtype() != x.dtype() {
        return rounded(x, weight, bias);
    }
    if !is_native(&x) {
        return module::linear(x, weight.transpose(), bias);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => {
            assert_eq!(bias.dims(), [output], "linear: bias does not fit weight {:?}", [output, input]);
            apply(Affine, [x, weight, bias.into_dispatch()])
        }
        None => apply(Product, [x, weight]),
    })
}

/// The product of numbers of the weight's type. On the CPU they are rounded to it and multiplied in `f32`, which gives what
/// GPUs do: exact products, sums of 32 bits, and a result that is rounded.
fn rounded<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let (own, low) = (x.dtype(), weight.dtype());
    let native = is_native(&x);
    let x = x.cast(low);
    let y = match native {
        true => linear(x.cast(own), weight.cast(own), None).cast(low),
        false => module::linear(x, weight.transpose(), None),
    };
    match bias {
        Some(bias) => y.cast(own) + bias.unsqueeze(),
        None => y.cast(own),
    }
}

#[derive(Clone, Copy, Debug)]
struct Affine;

impl Kernel<3> for Affine {
    fn forward(self, [x, weight, bias]: [FlexTensor; 3]) -> FlexTensor {
        forward(x, weight, Some(bias))
    }

    fn backward(self, [x, weight, _]: [FlexTensor; 3], grad: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let grad = contiguous(grad);
        let outputs = weight.shape()[0];
        let bias = wanted[2].then(|| tensor(sum_rows(values(&grad), outputs), [outputs].into()));
        let [x, weight] = backward(x, weight, &grad, [wanted[0], wanted[1]]);
        [x, weight, bias]
    }

    fn keeps(self, index: usize) -> bool {
        index != 2
    }
}

#[derive(Clone, Copy, Debug)]
struct Product;

impl Kernel<2> for Product {
    fn forward(self, [x, weight]: [FlexTensor; 2]) -> FlexTensor {
        forward(x, weight, None)
    }

    fn backward(self, [x, weight]: [FlexTensor; 2], grad: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        backward(x, weight, &contiguous(grad), wanted)
    }
}

fn forward(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let [outputs, inputs] = [weight.shape()[0], weight.shape()[1]];
    let rows = x.shape().num_elements() / inputs;
    let mut y = vec![0.0; rows * outputs];
    if let Some(bias) = &bias {
        let bias = contiguous(bias.clone());
        let bias = values(&bias);
        for_each_part(&mut y, task_len(outputs), |_, part| {
            part.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
        });
    }
    multiply(
        [rows, inputs, outputs],
        1.0,
        Matrix::rows(values(&x), inputs),
        Matrix::rows(values(&weight), inputs).transposed(),
        &mut y,
        outputs,
        bias.is_some(),
        Threads::All,
    );
    let mut shape = x.shape();
    let last = shape.num_dims() - 1;
    shape[last] = outputs;
    tensor(y, shape)
}

/// `g W` and `gᵀ x`.
fn backward(x: FlexTensor, weight: FlexTensor, grad: &FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
    let [outputs, inputs] = [weight.shape()[0], weight.shape()[1]];
    let grads = Matrix::rows(values(grad), outputs);
    let rows = values(grad).len() / outputs;
    let shape = x.shape();
    let d_x = wanted[0].then(|| {
        let weight = contiguous(weight);
        tensor(product([rows, outputs, inputs], grads, Matrix::rows(values(&weight), inputs)), shape)
    });
    let d_weight = wanted[1].then(|| {
        let x = contiguous(x);
        let product = product([outputs, rows, inputs], grads.transposed(), Matrix::rows(values(&x), inputs));
        tensor(product, [outputs, inputs].into())
    });
    [d_x, d_weight]
}

fn product(dims: [usize; 3], a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let mut output = vec![0.0; dims[0] * dims[2]];
    multiply(dims, 1.0, a, b, &mut output, dims[2], false, Threads::All);
    output
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn linear_is_burns() {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 17, 5), (70, 48, 33), (300, 96, 130)] {
            check(
                [[rows, inputs], [outputs, inputs], [1, outputs]],
                |[x, weight, bias]| linear(x, weight, Some(bias.flatten(0, 1))),
                |[x, weight, bias]| module::linear(x, weight.transpose(), Some(bias.flatten(0, 1))),
            );
            check(
                [[rows, inputs], [outputs, inputs]],
                |[x, weight]| linear(x, weight, None),
                |[x, weight]| module::linear(x, weight.transpose(), None),
            );
        }
    }
}
