//! What is remembered of the parameters that are trained, and what an update makes of it.

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use mixflow_backbones::ops::{AdamW, AdamWState};

use super::values::{flat, widened};

/// What is remembered of a parameter that is trained, flattened; on the device where it is updated.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// The optimiser's average of the gradient and of its square; none, which are zeros, until there is a gradient.
    pub(super) moments: Option<[Tensor<1>; 2]>,
    pub(super) average: Tensor<1>,
    /// The weight itself, where the network has it rounded.
    pub(super) weight: Option<Tensor<1>>,
}

/// The moments of a parameter that has had no gradient; `average` gives the size.
fn no_moments(average: &Tensor<1>) -> [Tensor<1>; 2] {
    let zeros = average.zeros_like();
    [zeros.clone(), zeros]
}

/// What is remembered of each parameter that is trained at the start.
pub(super) struct Start(pub(super) BTreeMap<ParamId, Memory>);

impl ModuleVisitor for Start {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.base().is_require_grad() {
            return;
        }
        let memory = Memory { moments: None, average: flat(param.val()), weight: None };
        assert!(self.0.insert(param.id, memory).is_none(), "two parameters share the id {}", param.id);
    }
}

/// Updates the parameters that have a gradient.
pub(super) struct Update<'a> {
    pub(super) update: AdamW,
    pub(super) gradients: &'a mut GradientsParams,
    pub(super) memory: &'a mut BTreeMap<ParamId, Memory>,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // A parameter without a gradient is frozen or unused: it and its average stay.
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let id = param.id;
        let Memory { moments, average, weight } =
            self.memory.remove(&id).expect("every parameter that is trained has a memory");
        let [first_moment, second_moment] = moments.unwrap_or_else(|| no_moments(&average));
        let mut kept = None;
        let param = param.map(|parameter| {
            let (shape, parameter) = (parameter.dims(), parameter.inner());
            let (here, there, rounded) = (parameter.device(), average.device(), weight.is_some());
            let state = AdamWState {
                parameter: weight.unwrap_or_else(|| parameter.reshape([-1]).to_device(&there)),
                first_moment,
                second_moment,
                average: Some(average),
            };
            let gradient = widened(gradient.reshape([-1]).to_device(&there));
            let AdamWState { parameter, first_moment, second_moment, average } = self.update.update(state, gradient);
            let average = average.expect("the average was given");
            let weight = rounded.then(|| parameter.clone());
            kept = Some(Memory { moments: Some([first_moment, second_moment]), average, weight });
            let parameter = if rounded { parameter.cast(DType::BF16) } else { parameter };
            Tensor::from_inner(parameter.to_device(&here).reshape(shape)).require_grad()
        });
        self.memory.insert(id, kept.expect("a parameter is mapped once"));
        param
    }
}
