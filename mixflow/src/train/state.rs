//! Everything that a training step changes.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use mixflow_backbones::Backbone;
use mixflow_backbones::ops::{AdamW, AdamWState, squared_norm};
use mixflow_backbones::weights::Mismatch;

use super::OptimizerConfig;
use super::exchange::Flat;
use super::scalars::{Numbers, Scalars};
use super::snapshot::{AVERAGE, Snapshot, collect, fill, is_of_adapter};
use crate::objective::{Batch, Loss, Objective};

/// A network in training: its weights, their moving average, the optimiser's moments and the step.
#[derive(Debug)]
pub struct TrainState<B> {
    backbone: B,
    memory: BTreeMap<ParamId, Memory>,
    step: u64,
    updates: u64,
}

/// What is remembered of a parameter that is trained, flattened; on the device where it is updated.
#[derive(Clone, Debug)]
struct Memory {
    /// The optimiser's average of the gradient and of its square; none, which are zeros, until there is a gradient.
    moments: Option<[Tensor<1>; 2]>,
    average: Tensor<1>,
}

/// The moments of a parameter that has had no gradient; `average` gives the size.
fn no_moments(average: &Tensor<1>) -> [Tensor<1>; 2] {
    let zeros = average.zeros_like();
    [zeros.clone(), zeros]
}

/// What some parts of a step come to.
pub(super) struct Share {
    /// Those of all parts, added up.
    pub(super) gradients: GradientsParams,
    pub(super) scalars: Scalars,
}

/// What a step found.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Number of the step, from 0.
    pub step: u64,
    /// The objective before the update, mean over the batch.
    pub loss: f64,
    /// What it is made of, by name.
    pub terms: Vec<(&'static str, f64)>,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// The rate it was taken with.
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
        Self { backbone, memory: start.0, step: 0, updates: 0 }
    }

    /// The network as it is.
    pub fn backbone(&self) -> &B {
        &self.backbone
    }

    /// The same state of a network whose untrained tensors were replaced.
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

    /// The same state, which remembers no other parameters and thus updates none: a part of a state that several share.
    pub(super) fn remembering(mut self, is_own: impl Fn(ParamId) -> bool) -> Self {
        self.memory.retain(|id, _| is_own(*id));
        self
    }

    /// The same state, which remembers on another device and computes its updates there.
    pub(super) fn remembering_on(mut self, device: &Device) -> Self {
        let there = |tensor: Tensor<1>| tensor.to_device(device);
        self.memory.values_mut().for_each(|memory| {
            memory.average = there(memory.average.clone());
            memory.moments = memory.moments.take().map(|moments| moments.map(there));
        });
        self
    }

    /// One state of all that these remember, whose networks are the same.
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
        for loss_of in losses_of {
            let loss: Loss = loss_of(&self.backbone).into();
            scalars.losses.push(loss.total.clone().inner());
            for (name, term) in loss.terms {
                scalars.names.push(name);
                scalars.terms.push(if term.is_autodiff() { term.inner() } else { term });
            }
            let new = GradientsParams::from_grads(loss.total.backward(), &self.backbone);
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

    /// The same state with other values of the network's parameters.
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
        let weights = collect(&self.backbone);
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
            average: collect(&self.average_among(beside)),
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
        // One at a time: a device need not hold what others remember.
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
            *memory = Memory { moments: Some([first, second]), average };
        }
        Ok(Self { backbone: network.train(), memory: self.memory, step, updates })
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

struct Start(BTreeMap<ParamId, Memory>);

impl ModuleVisitor for Start {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.base().is_require_grad() {
            return;
        }
        let memory = Memory { moments: None, average: flat(param.val()) };
        assert!(self.0.insert(param.id, memory).is_none(), "two parameters share the id {}", param.id);
    }
}

struct Norm<'a> {
    gradients: &'a GradientsParams,
    place: usize,
    squares: Vec<(usize, Tensor<1>)>,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.squares.push((self.place, squared_norm(gradient)));
        }
        self.place += 1;
    }
}

struct Update<'a> {
    update: AdamW,
    gradients: &'a mut GradientsParams,
    memory: &'a mut BTreeMap<ParamId, Memory>,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // A parameter without a gradient is frozen or unused: it and its average stay.
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let id = param.id;
        let Memory { moments, average } =
            self.memory.remove(&id).expect("every parameter that is trained has a memory");
        let [first_moment, second_moment] = moments.unwrap_or_else(|| no_moments(&average));
        let mut kept = None;
        let param = param.map(|parameter| {
            let (shape, parameter) = (parameter.dims(), parameter.inner());
            let (here, there) = (parameter.device(), average.device());
            let state = AdamWState {
                parameter: parameter.reshape([-1]).to_device(&there),
                first_moment,
                second_moment,
                average: Some(average),
            };
            let AdamWState { parameter, first_moment, second_moment, average } =
                self.update.update(state, gradient.reshape([-1]).to_device(&there));
            let average = average.expect("the average was given");
            kept = Some(Memory { moments: Some([first_moment, second_moment]), average });
            Tensor::from_inner(parameter.to_device(&here).reshape(shape)).require_grad()
        });
        self.memory.insert(id, kept.expect("a parameter is mapped once"));
        param
    }
}

struct Replace<F>(F);

impl<F: Fn(ParamId, Tensor<1>) -> Tensor<1>> ModuleMapper for Replace<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        param.map(|old| {
            let shape = old.dims();
            (self.0)(id, old.reshape([-1])).reshape(shape)
        })
    }
}

/// The values of all parameters.
struct Values(Flat);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push((param.id, flat(param.val())));
    }
}

/// Gives parameters that are trained other values, where there are some.
struct SetValues<'a>(&'a mut BTreeMap<ParamId, Tensor<1>>);

impl ModuleMapper for SetValues<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove(&param.id) {
            Some(value) => param.map(|old| Tensor::from_inner(value.reshape(old.dims())).require_grad()),
            None => param,
        }
    }
}

/// The values of a tensor, outside of any graph.
pub(super) fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.reshape([-1])
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
