//! A network that is compared.

use std::fmt;

use burn::module::{ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use mixflow_backbones::{Backbone, Precision};

use crate::objective::{self, Batch, InPrecision, Objective};
use crate::random::Stream;
use crate::train::{LearningRate, OptimizerConfig, Snapshot, Tensors, TrainState};

type MakeBatch<'a, C> = dyn Fn(&Device) -> Batch<C> + 'a;

/// A network on the CPU, and what it is trained by.
pub struct Subject<'a, B: Backbone, O> {
    /// What people call it.
    pub(super) name: String,
    pub(super) network: B,
    pub(super) objective: O,
    batch: Box<MakeBatch<'a, B::Condition>>,
}

impl<B: Backbone, O> fmt::Debug for Subject<'_, B, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a, B: Backbone, O: Objective<B>> Subject<'a, B, O> {
    /// A network, which is on the CPU, by its objective on a batch that is made on a device, the same on each.
    ///
    /// It is trained for some steps first: many networks start with layers of zeros, behind which nothing shows.
    pub fn new(name: &str, network: B, objective: O, batch: impl Fn(&Device) -> Batch<B::Condition> + 'a) -> Self {
        let subject = Self { name: name.into(), network, objective, batch: Box::new(batch) };
        // AdamW moves each weight by about the rate, however small its gradient.
        let config = OptimizerConfig { learning_rate: rate(0.02), ..OptimizerConfig::default() };
        let network =
            subject.trained(TrainState::new(subject.network.clone()), &Device::flex(), &subject.objective, 4, &config);
        let network = network.backbone().valid();
        Self { network, ..subject }
    }

    /// What it says at times across the path.
    pub(super) fn output(&self, network: &B, device: &Device) -> Tensors {
        let Batch { images, condition, .. } = (self.batch)(device);
        let count = images.dims()[0];
        let times: Vec<f64> = (0..count).map(|row| (row as f64 + 0.5) / count as f64).collect();
        let time = Tensor::from_data(times.as_slice(), (device, images.dtype()));
        [("output".into(), network.forward(images, time, condition).into_data())].into()
    }

    /// Those of all trained parameters that have one, by path.
    pub(super) fn gradients(&self, network: &B, objective: &impl Objective<B>, device: &Device) -> Tensors {
        let network = network.clone().train();
        let loss = objective.loss(&network, (self.batch)(&device.clone().autodiff()), 0).total;
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let mut all = Gradients { gradients, path: vec![], found: Tensors::new() };
        network.visit(&mut all);
        all.found
    }

    /// How far five training steps move weights and their average from where they are on the CPU.
    pub(super) fn steps(&self, network: &B, device: &Device) -> Tensors {
        self.moved(TrainState::new(network.clone()), device, &self.objective)
    }

    /// The same in a precision, which is what the network's weights are stored in if the CPU remembers them in 32 bits.
    pub(super) fn steps_in(&self, precision: Precision, offload: bool, network: &B, device: &Device) -> Tensors {
        let state = TrainState::new(network.clone());
        let state = if offload { state.storing(precision).remembering_on(&Device::flex()) } else { state };
        self.moved(state, device, &InPrecision { objective: &self.objective, precision })
    }

    fn moved(&self, state: TrainState<B>, device: &Device, objective: &impl Objective<B>) -> Tensors {
        // AdamW divides a gradient by its size. Beside a large epsilon what is nothing but rounding stays small.
        let config =
            OptimizerConfig { learning_rate: rate(0.01), epsilon: 0.01, average: 0.5, ..OptimizerConfig::default() };
        let start = TrainState::new(self.network.clone()).snapshot().weights;
        let Snapshot { weights, average, .. } = self.trained(state, device, objective, 5, &config).snapshot();
        let moved = |name: &str, tensor: &TensorData| {
            let start = &start[name];
            let moved = tensor.iter::<f64>().zip(start.iter::<f64>()).map(|(now, before)| now - before);
            TensorData::new(moved.collect::<Vec<_>>(), start.shape().clone())
        };
        let averages = average.iter().map(|(name, tensor)| (format!("average of {name}"), moved(name, tensor)));
        weights.iter().map(|(name, tensor)| (name.clone(), moved(name, tensor))).chain(averages).collect()
    }

    fn trained(
        &self,
        state: TrainState<B>,
        device: &Device,
        objective: &impl Objective<B>,
        steps: usize,
        config: &OptimizerConfig,
    ) -> TrainState<B> {
        let device = &device.clone().autodiff();
        (0..steps).fold(state, |state, _| state.step(objective, [(self.batch)(device)], 0, config).0)
    }
}

fn rate(rate: f64) -> LearningRate {
    LearningRate::Constant { rate, warmup: 0 }
}

/// Normal numbers, the same on each device.
pub(super) fn noise(shape: [usize; 4], first: u64, device: &Device) -> Tensor<4> {
    objective::noise(0, Stream::Sample, first, shape, device)
}

struct Gradients {
    gradients: GradientsParams,
    path: Vec<String>,
    found: Tensors,
}

impl ModuleVisitor for Gradients {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.found.insert(self.path.join("."), gradient.into_data());
        }
    }
}
