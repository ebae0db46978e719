//! Everything that a training step changes.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use mixflow_backbones::ops::AdamW;
use mixflow_backbones::weights::Mismatch;
use mixflow_backbones::{Backbone, Precision};

use super::OptimizerConfig;
use super::memory::{Memory, Start, Update};
use super::scalars::{Numbers, Scalars};
use super::snapshot::{AVERAGE, Snapshot, collect, fill, is_of_adapter};
use super::values::{Flat, Norm, Replace, SetValues, Values, Widen, is_low};
use crate::objective::{Batch, Loss, Objective};

/// A network in training: its weights, their moving average, the optimiser's moments and the step.
#[derive(Debug)]
pub struct TrainState<B> {
    backbone: B,
    memory: BTreeMap<ParamId, Memory>,
    /// Precision in which the network stores the weights that it multiplies in it.
    stored: Precision,
    step: u64,
    updates: u64,
}

/// Gradients and losses of some parts of a step.
pub(super) struct Share {
    /// The gradients of all parts, added up.
    pub(super) gradients: GradientsParams,
    pub(super) scalars: Scalars,
}

/// Loss, gradient norm and learning rate of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Number of the step, from 0.
    pub step: u64,
    /// The objective before the update, mean over the batch.
    pub loss: f64,
    /// The terms of the loss, by name, mean over the batch.
    pub terms: Vec<(&'static str, f64)>,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// Whether loss and gradients were finite; if not, the weights are as they were.
    pub finite: bool,
}

impl<B: Module> TrainState<B> {
    /// Starts with this network; its average starts as a copy and its moments as zeros.
    ///
    /// The network is put on its device's autodiff counterpart.
    pub fn new(backbone: B) -> Self {
        let backbone = backbone.train();
        let mut start = Start(BTreeMap::new());
        backbone.visit(&mut start);
        Self { backbone, memory: start.0, stored: Precision::F32, step: 0, updates: 0 }
    }

    /// The network as trained so far: after a training that kept its weights in 32 bits elsewhere, with those that it
    /// multiplies in 16 bits rounded.
    pub fn backbone(&self) -> &B {
        &self.backbone
    }

    /// The state with a network whose untrained tensors were replaced.
    pub(crate) fn with_backbone(self, backbone: B) -> Self {
        Self { backbone, ..self }
    }

    /// Steps taken, skipped ones included: the next step's number.
    pub fn step_number(&self) -> u64 {
        self.step
    }

    /// The network with the moving average of its weights, for sampling.
    pub fn average(&self) -> B {
        self.average_among(&[])
    }

    /// [`average`](Self::average), of which states of the same network beside this one remember a part.
    pub(super) fn average_among(&self, beside: &[Self]) -> B {
        self.with(beside, |memory, own| match memory {
            Some(memory) => memory.average.clone().to_device(&own.device()),
            None => own,
        })
    }

    /// The state, which remembers and updates no parameters but those for which `is_own` holds: a part of a state that
    /// several share.
    pub(super) fn remembering(mut self, is_own: impl Fn(ParamId) -> bool) -> Self {
        self.memory.retain(|id, _| is_own(*id));
        self
    }

    /// The state, whose network has the weights that are trained and that it multiplies in a precision in this alone. What
    /// they are in 32 bits is remembered, and is what an update changes; the result is the same where a loss runs the network once.
    pub(crate) fn storing(self, precision: Precision) -> Self {
        if precision.is_full() {
            return Self { stored: precision, ..self };
        }
        let whole = self.own_values();
        let mut state = Self { backbone: precision.of_trained(self.backbone), stored: precision, ..self };
        let rounded: BTreeSet<_> =
            state.own_values().into_iter().filter_map(|(id, value)| is_low(&value).then_some(id)).collect();
        for (id, weight) in whole {
            let memory = state.memory.get_mut(&id).expect("it is its own");
            memory.weight = rounded.contains(&id).then(|| weight.to_device(&memory.average.device()));
        }
        state
    }

    /// The state, which keeps moments and average on another device and computes its updates there.
    pub(crate) fn remembering_on(mut self, device: &Device) -> Self {
        let there = |tensor: Tensor<1>| tensor.to_device(device);
        self.memory.values_mut().for_each(|memory| {
            memory.average = there(memory.average.clone());
            memory.moments = memory.moments.take().map(|moments| moments.map(there));
            memory.weight = memory.weight.take().map(there);
        });
        self
    }

    /// One state of all that these states remember, whose networks are equal.
    pub(super) fn joined(mut self, beside: impl IntoIterator<Item = Self>) -> Self {
        beside.into_iter().for_each(|state| self.memory.extend(state.memory));
        self
    }

    /// One step on losses whose gradients are averaged, each a function of the network to its [`Loss`] or that as a tensor.
    ///
    /// A loss or gradient that is not finite leaves weights, average and moments as they were.
    pub fn minimise<L: Into<Loss>>(
        self,
        losses_of: impl IntoIterator<Item = impl FnOnce(&B) -> L>,
        config: &OptimizerConfig,
    ) -> (Self, StepReport) {
        let share = self.gather(losses_of);
        let squares = self.squares(&share.gradients);
        let numbers = Numbers::read(vec![(share.scalars, squares)]);
        self.finish(share.gradients, numbers, config)
    }

    /// The gradients of these losses, added up, and what there is to tell of them.
    pub(super) fn gather<L: Into<Loss>>(&self, losses_of: impl IntoIterator<Item = impl FnOnce(&B) -> L>) -> Share {
        let mut gradients = GradientsAccumulator::new();
        let mut scalars = Scalars::default();
        let mut losses_of = losses_of.into_iter().peekable();
        while let Some(loss_of) = losses_of.next() {
            let loss: Loss = loss_of(&self.backbone).into();
            scalars.losses.push(loss.total.clone().inner());
            for (name, term) in loss.terms {
                scalars.names.push(name);
                scalars.terms.push(if term.is_autodiff() { term.inner() } else { term });
            }
            let mut new = GradientsParams::from_grads(loss.total.backward(), &self.backbone);
            // What is added up is not rounded.
            if !self.stored.is_full() && (scalars.losses.len() > 1 || losses_of.peek().is_some()) {
                self.backbone.visit(&mut Widen(&mut new));
            }
            gradients.accumulate(&self.backbone, new);
        }
        assert!(!scalars.losses.is_empty(), "a step has at least one batch");
        Share { gradients: gradients.grads(), scalars }
    }

    /// The squared norm of each gradient, with the parameter's place in the network.
    pub(super) fn squares(&self, gradients: &GradientsParams) -> Vec<(usize, Tensor<1>)> {
        let mut norm = Norm { gradients, place: 0, squares: vec![] };
        self.backbone.visit(&mut norm);
        norm.squares
    }

    /// The state with other values of the network's parameters.
    pub(super) fn with_values(mut self, values: Flat) -> Self {
        let mut values: BTreeMap<_, _> = values.into_iter().collect();
        self.backbone = self.backbone.map(&mut SetValues(&mut values));
        self
    }

    /// The values of the parameters that this state remembers.
    pub(super) fn own_values(&self) -> Flat {
        let mut visitor = Values(vec![]);
        self.backbone.visit(&mut visitor);
        visitor.0.retain(|(id, _)| self.memory.contains_key(id));
        visitor.0
    }

    /// The update by the gradients of as many parts as `numbers` tells of, added up.
    pub(super) fn finish(
        mut self,
        mut gradients: GradientsParams,
        numbers: Numbers,
        config: &OptimizerConfig,
    ) -> (Self, StepReport) {
        let Numbers { loss, terms, gradient_norm, parts } = numbers;
        let mut report = StepReport {
            step: self.step,
            loss,
            terms,
            gradient_norm,
            learning_rate: config.learning_rate.at(self.step),
            finite: false,
        };
        report.finite = report.loss.is_finite() && report.gradient_norm.is_finite();
        self.step += 1;
        if report.finite {
            self.updates += 1;
            let update = AdamW {
                learning_rate: report.learning_rate,
                beta1: config.betas[0],
                beta2: config.betas[1],
                epsilon: config.epsilon,
                weight_decay: config.weight_decay,
                gradient_scale: config.clip_factor(report.gradient_norm) / parts,
                average_decay: config.average,
                step: self.updates,
            };
            let mut mapper = Update { update, gradients: &mut gradients, memory: &mut self.memory };
            self.backbone = self.backbone.map(&mut mapper);
        }
        (self, report)
    }

    /// All tensors by what they are and where: weights, average and both moments; with [`restore`](Self::restore) a
    /// bit-exact copy of the state.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_among(&[])
    }

    /// [`snapshot`](Self::snapshot), of which states of the same network beside this one remember a part.
    pub(super) fn snapshot_among(&self, beside: &[Self]) -> Snapshot {
        let weight = |memory: Option<&Memory>, own| memory.and_then(|memory| memory.weight.clone()).unwrap_or(own);
        let weights = collect(&self.with(beside, weight));
        // Read from where it is.
        let average = |memory: Option<&Memory>, own| memory.map_or(own, |memory| memory.average.clone());
        let adapted = weights.keys().any(|path| is_of_adapter(path));
        let moment = |which: usize| {
            collect(&self.with(beside, |memory, own| match memory {
                Some(Memory { moments: Some(moments), .. }) => moments[which].clone(),
                // What is frozen beside an adapter is not collected.
                None if adapted => own,
                _ => own.zeros_like(),
            }))
        };
        Snapshot {
            weights,
            average: collect(&self.with(beside, average)),
            first_moment: moment(0),
            second_moment: moment(1),
            step: self.step,
            updates: self.updates,
            opponent: None,
        }
    }

    /// The state of a snapshot; `network` gives the shapes.
    ///
    /// # Errors
    /// Names the tensors that are missing, have another shape, or are none of the network's.
    pub fn restore(network: B, snapshot: Snapshot) -> Result<Self, Box<Mismatch>> {
        Self::new(network).restored(snapshot)
    }

    /// The state of a snapshot, which remembers what this one does, where it does.
    pub(super) fn restored(mut self, snapshot: Snapshot) -> Result<Self, Box<Mismatch>> {
        let Snapshot { weights, average, first_moment, second_moment, step, updates, opponent: _ } = snapshot;
        let network = fill(self.backbone.valid(), weights, "the checkpoint's network")?;
        // One at a time: a device holds no more than one of them of what others remember.
        let part = |memory: &BTreeMap<ParamId, Memory>, tensors, name| -> Result<_, Box<Mismatch>> {
            let mut values = Values(vec![]);
            fill(network.clone(), tensors, name)?.visit(&mut values);
            let own =
                |(id, value): (ParamId, Tensor<1>)| Some((id, value.to_device(&memory.get(&id)?.average.device())));
            Ok(values.0.into_iter().filter_map(own).collect::<BTreeMap<_, _>>())
        };
        let mut average = part(&self.memory, average, AVERAGE)?;
        let mut first = part(&self.memory, first_moment, "the checkpoint's first moments")?;
        let mut second = part(&self.memory, second_moment, "the checkpoint's second moments")?;
        for (id, memory) in &mut self.memory {
            let [average, first, second] =
                [&mut average, &mut first, &mut second].map(|part| part.remove(id).expect("it was filled"));
            *memory = Memory { moments: Some([first, second]), average, weight: None };
        }
        let state = Self { backbone: network.train(), memory: self.memory, stored: Precision::F32, step, updates };
        Ok(state.storing(self.stored))
    }

    /// The network with what `part` gives for each parameter, of what is remembered of it, here or beside, and its own values.
    fn with(&self, beside: &[Self], part: impl Fn(Option<&Memory>, Tensor<1>) -> Tensor<1>) -> B {
        let memory = |id| [self].into_iter().chain(beside).find_map(|state| state.memory.get(&id));
        self.backbone.valid().map(&mut Replace(|id, own| part(memory(id), own)))
    }
}

impl<B: Backbone> TrainState<B> {
    /// One step on batches whose gradients are averaged as if they were one batch of equal parts.
    ///
    /// A loss or gradient that is not finite leaves weights, average and moments as they were.
    pub fn step(
        self,
        objective: &impl Objective<B>,
        batches: impl IntoIterator<Item = Batch<B::Condition>>,
        seed: u64,
        config: &OptimizerConfig,
    ) -> (Self, StepReport) {
        let losses = batches.into_iter().map(|batch| move |backbone: &B| objective.loss(backbone, batch, seed));
        self.minimise(losses, config)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use mixflow_backbones::{Network, NetworkConfig};

    use super::*;
    use crate::recipe::Recipe;
    use crate::train::Tensors;

    fn network() -> Network {
        let config: NetworkConfig =
            Recipe::read("digits", &["network.width=24".into(), "network.depth=1".into()]).unwrap().network;
        config.init(1, &Device::default())
    }

    /// As of a checkpoint of a network with projectors, resumed by one without.
    #[test]
    fn tensors_that_the_network_does_not_have_are_refused_wherever_they_are() {
        type Part = fn(&mut Snapshot) -> &mut Tensors;
        let parts: [(&str, Part); 4] = [
            ("network", |snapshot| &mut snapshot.weights),
            ("averaged network", |snapshot| &mut snapshot.average),
            ("first moments", |snapshot| &mut snapshot.first_moment),
            ("second moments", |snapshot| &mut snapshot.second_moment),
        ];
        let whole = TrainState::new(network()).snapshot();
        TrainState::restore(network(), whole.clone()).unwrap();
        for (name, part) in parts {
            let mut more = whole.clone();
            part(&mut more).insert("projectors.0.fc1.bias".into(), TensorData::new(vec![0.0f32], [1]));
            let error = TrainState::restore(network(), more).unwrap_err().to_string();
            assert!(error.contains(&format!("the checkpoint's {name} are")), "{error}");
            assert!(error.ends_with("1 unused: projectors.0.fc1.bias"), "{error}");
        }
        let mut more = whole.clone();
        more.average.insert("projectors.0.fc1.bias".into(), TensorData::new(vec![0.0f32], [1]));
        assert!(more.into_average(network()).unwrap_err().to_string().contains("1 unused"));

        let mut less = whole;
        let name = less.weights.keys().find(|name| name.ends_with("x_embedder.proj.bias")).unwrap().clone();
        less.weights.remove(&name);
        assert_eq!(TrainState::restore(network(), less).unwrap_err().missing, [name]);
    }
}
