//! A training on several devices.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use mixflow_backbones::{Backbone, Precision};

use super::exchange::{BUFFER, all_reduce, gather, reduce_to_homes};
use super::fault::on_each;
use super::scalars::Numbers;
use super::state::Share;
use super::step_loop::Trainee;
use super::values::Flat;
use super::{OptimizerConfig, Snapshot, StepReport, TrainState};
use crate::objective::{Batch, Objective};
use crate::{Error, device};

/// A [`TrainState`] on each of some devices, whose networks are equal: each computes the gradient of its share of a batch, the
/// shares are added up, and each takes the same step, or that of a part of the parameters.
///
/// Examples have the same noise and times whatever the number of devices, and a step is that of one device but for the order
/// that gradients are added in.
pub(crate) struct Replicas<B> {
    states: Vec<TrainState<B>>,
    /// Which of the states remembers a parameter, where each remembers a part.
    homes: Option<Homes>,
}

/// Where a training keeps what it remembers of the parameters: the optimiser's moments and the moving average.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StatePlacement {
    /// Whether each device remembers a part of the parameters; else each remembers all.
    pub(crate) sharded: bool,
    /// Whether it is in the memory of the CPU, which updates the parameters; else on the devices.
    pub(crate) on_host: bool,
    /// Precision in which the devices store the weights that they multiply in it; values in 32 bits are remembered.
    pub(crate) stored: Precision,
}

impl<B: Module> Replicas<B> {
    /// The network where it is and on the devices beside.
    pub(crate) fn new(network: B, beside: &[Device], keeping: StatePlacement) -> Self {
        if !beside.is_empty() {
            device::share_streams();
        }
        let homes = (keeping.sharded && !beside.is_empty()).then(|| Homes::new(&network, 1 + beside.len()));
        let mut networks = vec![network.clone()];
        networks.extend(beside.iter().map(|device| network.clone().fork(device)));
        let state = |(place, network)| {
            let state = TrainState::new(network);
            let state = match &homes {
                Some(homes) => state.remembering(|id| homes.of(id) == place),
                None => state,
            };
            let state = state.storing(keeping.stored);
            if keeping.on_host { state.remembering_on(&Device::flex()) } else { state }
        };
        Self { states: networks.into_iter().enumerate().map(state).collect(), homes }
    }

    /// The network of the first device with the moving average.
    pub(crate) fn average(&self) -> B {
        self.states[0].average_among(self.beside())
    }

    /// All of the state, with the network of the first device.
    pub(crate) fn into_whole(self) -> TrainState<B> {
        let mut states = self.states.into_iter();
        let first = states.next().expect("there is a device");
        if self.homes.is_some() { first.joined(states) } else { first }
    }

    /// States that remember what the first does not.
    fn beside(&self) -> &[TrainState<B>] {
        if self.homes.is_some() { &self.states[1..] } else { &[] }
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
        // Where all have the same sums, the first tells of them.
        let tells = if self.homes.is_some() { self.states.len() } else { 1 };
        let squares = |place: usize| match place < tells {
            true => self.states[place].squares(&gradients[place]),
            false => vec![],
        };
        let numbers = scalars.into_iter().enumerate().map(|(place, scalars)| (scalars, squares(place))).collect();
        let numbers = Numbers::read(numbers);
        let work = self.states.into_iter().zip(gradients).collect();
        let stepped = on_each(work, |(state, gradients)| state.finish(gradients, numbers.clone(), config));
        let (states, mut reports): (Vec<_>, Vec<_>) = stepped.into_iter().unzip();
        self.states = states;
        let report = reports.swap_remove(0);
        if self.homes.is_some() && report.finite {
            self.hand_on_values();
        }
        (self, report)
    }

    /// As [`step`](Self::step), on one device, whose batches need not travel between threads.
    pub(crate) fn step_alone(
        self,
        objective: &impl Objective<B>,
        batches: impl Iterator<Item = Batch<B::Condition>>,
        seed: u64,
        config: &OptimizerConfig,
    ) -> (Self, StepReport) {
        let (state, report) = self.into_whole().step(objective, batches, seed, config);
        (Self { states: vec![state], homes: None }, report)
    }

    /// The sum of all gradients on each device, or of those whose parameters it updates.
    fn reduce(&self, gradients: Vec<GradientsParams>) -> Vec<GradientsParams> {
        let flat = self.states.iter().zip(gradients).map(|(state, gradients)| {
            let mut flatten = Flatten { gradients, flat: vec![] };
            state.backbone().visit(&mut flatten);
            flatten.flat
        });
        let flat = flat.collect();
        let sums = match &self.homes {
            None => all_reduce(flat, BUFFER),
            Some(homes) => reduce_to_homes(flat, |id| homes.of(id), BUFFER),
        };
        let restored = self.states.iter().zip(sums).map(|(state, sums)| {
            let mut restore = Restore { gradients: GradientsParams::new(), sums: sums.into_iter().collect() };
            state.backbone().visit(&mut restore);
            restore.gradients
        });
        restored.collect()
    }

    /// Gives each device the parameters that others updated.
    fn hand_on_values(&mut self) {
        let devices: Vec<_> = self.states.iter().map(|state| device::of(state.backbone()).inner()).collect();
        for dtype in [DType::F32, DType::BF16] {
            let own = |state: &TrainState<B>| {
                let values = state.own_values().into_iter();
                values.filter(|(_, value)| value.dtype() == dtype).collect()
            };
            let values = gather(self.states.iter().map(own).collect(), &devices, dtype, BUFFER);
            let states = std::mem::take(&mut self.states);
            self.states = states.into_iter().zip(values).map(|(state, values)| state.with_values(values)).collect();
        }
    }
}

/// All of the state, with the network of the first device; all are equal.
impl<B: Backbone> Trainee for Replicas<B> {
    fn step_number(&self) -> u64 {
        self.states[0].step_number()
    }

    fn snapshot(&self) -> Snapshot {
        self.states[0].snapshot_among(self.beside())
    }

    fn restored(self, snapshot: Snapshot, path: &Path) -> Result<Self, Error> {
        let Self { states, homes } = self;
        let restored = states.into_iter().map(|state| Trainee::restored(state, snapshot.clone(), path));
        Ok(Self { states: restored.collect::<Result<_, _>>()?, homes })
    }
}

/// Which of some devices updates and remembers a parameter: each about as many numbers.
struct Homes(BTreeMap<ParamId, usize>);

impl Homes {
    /// Gives the trained parameters, the largest first, each to the device that has the fewest numbers.
    fn new(network: &impl Module, devices: usize) -> Self {
        struct Sizes(Vec<(usize, ParamId)>);
        impl ModuleVisitor for Sizes {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.base().is_require_grad() {
                    self.0.push((param.lazy_shape().num_elements(), param.id));
                }
            }
        }
        let mut sizes = Sizes(vec![]);
        network.visit(&mut sizes);
        sizes.0.sort_by_key(|&(size, _)| Reverse(size));
        let mut numbers = vec![0; devices];
        let home = |(size, id)| {
            let place = (0..devices).min_by_key(|&place| numbers[place]).expect("there is a device");
            numbers[place] += size;
            (id, place)
        };
        Self(sizes.0.into_iter().map(home).collect())
    }

    fn of(&self, id: ParamId) -> usize {
        self.0[&id]
    }
}

/// Takes gradients, in the order of the module.
struct Flatten {
    gradients: GradientsParams,
    flat: Flat,
}

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.flat.push((param.id, gradient.reshape([-1])));
        }
    }
}

/// Gives gradients the shapes of their parameters.
struct Restore {
    gradients: GradientsParams,
    sums: BTreeMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for Restore {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(sum) = self.sums.remove(&param.id) {
            self.gradients.register::<D>(param.id, sum.reshape(param.lazy_shape()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn devices_remember_equal_parts_and_together_everything_once() {
        let config = Recipe::read("digits", &[]).expect("it comes along").network;
        let network = config.init(1, &Device::flex().autodiff());
        let beside = vec![Device::flex(); 2];
        let own = |sharded| -> Vec<Vec<ParamId>> {
            let replicas =
                Replicas::new(network.clone(), &beside, StatePlacement { sharded, ..StatePlacement::default() });
            replicas.states.iter().map(|state| state.own_values().into_iter().map(|(id, _)| id).collect()).collect()
        };
        let mut sizes = BTreeMap::new();
        for (id, value) in TrainState::new(network.clone()).own_values() {
            sizes.insert(id, value.dims()[0]);
        }
        let all: Vec<_> = sizes.keys().copied().collect();
        let sorted = |mut ids: Vec<ParamId>| {
            ids.sort();
            ids
        };
        own(false).into_iter().for_each(|ids| assert_eq!(sorted(ids), all));
        let shares = own(true);
        assert_eq!(sorted(shares.concat()), all);
        let numbers: Vec<usize> = shares.iter().map(|ids| ids.iter().map(|id| sizes[id]).sum()).collect();
        let third = sizes.values().sum::<usize>() as f64 / 3.0;
        assert!(numbers.iter().all(|&numbers| (numbers as f64 / third - 1.0).abs() < 0.01), "{numbers:?}");
    }
}
