//! What a device makes of the operations that networks are built of, and their gradients: of those that have kernels of this
//! project, all but products.

use burn::tensor::{DType, Device, Tensor};
use mixflow_backbones::ops::{self, AdamW, AdamWState, Dropped, Pairs};

use super::subject::noise;
use crate::train::Tensors;

/// Examples, tokens and numbers of each: more tokens than one unit of a GPU adds up, numbers that it reads as whole vectors and
/// not quite so, and more than the units of a row read at once. No powers of two.
const SIZES: [[usize; 3]; 3] = [[3, 70, 48], [2, 5, 36], [1, 2, 2304]];
const HEADS: usize = 2;
const EPSILON: f64 = 1e-6;
const DROPPED: Dropped = Dropped { rate: 0.25, seed: 0x7_9e37_79b9, first: u32::MAX };

/// An operation on tensors of these shapes, of which the first may be the only one with tokens.
struct Case {
    name: String,
    shapes: Vec<[usize; 3]>,
    compute: fn(&[Tensor<3>]) -> Tensor<3>,
}

/// Output and gradients of every operation, in numbers of a type; they are drawn in that type on every device.
pub(super) fn all(device: &Device, dtype: DType) -> Tensors {
    let mut found = Tensors::new();
    for Case { name, shapes, compute } in SIZES.into_iter().flat_map(cases) {
        let inputs: Vec<_> = (0..).zip(shapes).map(|(seed, shape)| drawn(shape, seed, device, dtype)).collect();
        let output = compute(&inputs);
        let weights = drawn(output.dims(), 99, device, dtype);
        let gradients = (output.clone() * weights).sum().backward();
        let full = |tensor: Tensor<3>| tensor.cast(DType::F32).into_data();
        found.insert(name.clone(), full(output.inner()));
        for (index, input) in inputs.iter().enumerate() {
            if let Some(gradient) = input.grad(&gradients) {
                found.insert(format!("{name}, gradient {index}"), full(gradient));
            }
        }
    }
    found
}

/// A parameter, its moments and its average after three steps of AdamW, in 32 bits.
pub(super) fn adamw(device: &Device) -> Tensors {
    let drawn = |seed| noise([1, 1, 1, 1000], seed, device).reshape([1000]);
    let zeros = || Tensor::<1>::zeros([1000], device);
    let parameter = drawn(0);
    let average = Some(parameter.clone());
    let mut state = AdamWState { parameter, first_moment: zeros(), second_moment: zeros(), average };
    for step in 1..=3 {
        let numbers = AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-3,
            weight_decay: 0.1,
            gradient_scale: 0.5,
            average_decay: 0.8,
            step,
        };
        state = numbers.update(state, drawn(step));
    }
    let average = state.average.expect("one is kept");
    let named = [state.parameter, state.first_moment, state.second_moment, average];
    let names = ["parameter", "first moment", "second moment", "average"];
    names.into_iter().zip(named).map(|(name, tensor)| (format!("adamw, {name}"), tensor.into_data())).collect()
}

/// Numbers that bf16 can hold: rounded on the CPU, since some devices cannot.
fn drawn(shape: [usize; 3], seed: u64, device: &Device, dtype: DType) -> Tensor<3> {
    let [a, b, c] = shape;
    let numbers = noise([1, a, b, c], seed, &Device::flex()).reshape(shape).cast(DType::BF16).cast(DType::F32);
    Tensor::from_data(numbers.into_data(), (device, dtype)).autodiff().require_grad()
}

fn cases(size: [usize; 3]) -> Vec<Case> {
    let [examples, tokens, width] = size;
    let (tensor, condition, weight) = (size, [examples, 1, width], [1, 1, width]);
    let head = [1, 1, width / HEADS];
    let packed = [examples, tokens, 3 * width];
    let case = |name, shapes: &[_], compute| {
        let name = format!("{name} of {examples} x {tokens} x {width}");
        Case { name, shapes: shapes.to_vec(), compute }
    };
    vec![
        case("gelu", &[tensor], |x| ops::gelu(x[0].clone())),
        case("gelu, tanh", &[tensor], |x| ops::gelu_tanh(x[0].clone())),
        case("silu", &[tensor], |x| ops::silu(x[0].clone())),
        case("swiglu", &[tensor], |x| ops::swiglu(x[0].clone())),
        case("dropout", &[tensor], |x| ops::dropout(x[0].clone(), DROPPED)),
        case("modulated layer norm", &[tensor, condition, condition], |x| {
            ops::modulated_layer_norm(x[0].clone(), row(&x[1]), row(&x[2]), EPSILON)
        }),
        case("affine layer norm", &[tensor, weight, weight], |x| {
            ops::affine_layer_norm(x[0].clone(), x[1].clone().flatten(0, 2), x[2].clone().flatten(0, 2), EPSILON)
        }),
        case("modulated RMS norm", &[tensor, weight, condition, condition], |x| {
            ops::modulated_rms_norm(x[0].clone(), x[1].clone().flatten(0, 2), row(&x[2]), row(&x[3]), EPSILON)
        }),
        case("QK norm", &[packed, head, head], |x| {
            ops::qk_rms_norm(x[0].clone(), x[1].clone().flatten(0, 2), x[2].clone().flatten(0, 2), HEADS, EPSILON)
        }),
        case("rotary places, adjacent", &[packed], |x| rotated(&x[0], Pairs::Adjacent)),
        case("rotary places, halves", &[packed], |x| rotated(&x[0], Pairs::Halves)),
        case("gated residual", &[tensor, tensor, condition], |x| {
            ops::gated_residual(x[0].clone(), x[1].clone(), row(&x[2]))
        }),
    ]
}

/// One row for every example.
fn row(condition: &Tensor<3>) -> Tensor<2> {
    condition.clone().squeeze_dim(1)
}

/// Queries and keys of `x`, each token by its number.
fn rotated(x: &Tensor<3>, pairs: Pairs) -> Tensor<3> {
    let [_, tokens, packed] = x.dims();
    let width = packed / (3 * HEADS);
    let angles: Vec<f64> = (0..tokens * width).map(|place| (place / width) as f64 * 0.3).collect();
    let table = |of: fn(f64) -> f64| {
        let values: Vec<f64> = angles.iter().copied().map(of).collect();
        Tensor::<1>::from_data(values.as_slice(), (&x.device(), x.dtype())).reshape([tokens, width])
    };
    ops::rotate(x.clone(), table(f64::cos), table(f64::sin), 2 * HEADS, pairs)
}
