//! One AdamW step with its moving average, in one pass.

use burn::backend::TensorMetadata;
use burn::tensor::Tensor;
use burn_cubecl::kernel::copy_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{Tensor as Memory, *};

use super::super::adamw::{AdamW, AdamWState, Constants};
use super::launch::{each, lanes, storage, tensor};

/// The state after a step of tensors of 32 bits. Storage that nothing else refers to is updated in place.
pub(in super::super) fn step<const D: usize>(
    adamw: &AdamW,
    constants: Constants,
    state: AdamWState<D>,
    gradient: Tensor<D>,
) -> AdamWState<D> {
    let gradient = storage(gradient);
    let [parameter, first, second] = [state.parameter, state.first_moment, state.second_moment].map(own);
    let average = state.average.map(own);
    let count = parameter.shape().num_elements();
    let lanes = lanes(&parameter, count);
    let (cubes, dim) = each(&parameter, count / lanes);
    // Without an average the first moment stands in its place, and is not touched there.
    let follows = average.is_some();
    let followed = match &average {
        Some(average) => average.clone().into_tensor_arg(),
        None => first.as_tensor_alias(2),
    };
    update::launch(
        &parameter.client.clone(),
        cubes,
        dim,
        lanes,
        gradient.into_tensor_arg(),
        parameter.clone().into_tensor_arg(),
        first.clone().into_tensor_arg(),
        second.clone().into_tensor_arg(),
        followed,
        count / lanes,
        adamw.gradient_scale as f32,
        adamw.beta1 as f32,
        (1.0 - adamw.beta1) as f32,
        adamw.beta2 as f32,
        (1.0 - adamw.beta2) as f32,
        constants.keep as f32,
        constants.rate as f32,
        constants.inverse_root as f32,
        adamw.epsilon as f32,
        adamw.average_decay as f32,
        follows,
    );
    let [parameter, first_moment, second_moment] = [parameter, first, second].map(tensor);
    AdamWState { parameter, first_moment, second_moment, average: average.map(tensor) }
}

/// Storage to write to: the tensor's where nothing else refers to it, else a copy.
fn own<const D: usize>(of: Tensor<D>) -> CubeTensor {
    let of = storage(of);
    if of.can_mut() { of } else { copy_contiguous(of) }
}

#[cube(launch)]
fn update<N: Size>(
    gradient: &Memory<Vector<f32, N>>,
    parameter: &mut Memory<Vector<f32, N>>,
    first: &mut Memory<Vector<f32, N>>,
    second: &mut Memory<Vector<f32, N>>,
    average: &mut Memory<Vector<f32, N>>,
    vectors: usize,
    scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    keep: f32,
    rate: f32,
    inverse_root: f32,
    epsilon: f32,
    decay: f32,
    #[comptime] follows: bool,
) {
    let place = ABSOLUTE_POS;
    if place >= vectors {
        terminate!();
    }
    let own = gradient[place] * Vector::new(scale);
    let m = first[place] * Vector::new(beta1) + own * Vector::new(rest1);
    let v = second[place] * Vector::new(beta2) + own * own * Vector::new(rest2);
    let root = v.sqrt() * Vector::new(inverse_root) + Vector::new(epsilon);
    let value = parameter[place] * Vector::new(keep) - m * Vector::new(rate) / root;
    first[place] = m;
    second[place] = v;
    parameter[place] = value;
    if follows {
        average[place] = average[place] * Vector::new(decay) + value * Vector::new(1.0 - decay);
    }
}
