//! One check for all operations: the kernels against the composition, and both against finite differences.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng, rngs::StdRng};

type Op<'a, const D: usize, const N: usize> = &'a (dyn Fn([Tensor<D>; N]) -> Tensor<D> + Sync);

/// Checks `op` on random inputs of these shapes:
/// - in `f32`, values and gradients equal those of `composed` by Burn's own autodiff, to rounding;
/// - the same with inputs that are not contiguous, to the bit;
/// - the same on one, two and three threads, to the bit;
/// - in `f64`, gradients equal central differences.
pub(super) fn check<const D: usize, const N: usize>(
    shapes: [[usize; D]; N],
    op: impl Fn([Tensor<D>; N]) -> Tensor<D> + Sync,
    composed: impl Fn([Tensor<D>; N]) -> Tensor<D> + Sync,
) {
    let mut rng = StdRng::seed_from_u64(7);
    let inputs = shapes.map(|shape| (0..shape.iter().product()).map(|_| rng.random_range(-2.0..2.0)).collect());
    let native = run(&op, &shapes, &inputs, DType::F32, false);
    let expected = run(&composed, &shapes, &inputs, DType::F32, false);
    let exact = run(&composed, &shapes, &inputs, DType::F64, false);
    for ((native, expected), exact) in native.iter().zip(&expected).zip(&exact) {
        let size = exact.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
        for ((a, b), exact) in native.iter().zip(expected).zip(exact) {
            assert!((a - exact).abs() < 2e-5 * size, "{shapes:?}: kernel {a}, composition {b}, in f64 {exact}");
        }
    }
    assert_eq!(native, run(&op, &shapes, &inputs, DType::F32, true), "{shapes:?}: not contiguous");
    for threads in 1..4 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let result = pool.install(|| run(&op, &shapes, &inputs, DType::F32, false));
        assert_eq!(native, result, "{shapes:?}: on {threads} threads");
    }
    check_differences(&op, &shapes, &inputs);
}

/// The output and the gradients of `Σ cos(i) output_i`.
fn run<const D: usize, const N: usize>(
    op: Op<'_, D, N>,
    shapes: &[[usize; D]; N],
    inputs: &[Vec<f64>; N],
    dtype: DType,
    swapped: bool,
) -> Vec<Vec<f64>> {
    let device = Device::flex().autodiff();
    let mut index = 0..N;
    let tensors = shapes.map(|shape| {
        let values = inputs[index.next().unwrap()].clone();
        let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), (&device, dtype));
        // The same values in another order of memory
        let tensor = if swapped { tensor.swap_dims(0, D - 1).mul_scalar(1.0).swap_dims(0, D - 1) } else { tensor };
        tensor.detach().require_grad()
    });
    let output = op(tensors.clone());
    let weights: Vec<f64> = (0..output.shape().num_elements()).map(|i| (i as f64).cos()).collect();
    let weights = Tensor::from_data(TensorData::new(weights, output.dims()), (&device, dtype));
    let gradients = (output.clone() * weights).sum().backward();
    let list = |tensor: Tensor<D>| tensor.into_data().iter::<f64>().collect();
    let mut all = vec![list(output.inner())];
    all.extend(tensors.iter().map(|tensor| list(tensor.grad(&gradients).unwrap())));
    all
}

fn check_differences<const D: usize, const N: usize>(
    op: Op<'_, D, N>,
    shapes: &[[usize; D]; N],
    inputs: &[Vec<f64>; N],
) {
    let gradients = run(op, shapes, inputs, DType::F64, false);
    let loss = |inputs: &[Vec<f64>; N]| -> f64 {
        let output = run(op, shapes, inputs, DType::F64, false).swap_remove(0);
        output.iter().enumerate().map(|(i, y)| (i as f64).cos() * y).sum()
    };
    for input in 0..N {
        for at in [0, inputs[input].len() / 2, inputs[input].len() - 1] {
            let h = 1e-5;
            let shifted = |by: f64| {
                let mut inputs = inputs.clone();
                inputs[input][at] += by;
                loss(&inputs)
            };
            let difference = (shifted(h) - shifted(-h)) / (2.0 * h);
            let gradient = gradients[input + 1][at];
            let tolerance = 1e-6 * (1.0 + gradient.abs());
            assert!(
                (difference - gradient).abs() < tolerance,
                "{shapes:?}: difference {difference}, gradient {gradient}"
            );
        }
    }
}
