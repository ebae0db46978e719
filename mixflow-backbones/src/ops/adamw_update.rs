//! One AdamW step with its exponential moving average, in one pass over memory.

use super::adamw::{AdamW, AdamWState, Constants};
use super::kernel::plain;
use super::native::on_gpu;
use super::simd::vectorized;
use burn::backend::DispatchDevice;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

impl AdamW {
    /// The state after this step. Storage that nothing else refers to is updated in place.
    pub fn update<const D: usize>(&self, state: AdamWState<D>, gradient: Tensor<D>) -> AdamWState<D> {
        let tensors =
            [Some(&state.parameter), Some(&state.first_moment), Some(&state.second_moment), state.average.as_ref()];
        let shape = state.parameter.dims();
        for tensor in tensors.into_iter().flatten().chain([&gradient]) {
            assert_eq!(tensor.dims(), shape, "AdamW: a tensor does not fit the parameter");
        }
        let all = |fits: fn(&Tensor<D>) -> bool| tensors.into_iter().flatten().chain([&gradient]).all(fits);
        if all(is_plain) {
            return self.update_native(state, gradient);
        }
        if !all(|tensor| tensor.dtype() == DType::F32) {
            return self.update_composed(state, gradient);
        }
        on_gpu!(
            gradient,
            super::cube::step(self, self.constants(), state, gradient),
            otherwise => self.update_composed(state, gradient)
        )
    }

    fn update_composed<const D: usize>(&self, state: AdamWState<D>, gradient: Tensor<D>) -> AdamWState<D> {
        let c = self.constants();
        let gradient = gradient * self.gradient_scale;
        let first_moment = state.first_moment * self.beta1 + gradient.clone() * (1.0 - self.beta1);
        let second_moment = state.second_moment * self.beta2 + gradient.clone() * gradient * (1.0 - self.beta2);
        let denominator = second_moment.clone().sqrt() * c.inverse_root + self.epsilon;
        let parameter = state.parameter * c.keep - first_moment.clone() * c.rate / denominator;
        let average =
            state.average.map(|average| average * self.average_decay + parameter.clone() * (1.0 - self.average_decay));
        AdamWState { parameter, first_moment, second_moment, average }
    }

    fn update_native<const D: usize>(&self, state: AdamWState<D>, gradient: Tensor<D>) -> AdamWState<D> {
        let gradient = storage(gradient);
        let mut parameter = storage(state.parameter);
        let mut first = storage(state.first_moment);
        let mut second = storage(state.second_moment);
        let mut average = state.average.map(storage);
        let constants = self.constants();
        let parts = gradient
            .storage::<f32>()
            .par_chunks(PART)
            .zip(parameter.storage_mut::<f32>().par_chunks_mut(PART))
            .zip(first.storage_mut::<f32>().par_chunks_mut(PART))
            .zip(second.storage_mut::<f32>().par_chunks_mut(PART));
        match &mut average {
            Some(average) => {
                let parts = parts.zip(average.storage_mut::<f32>().par_chunks_mut(PART));
                parts.for_each(|((((gradient, parameter), first), second), average)| {
                    update(self, constants, gradient, parameter, first, second);
                    follow(self.average_decay as f32, parameter, average);
                });
            }
            None => parts.for_each(|(((gradient, parameter), first), second)| {
                update(self, constants, gradient, parameter, first, second);
            }),
        }
        AdamWState {
            parameter: wrap(parameter),
            first_moment: wrap(first),
            second_moment: wrap(second),
            average: average.map(wrap),
        }
    }
}

/// Sum of the squares of all values, `[1]`, for clipping by global norm. It stays on its device, for [`read`](super::read).
/// Of `f32` on the CPU it is an `f64`, and summed as such.
pub fn squared_norm<const D: usize>(gradient: Tensor<D>) -> Tensor<1> {
    if !is_plain(&gradient) {
        return (gradient.clone() * gradient).sum();
    }
    let device = gradient.device();
    let parts: Vec<f64> = storage(gradient).storage::<f32>().par_chunks(PART).map(squares).collect();
    Tensor::from_data([parts.iter().sum::<f64>()], (&device, DType::F64))
}

/// Values that a task updates.
const PART: usize = 16 * 1024;

fn is_plain<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && matches!(tensor.device().as_dispatch(), DispatchDevice::Flex(_))
}

fn storage<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    let tensor = plain(tensor.into_dispatch().kind);
    tensor.to_contiguous()
}

fn wrap<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<burn::backend::Flex>(tensor)
}

vectorized! {
    fn update(adamw: &AdamW, constants: Constants, gradient: &[f32], parameter: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        let (beta1, rest1) = (adamw.beta1 as f32, (1.0 - adamw.beta1) as f32);
        let (beta2, rest2) = (adamw.beta2 as f32, (1.0 - adamw.beta2) as f32);
        let (scale, epsilon) = (adamw.gradient_scale as f32, adamw.epsilon as f32);
        let (keep, rate, inverse_root) = (constants.keep as f32, constants.rate as f32, constants.inverse_root as f32);
        for (((gradient, parameter), first), second) in gradient.iter().zip(parameter).zip(first).zip(second) {
            let gradient = gradient * scale;
            *first = *first * beta1 + gradient * rest1;
            *second = *second * beta2 + gradient * gradient * rest2;
            *parameter = *parameter * keep - *first * rate / (second.sqrt() * inverse_root + epsilon);
        }
    }

    fn follow(decay: f32, parameter: &[f32], average: &mut [f32]) {
        for (average, parameter) in average.iter_mut().zip(parameter) {
            *average = *average * decay + parameter * (1.0 - decay);
        }
    }

    fn squares(values: &[f32]) -> f64 {
        let mut lanes = [0.0; 16];
        let whole = values.chunks_exact(16);
        for (lane, value) in whole.remainder().iter().enumerate() {
            lanes[lane] += f64::from(*value) * f64::from(*value);
        }
        for values in whole {
            for (lane, value) in lanes.iter_mut().zip(values) {
                *lane += f64::from(*value) * f64::from(*value);
            }
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    const STEPS: u64 = 3;
    const SIZE: usize = 3 * PART + 5;

    fn adamw(step: u64) -> AdamW {
        AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-3,
            weight_decay: 0.1,
            gradient_scale: 0.5,
            average_decay: 0.8,
            step,
        }
    }

    fn wave(phase: f64) -> Vec<f64> {
        (0..SIZE).map(|i| (0.7 * i as f64 + phase).sin()).collect()
    }

    fn tensor(values: Vec<f64>, dtype: DType) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values, [SIZE]), (&Device::flex(), dtype))
    }

    /// Parameter, moments and average after some steps.
    fn run(dtype: DType) -> [Vec<f64>; 4] {
        let zeros = || tensor(vec![0.0; SIZE], dtype);
        let parameter = tensor(wave(0.0), dtype);
        let average = Some(parameter.clone());
        let mut state = AdamWState { parameter, first_moment: zeros(), second_moment: zeros(), average };
        for step in 1..=STEPS {
            state = adamw(step).update(state, tensor(wave(step as f64), dtype));
        }
        [state.parameter, state.first_moment, state.second_moment, state.average.unwrap()]
            .map(|tensor| tensor.into_data().iter::<f64>().collect())
    }

    /// `torch.optim.AdamW` and `average.lerp_(parameter, 1 - decay)`, one number at a time.
    fn reference() -> [Vec<f64>; 4] {
        let [mut p, mut m, mut v, mut e] = [wave(0.0), vec![0.0; SIZE], vec![0.0; SIZE], wave(0.0)];
        for step in 1..=STEPS {
            let a = adamw(step);
            for (i, g) in wave(step as f64).into_iter().enumerate() {
                let g = g * a.gradient_scale;
                p[i] *= 1.0 - a.learning_rate * a.weight_decay;
                m[i] += (g - m[i]) * (1.0 - a.beta1);
                v[i] = v[i] * a.beta2 + g * g * (1.0 - a.beta2);
                let [bias1, bias2] = [a.beta1, a.beta2].map(|beta| 1.0 - beta.powf(step as f64));
                p[i] -= a.learning_rate / bias1 * m[i] / (v[i].sqrt() / bias2.sqrt() + a.epsilon);
                e[i] += (p[i] - e[i]) * (1.0 - a.average_decay);
            }
        }
        [p, m, v, e]
    }

    #[test]
    fn update_is_that_of_pytorch() {
        let expected = reference();
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
            for (found, expected) in run(dtype).iter().zip(&expected) {
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < tolerance, "{dtype:?}: {found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn squared_norm_is_exact_and_independent_of_threads() {
        let exact: f64 = wave(0.0).iter().map(|x| f64::from(*x as f32).powi(2)).sum();
        let norms = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| squared_norm(tensor(wave(0.0), DType::F32)).into_scalar::<f64>())
        });
        assert!((norms[0] - exact).abs() < 1e-12 * exact, "{} is not {exact}", norms[0]);
        assert_eq!(norms, [norms[0]; 3]);
    }

    #[test]
    fn storage_of_its_own_is_updated_in_place() {
        let state = AdamWState {
            parameter: tensor(wave(0.0), DType::F32),
            first_moment: tensor(vec![0.0; SIZE], DType::F32),
            second_moment: tensor(vec![0.0; SIZE], DType::F32),
            average: None,
        };
        let address = |tensor: &Tensor<1>| storage(tensor.clone()).storage::<f32>().as_ptr();
        let before = address(&state.parameter);
        let after = adamw(1).update(state, tensor(wave(1.0), DType::F32));
        assert_eq!(before, address(&after.parameter));
    }
}
