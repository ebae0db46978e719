//! Everything that a training step changes.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use mixflow_backbones::Backbone;
use mixflow_backbones::ops::{AdamW, AdamWState, squared_norm};
use mixflow_backbones::weights::Mismatch;

use super::OptimizerConfig;
use super::scalars::{Numbers, Scalars};
use super::snapshot::{AVERAGE, Snapshot, collect, fill};
use crate::objective::{Batch, Loss, Objective};

/// A network in training: its weights, their moving average, the optimiser's moments and the step.
#[derive(Debug)]
pub struct TrainState<B> {
    backbone: B,
    memory: BTreeMap<ParamId, Memory>,
    step: u64,
    updates: u64,
}

/// What is remembered of a parameter that is trained, flattened.
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
        self.with(|memory, own| memory.map_or(own, |memory| memory.average.clone()))
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
        let numbers = Numbers::read(vec![share.scalars], squares);
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

    /// The squared norm of each gradient.
    pub(super) fn squares(&self, gradients: &GradientsParams) -> Vec<Tensor<1>> {
        let mut norm = Norm { gradients, squares: vec![] };
        self.backbone.visit(&mut norm);
        norm.squares
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
        let moment = |which: usize| {
            collect(&self.with(|memory, own| match memory.and_then(|memory| memory.moments.as_ref()) {
                Some(moments) => moments[which].clone(),
                None => own.zeros_like(),
            }))
        };
        Snapshot {
            weights: collect(&self.backbone),
            average: collect(&self.average()),
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
        let mut state = Self::new(fill(network, snapshot.weights, "the checkpoint's network")?);
        let flat = |tensors, name| -> Result<_, Box<Mismatch>> {
            let mut flat = Flat(Vec::new());
            fill(state.backbone.valid(), tensors, name)?.visit(&mut flat);
            Ok(flat.0)
        };
        let average = flat(snapshot.average, AVERAGE)?;
        let first = flat(snapshot.first_moment, "the checkpoint's first moments")?;
        let second = flat(snapshot.second_moment, "the checkpoint's second moments")?;
        // All three visit the same parameters in the same order.
        for (((id, average), (_, first)), (_, second)) in average.into_iter().zip(first).zip(second) {
            if let Some(memory) = state.memory.get_mut(&id) {
                *memory = Memory { moments: Some([first, second]), average };
            }
        }
        Ok(Self { step: snapshot.step, updates: snapshot.updates, ..state })
    }

    /// The network with what `part` gives for each parameter, of what is remembered of it and its own values.
    fn with(&self, part: impl Fn(Option<&Memory>, Tensor<1>) -> Tensor<1>) -> B {
        self.backbone.valid().map(&mut Replace(|id, own| part(self.memory.get(&id), own)))
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
        let memory = Memory { moments: None, average: flat(param) };
        assert!(self.0.insert(param.id, memory).is_none(), "two parameters share the id {}", param.id);
    }
}

struct Norm<'a> {
    gradients: &'a GradientsParams,
    squares: Vec<Tensor<1>>,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.squares.push(squared_norm(gradient));
        }
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
            let shape = parameter.dims();
            let state = AdamWState {
                parameter: parameter.inner().reshape([-1]),
                first_moment,
                second_moment,
                average: Some(average),
            };
            let AdamWState { parameter, first_moment, second_moment, average } =
                self.update.update(state, gradient.reshape([-1]));
            let average = average.expect("the average was given");
            kept = Some(Memory { moments: Some([first_moment, second_moment]), average });
            Tensor::from_inner(parameter.reshape(shape)).require_grad()
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

struct Flat(Vec<(ParamId, Tensor<1>)>);

impl ModuleVisitor for Flat {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push((param.id, flat(param)));
    }
}

fn flat<const D: usize>(param: &Param<Tensor<D>>) -> Tensor<1> {
    let tensor = param.val();
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.reshape([-1])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
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
