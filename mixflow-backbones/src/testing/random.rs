//! Random inputs and parameters.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// Adds `U(-0.05, 0.05)` to every trained parameter.
pub(super) fn move_parameters<M: Module>(module: M, rng: &mut ChaCha8Rng) -> M {
    struct Move<'a>(&'a mut ChaCha8Rng);
    impl ModuleMapper for Move<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.val().is_require_grad() {
                return param;
            }
            param.map(|value| {
                let step = uniform(value.dims(), self.0, &value.device()).cast(value.dtype()) * 0.05;
                (value.detach() + step).detach().require_grad()
            })
        }
    }
    module.map(&mut Move(rng))
}

/// `U(-1, 1)`.
pub(super) fn uniform<const D: usize>(shape: [usize; D], rng: &mut ChaCha8Rng, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
