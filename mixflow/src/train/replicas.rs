//! A training on several devices.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::distributed::ReduceOperation;
use burn::tensor::{Device, Tensor};
use mixflow_backbones::Backbone;

use super::fault::on_each;
use super::scalars::Numbers;
use super::state::Share;
use super::step_loop::Trainee;
use super::{OptimizerConfig, Snapshot, StepReport, TrainState};
use crate::Error;
use crate::objective::{Batch, Objective};

/// A [`TrainState`] on each of some devices, equal to each other: each computes the gradient of its share of a batch, the
/// shares are added up, and each takes the same step.
///
/// Examples have the same noise and times whatever the number of devices, and a step is that of one device but for the order
/// that gradients are added in.
pub(crate) struct Replicas<B> {
    states: Vec<TrainState<B>>,
}

/// Numbers in a buffer of gradients that is reduced at once: 256 MiB.
const BUFFER: usize = 64 << 20;

impl<B: Module> Replicas<B> {
    /// The network where it is and on the devices beside.
    pub(crate) fn new(network: B, beside: &[Device]) -> Self {
        let others: Vec<_> = beside.iter().map(|device| TrainState::new(network.clone().fork(device))).collect();
        Self { states: [TrainState::new(network)].into_iter().chain(others).collect() }
    }

    /// The state of the first device.
    pub(crate) fn first(&self) -> &TrainState<B> {
        &self.states[0]
    }

    /// The same alone.
    pub(crate) fn into_first(mut self) -> TrainState<B> {
        self.states.swap_remove(0)
    }
}

impl<B: Backbone> Replicas<B> {
    /// [`TrainState::step`] on the parts of a step that each device has.
    ///
    /// # Panics
    /// If a device fails, as [`on_each`] does where it is known which.
    pub(crate) fn step(
        mut self,
        objective: &impl Objective<B>,
        mut batches: Vec<impl Iterator<Item = Batch<B::Condition>> + Send>,
        seed: u64,
        config: &OptimizerConfig,
    ) -> (Self, StepReport) {
        assert_eq!(batches.len(), self.states.len(), "each device has its share");
        if self.states.len() == 1 {
            return self.step_alone(objective, batches.swap_remove(0), seed, config);
        }
        let work = self.states.into_iter().zip(batches).collect();
        let shares = on_each(work, |(state, batches)| {
            let share = state.gather(batches.map(|batch| move |backbone: &B| objective.loss(backbone, batch, seed)));
            (state, share)
        });
        let (states, shares): (_, Vec<_>) = shares.into_iter().unzip();
        self.states = states;
        let (gradients, scalars): (Vec<_>, Vec<_>) =
            shares.into_iter().map(|Share { gradients, scalars }| (gradients, scalars)).unzip();
        let gradients = self.reduce(gradients);
        let squares = self.states[0].squares(&gradients[0]);
        let numbers = Numbers::read(scalars, squares);
        let work = self.states.into_iter().zip(gradients).collect();
        let stepped = on_each(work, |(state, gradients)| state.finish(gradients, numbers.clone(), config));
        let (states, reports): (Vec<_>, Vec<_>) = stepped.into_iter().unzip();
        (Self { states }, reports.into_iter().next().expect("there is a device"))
    }

    /// The same of one device, whose batches need not travel between threads.
    pub(crate) fn step_alone(
        self,
        objective: &impl Objective<B>,
        batches: impl Iterator<Item = Batch<B::Condition>>,
        seed: u64,
        config: &OptimizerConfig,
    ) -> (Self, StepReport) {
        let (state, report) = self.into_first().step(objective, batches, seed, config);
        (Self { states: vec![state] }, report)
    }

    /// The sum of all gradients on each device, a few buffers at a time.
    fn reduce(&self, gradients: Vec<GradientsParams>) -> Vec<GradientsParams> {
        let flat: Vec<_> = self
            .states
            .iter()
            .zip(gradients)
            .map(|(state, gradients)| {
                let mut flatten = Flatten { gradients, buffers: vec![], open: vec![], ids: vec![] };
                state.backbone().visit(&mut flatten);
                flatten.close();
                flatten
            })
            .collect();
        let ids = flat[0].ids.clone();
        let mut members: Vec<_> = flat.into_iter().map(|flat| flat.buffers.into_iter()).collect();
        let mut reduced: Vec<Vec<Tensor<1>>> = vec![vec![]; members.len()];
        while let Some(buffers) = members.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>() {
            let sums = Tensor::all_reduce(buffers, ReduceOperation::Sum);
            reduced.iter_mut().zip(sums).for_each(|(all, sum)| all.push(sum));
        }
        let restored = self.states.iter().zip(reduced).map(|(state, buffers)| {
            let mut restore =
                Restore { gradients: GradientsParams::new(), buffers, ids: ids.iter().peekable(), used: 0 };
            state.backbone().visit(&mut restore);
            restore.gradients
        });
        restored.collect()
    }
}

/// The state of the first device; all are equal.
impl<B: Backbone> Trainee for Replicas<B> {
    fn step_number(&self) -> u64 {
        self.states[0].step_number()
    }

    fn snapshot(&self) -> Snapshot {
        self.states[0].snapshot()
    }

    fn restored(self, snapshot: Snapshot, path: &Path) -> Result<Self, Error> {
        let restored = self.states.into_iter().map(|state| state.restored(snapshot.clone(), path));
        Ok(Self { states: restored.collect::<Result<_, _>>()? })
    }
}

/// Gradients one after another in buffers.
struct Flatten {
    gradients: GradientsParams,
    buffers: Vec<Tensor<1>>,
    /// What the next buffer is made of.
    open: Vec<Tensor<1>>,
    /// In the order of the module, and which buffer each is in.
    ids: Vec<(ParamId, usize)>,
}

impl Flatten {
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.buffers.push(Tensor::cat(std::mem::take(&mut self.open), 0));
        }
    }
}

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.ids.push((param.id, self.buffers.len()));
            self.open.push(gradient.reshape([-1]));
            if self.open.iter().map(|part| part.dims()[0]).sum::<usize>() >= BUFFER {
                self.close();
            }
        }
    }
}

/// Gradients of the module from buffers.
struct Restore<'a> {
    gradients: GradientsParams,
    buffers: Vec<Tensor<1>>,
    ids: std::iter::Peekable<std::slice::Iter<'a, (ParamId, usize)>>,
    /// Numbers of the current buffer that are taken.
    used: usize,
}

impl ModuleVisitor for Restore<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(&(id, buffer)) = self.ids.next_if(|(id, _)| *id == param.id) else { return };
        let shape = param.lazy_shape();
        let count = shape.num_elements();
        let gradient = self.buffers[buffer].clone().narrow(0, self.used, count).reshape(shape);
        self.used += count;
        if self.ids.peek().is_some_and(|(_, next)| *next != buffer) {
            self.used = 0;
        }
        self.gradients.register::<D>(id, gradient);
    }
}
