//! The affine map of a layer.

use super::buffer::{contiguous, for_each_part, sum_rows, task_len, tensor, values};
use super::gemm::{Matrix, Threads, multiply};
use super::kernel::{Kernel, apply, flex, from_flex, is_native, is_on_cpu};
use super::node::{self, Operation};
use super::recomputed::{Function, Recomputed};
use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor, module};

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
        None => apply(Affine, [x, weight]),
    })
}

/// [`linear`] of a tensor that is computed again for the backward pass. The result of a product in 16 bits is [`widened`].
pub fn linear_of(x: Recomputed, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Recomputed {
    match weight.dtype() == DType::BF16 {
        true => widened(product_of(x, weight, None), bias),
        false => product_of(x, weight, bias).into(),
    }
}

/// [`linear`] of a tensor that is computed again for the backward pass, the result in the type of the weight. In 16 bits there is
/// no bias.
pub fn product_of(x: Recomputed, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let layer = Layer { x: x.function, of: x.inputs.len() };
    let mut inputs = x.inputs;
    inputs.push(weight.unsqueeze());
    inputs.extend(bias.map(Tensor::unsqueeze));
    node::apply(layer, inputs)
}

/// What is kept in 16 bits, widened and shifted by a bias again where it is used, in `f32`.
pub fn widened(product: Tensor<3>, bias: Option<Tensor<1>>) -> Recomputed {
    match bias {
        Some(bias) => Recomputed::new([product, bias.unsqueeze()], |[product, bias]| product.cast(DType::F32) + bias),
        None => Recomputed::new([product], |[product]| product.cast(DType::F32)),
    }
}

fn rounded<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let own = x.dtype();
    let y = low_product(x, weight).cast(own);
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// The product of numbers of the weight's type, in that type. On the CPU they are rounded to it and multiplied in `f32`, which
/// gives what GPUs do: exact products, sums of 32 bits, and a result that is rounded.
fn low_product<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    let low = weight.dtype();
    let x = x.cast(low);
    match is_on_cpu(&x) {
        true => linear(x.cast(DType::F32), weight.cast(DType::F32), None).cast(low),
        false => module::linear(x, weight.transpose(), None),
    }
}

/// Of the first `of` inputs the layer's `x` is computed; the weight `[1, output, input]` follows, then the bias
/// `[1, 1, output]`, if there is one.
struct Layer {
    x: Function,
    of: usize,
}

impl Operation for Layer {
    fn forward(&self, mut inputs: Vec<Tensor<3>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let mut layer = inputs.split_off(self.of).into_iter();
        let weight: Tensor<2> = layer.next().expect("a layer has a weight").squeeze_dim(0);
        let x = self.x.value(inputs);
        let y = match weight.dtype() == DType::BF16 {
            true => low_product(x, weight),
            false => linear(x, weight, layer.next().map(|bias| bias.flatten(0, 2))),
        };
        (y, vec![])
    }

    fn backward(&self, mut kept: Vec<Tensor<3>>, gradient: Tensor<3>, wanted: &[bool]) -> Vec<Option<Tensor<3>>> {
        let mut layer = kept.split_off(self.of);
        let weight = layer.swap_remove(0);
        let bias = (wanted[self.of + 1] && !layer.is_empty()).then(|| rows_together(gradient.clone()));
        let mut of_weight = None;
        let mut all = self.x.pull_back(kept, &wanted[..self.of], |x| {
            let is_wanted = [wanted[..self.of].contains(&true), wanted[self.of]];
            let own = x.dtype();
            let [of_x, of_its_weight] = gradients(x, weight, gradient, is_wanted);
            of_weight = of_its_weight;
            of_x.map(|of_x| of_x.cast(own))
        });
        all.extend([of_weight, bias]);
        all
    }
}

/// `g W` and `gᵀ x`, multiplied in the type of the weight, `[1, output, input]`.
fn gradients(x: Tensor<3>, weight: Tensor<3>, gradient: Tensor<3>, wanted: [bool; 2]) -> [Option<Tensor<3>>; 2] {
    let low = weight.dtype();
    let wide = if low == DType::BF16 && is_on_cpu(&x) { DType::F32 } else { low };
    // Either is multiplied for the gradient of the other alone, and may be kept in another type.
    let factor = |tensor: Tensor<3>, is_wanted| if is_wanted { tensor.cast(low).cast(wide) } else { tensor };
    let (x, weight, gradient) = (factor(x, wanted[1]), factor(weight, wanted[0]), gradient.cast(wide));
    let weight: Tensor<2> = weight.squeeze_dim(0);
    let [of_x, of_weight] = match is_native(&gradient) {
        true => {
            let [of_x, of_weight] = backward(flex(x), flex(weight), &contiguous(flex(gradient)), wanted);
            [of_x.map(from_flex), of_weight.map(|gradient| from_flex::<2>(gradient).unsqueeze())]
        }
        false => [
            wanted[0].then(|| module::linear(gradient.clone(), weight, None)),
            wanted[1].then(|| gradient.flatten::<2>(0, 1).transpose().matmul(x.flatten(0, 1)).unsqueeze()),
        ],
    };
    [of_x, of_weight].map(|found| found.map(|found: Tensor<3>| found.cast(low)))
}

/// The gradient of the bias: the sum over batch and tokens, `[1, 1, output]`.
fn rows_together(gradient: Tensor<3>) -> Tensor<3> {
    if !is_native(&gradient) {
        return gradient.sum_dim(0).sum_dim(1);
    }
    let outputs = gradient.dims()[2];
    from_flex(tensor(sum_rows(values(&contiguous(flex(gradient))), outputs), [1, 1, outputs].into()))
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

/// Without a bias.
impl Kernel<2> for Affine {
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

/// Gradients of x, `g W`, and of the weight, `gᵀ x`, on the CPU.
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
