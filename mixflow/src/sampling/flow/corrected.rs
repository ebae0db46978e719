//! A flow that says something else than its networks, with the same evaluations.

use std::cell::{Cell, RefCell};

use burn::prelude::*;
use mixflow_schedules::{Affine, Prediction};

use super::{Flow, Source};
use crate::sampling::step::Step;

/// What is made of a velocity and a score at a time: `v' = x x_t + velocity v` and `s' = score s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VelocityMap {
    /// Factor of the state.
    pub x: f64,
    /// Factor of the velocity.
    pub velocity: f64,
    /// Factor of the score, which stochastic solvers follow beside the velocity.
    pub score: f64,
}

impl VelocityMap {
    /// Nothing is changed.
    pub const NONE: Self = Self { x: 0.0, velocity: 1.0, score: 1.0 };

    pub(super) fn of_velocity(self) -> Affine {
        Affine { x: self.x, y: self.velocity }
    }

    pub(super) fn of_score(self) -> Affine {
        Affine { x: 0.0, y: self.score }
    }
}

/// A step that a solver has taken, all tensors `[batch, channels, height, width]`.
#[derive(Debug)]
pub struct TakenStep {
    /// Which one.
    pub step: Step,
    /// The state where it began.
    pub from: Tensor<4>,
    /// The state that the solver came to.
    pub to: Tensor<4>,
    /// The data in the state by the first evaluation of the step.
    pub data: Tensor<4>,
}

pub(super) type Map<'a> = dyn Fn(f64) -> VelocityMap + 'a;
pub(super) type Labels<'a> = dyn Fn(&Tensor<4>, f64) -> Option<Vec<f64>> + 'a;

/// What is done to the state after each step.
pub(super) struct Finish<'a> {
    finish: Box<dyn Fn(TakenStep) -> Tensor<4> + 'a>,
    /// What the first evaluation since the step began says of the data.
    first: RefCell<Option<Tensor<4>>>,
    steps: Cell<usize>,
}

impl Finish<'_> {
    pub(super) fn remember(&self, data: impl FnOnce() -> Tensor<4>) {
        self.first.borrow_mut().get_or_insert_with(data);
    }
}

impl<'a> Flow<'a> {
    /// The flow with another velocity at paper time `t`, `map(t)` of this one's, guidance included.
    ///
    /// Data and noise are read from the new velocity, so that every solver follows the same flow.
    #[must_use]
    pub fn mapped(self, map: impl Fn(f64) -> VelocityMap + 'a) -> Self {
        let Self { schedule, carried, floor, .. } = self;
        let source = Source::Mapped { flow: Box::new(self), map: Box::new(map) };
        Self { schedule, prediction: Prediction::Velocity, source, carried, floor }
    }

    /// The flow whose velocity is `factor` times that of this one. The score stays: what a stochastic solver adds as noise
    /// it removes in full.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        if factor == 1.0 {
            return self;
        }
        self.mapped(move |_| VelocityMap { velocity: factor, ..VelocityMap::NONE })
    }

    /// The flow whose networks are told other times than those of the state: `labels(x, t)` has a paper time for each row of
    /// `x`, or none where they are told `t`. What they say is taken for a prediction at `t`.
    ///
    /// Evaluating panics if a network is a function of [`new`](Self::new), which knows one time, and at several times at
    /// once.
    #[must_use]
    pub fn relabelled(self, labels: impl Fn(&Tensor<4>, f64) -> Option<Vec<f64>> + 'a) -> Self {
        let Self { schedule, prediction, carried, floor, .. } = self;
        let source = Source::Relabelled { flow: Box::new(self), labels: Box::new(labels) };
        Self { schedule, prediction, source, carried, floor }
    }

    /// The flow whose solvers go on from `finish` of each step that they took. For those that take the steps of the grid,
    /// [`StepSolver`](crate::sampling::solver::StepSolver)s: a [`Sampler`](crate::Sampler) refuses others.
    ///
    /// # Panics
    /// If something is done after each step already.
    #[must_use]
    pub fn finished(self, finish: impl Fn(TakenStep) -> Tensor<4> + 'a) -> Self {
        assert!(self.finish().is_none(), "a state is corrected once a step");
        let Self { schedule, prediction, carried, floor, .. } = self;
        let finish = Finish { finish: Box::new(finish), first: RefCell::default(), steps: Cell::new(0) };
        let source = Source::Finished { flow: Box::new(self), finish: Box::new(finish) };
        Self { schedule, prediction, source, carried, floor }
    }

    /// A step of a solver, which is `take`, and what is done after it.
    pub(crate) fn step(&self, step: Step, x: Tensor<4>, take: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        let Some((flow, Finish { finish, first, steps })) = self.finish() else { return take(x) };
        first.take();
        let to = take(x.clone());
        let seen = first.take();
        let data = seen.unwrap_or_else(|| flow.predict(x.clone(), step.from, Prediction::Data));
        steps.set(steps.get() + 1);
        finish(TakenStep { step, from: x, to, data })
    }

    /// Steps after which something was done, if something is done after each.
    pub(crate) fn finished_steps(&self) -> Option<usize> {
        self.finish().map(|(_, finish)| finish.steps.get())
    }

    fn finish(&self) -> Option<(&Self, &Finish<'a>)> {
        match &self.source {
            Source::Finished { finish, .. } => Some((self, finish)),
            Source::Network { .. } => None,
            Source::Guided { strong: flow, .. } | Source::Mapped { flow, .. } | Source::Relabelled { flow, .. } => {
                flow.finish()
            }
        }
    }
}
