//! The velocity field that a network defines under a schedule.

mod corrected;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;

use burn::prelude::*;
use mixflow_backbones::Backbone;
use mixflow_schedules::{Affine, Prediction, Schedule, noise_scale, same_path, time_between};

use crate::objective::FlowMatching;
use crate::sampling::Guidance;

pub use corrected::{TakenStep, VelocityMap};

/// The velocity field of a network under a schedule: what solvers integrate.
///
/// Velocities are derivatives with respect to the schedule's native time
/// ([`Coefficients::time`](mixflow_schedules::Coefficients::time)) and are multiplied by [`elapsed`](Self::elapsed) native
/// time, so that both directions of time come out right.
pub struct Flow<'a> {
    schedule: &'a dyn Schedule,
    prediction: Prediction,
    source: Source<'a>,
    carried: usize,
    /// The least `σ` that predictions of data are divided by.
    floor: f64,
}

enum Source<'a> {
    Network {
        predict: Box<Predict<'a>>,
        evaluations: Cell<usize>,
    },
    /// Away from each of the weak flows, from one at least.
    Guided {
        strong: Box<Flow<'a>>,
        weak: Vec<(Flow<'a>, Guidance)>,
    },
    Mapped {
        flow: Box<Flow<'a>>,
        map: Box<corrected::Map<'a>>,
    },
    Relabelled {
        flow: Box<Flow<'a>>,
        labels: Box<corrected::Labels<'a>>,
    },
    Finished {
        flow: Box<Flow<'a>>,
        finish: Box<corrected::Finish<'a>>,
    },
}

type Predict<'a> = dyn Fn(Tensor<4>, Times) -> Output + 'a;

/// A prediction, and the fraction of a step's variance, if it was learned: see [`Backbone::forward_with_variance`].
type Output = (Tensor<4>, Option<Tensor<4>>);

impl<S: Schedule, T> FlowMatching<S, T> {
    /// The flow of a network that was trained so: one row of `condition` for each image that is sampled.
    pub fn flow<'a, B: Backbone>(&'a self, backbone: &'a B, condition: B::Condition) -> Flow<'a>
    where
        B::Condition: 'a,
    {
        // Its loss does not train what a network may say of a variance.
        Flow::of(&self.schedule, self.prediction, backbone, condition).floored(self.floor).without_variance()
    }
}

impl<'a> Flow<'a> {
    /// A network `predict(x, time)` that outputs `prediction`.
    ///
    /// # Shapes
    /// - x and output: `[batch, channels, height, width]`
    /// - time: [`Coefficients::time`](mixflow_schedules::Coefficients::time), the label the network was trained with
    pub fn new(
        schedule: &'a dyn Schedule,
        prediction: Prediction,
        predict: impl Fn(Tensor<4>, f64) -> Tensor<4> + 'a,
    ) -> Self {
        Self::labelled(schedule, prediction, move |x, t| predict(x, schedule.at(t).time))
    }

    /// A backbone, with one row of `condition` for each image that is sampled.
    pub fn of<B: Backbone>(
        schedule: &'a dyn Schedule,
        prediction: Prediction,
        backbone: &'a B,
        condition: B::Condition,
    ) -> Self
    where
        B::Condition: 'a,
    {
        Self::with_variance(schedule, prediction, move |x, times| {
            let time = times.labels(schedule, &x);
            backbone.forward_with_variance(x, time, condition.clone())
        })
    }

    /// The same of a network whose variance of denoising steps nobody trained.
    pub(crate) fn without_variance(self) -> Self {
        match self.source {
            Source::Network { predict, .. } => {
                let plain =
                    Self::with_variance(self.schedule, self.prediction, move |x, times| (predict(x, times).0, None));
                Self { floor: self.floor, ..plain }
            }
            _ => self,
        }
    }

    /// As [`new`](Self::new), with `predict` told paper time.
    pub(crate) fn labelled(
        schedule: &'a dyn Schedule,
        prediction: Prediction,
        predict: impl Fn(Tensor<4>, f64) -> Tensor<4> + 'a,
    ) -> Self {
        Self::with_variance(schedule, prediction, move |x, times| (predict(x, times.one()), None))
    }

    /// As [`labelled`](Self::labelled), of a network that may have learned the variance of denoising steps.
    pub(crate) fn with_variance(
        schedule: &'a dyn Schedule,
        prediction: Prediction,
        predict: impl Fn(Tensor<4>, Times) -> Output + 'a,
    ) -> Self {
        let source = Source::Network { predict: Box::new(predict), evaluations: Cell::new(0) };
        Self { schedule, prediction, source, carried: 0, floor: 0.0 }
    }

    /// With [`FlowMatching::floor`] of predictions of data: clipped denominators.
    #[must_use]
    pub fn floored(self, floor: f64) -> Self {
        let floor = if self.prediction == Prediction::Data { floor } else { 0.0 };
        Self { floor: floor * noise_scale(self.schedule), ..self }
    }

    /// Declares that the last `channels` channels are integrals carried along, not part of the state.
    pub(crate) fn carrying(self, channels: usize) -> Self {
        Self { carried: channels, ..self }
    }

    /// How many channels, the last ones, are carried along: adaptive solvers judge their error apart.
    pub(crate) fn carried(&self) -> usize {
        self.carried
    }

    /// Guides this flow away from `weak`: classifier-free guidance when `weak` is the same network under the null
    /// condition, autoguidance when it is a weaker network.
    ///
    /// Outputs are combined as this flow's kind of prediction; `weak` may predict another, and count the time of the same
    /// path the other way.
    ///
    /// # Panics
    /// If the flows lie on different paths.
    #[must_use]
    pub fn guided(self, weak: Self, guidance: Guidance) -> Self {
        let (schedule, prediction) = (self.schedule, self.prediction);
        weak.assert_on(schedule);
        let floor = self.floor;
        let source = Source::Guided { strong: Box::new(self), weak: vec![(weak, guidance)] };
        Self { schedule, prediction, source, carried: 0, floor }
    }

    /// Guides a guided flow away from one more weak flow: `(scale − 1) (strong − weak)` is added, where `strong` is this
    /// flow before any guidance. [`guided`](Self::guided) of a guided flow takes the guided one as the strong one instead,
    /// and evaluates it anew. A flow that is not guided is guided as there.
    ///
    /// # Panics
    /// As [`guided`](Self::guided).
    #[must_use]
    pub fn guided_also(mut self, weak: Self, guidance: Guidance) -> Self {
        match &mut self.source {
            Source::Guided { weak: others, .. } => {
                weak.assert_on(self.schedule);
                others.push((weak, guidance));
                self
            }
            _ => self.guided(weak, guidance),
        }
    }

    /// The schedule of the path.
    #[must_use]
    pub fn schedule(&self) -> &'a dyn Schedule {
        self.schedule
    }

    /// Native time from paper time `from` to paper time `to`; negative where native time runs backwards.
    #[must_use]
    pub fn elapsed(&self, from: f64, to: f64) -> f64 {
        self.schedule.at(to).time - self.schedule.at(from).time
    }

    /// The paper time at which `share` of the native time from paper time `from` to paper time `to` has passed: where a
    /// method takes a slope inside a step.
    #[must_use]
    pub fn between(&self, from: f64, to: f64, share: f64) -> f64 {
        time_between(self.schedule, from, to, share)
    }

    /// `dx/dtime` at paper time `t`.
    #[must_use]
    pub fn velocity(&self, x: Tensor<4>, t: f64) -> Tensor<4> {
        self.predict(x, t, Prediction::Velocity)
    }

    /// As [`velocity`](Self::velocity), guided if guidance is active at paper time `guided_as` instead of `t`: for
    /// solvers that decide once for all evaluations of a step.
    #[must_use]
    pub fn velocity_guided_as(&self, x: Tensor<4>, t: f64, guided_as: f64) -> Tensor<4> {
        self.predict_guided_as(x, t, guided_as, Prediction::Velocity)
    }

    /// What the network says about `x` at paper time `t`, read as `prediction`.
    #[must_use]
    pub fn predict(&self, x: Tensor<4>, t: f64, prediction: Prediction) -> Tensor<4> {
        self.predict_guided_as(x, t, t, prediction)
    }

    /// As [`predict`](Self::predict), each row of `x` at a paper time of its own, as in the batches of a training: one
    /// evaluation.
    ///
    /// # Panics
    /// If there are not as many times as rows, or a network is a function of [`new`](Self::new), which knows one time.
    #[must_use]
    pub fn predict_rows(&self, x: Tensor<4>, times: &[f64], prediction: Prediction) -> Tensor<4> {
        assert_eq!(times.len(), x.dims()[0], "a time for each row");
        self.predict_on(self.schedule, x, Times(times), Times(times), prediction)
    }

    /// The velocity and the score `∇ log p_t(x)`, from one evaluation.
    #[must_use]
    pub fn velocity_and_score(&self, x: Tensor<4>, t: f64) -> (Tensor<4>, Tensor<4>) {
        let times = [t];
        let t = Times(&times);
        if let Source::Mapped { flow, map } = &self.source {
            let (velocity, score) = flow.velocity_and_score(x.clone(), t.one());
            return (t.combine(&x, velocity, |t| map(t).of_velocity()), t.combine(&x, score, |t| map(t).of_score()));
        }
        let (output, _) = self.output(x.clone(), t, t);
        let read = |prediction| self.read(&x, output.clone(), t, prediction, self.schedule);
        (read(Prediction::Velocity), read(Prediction::Score))
    }

    /// The data in `x`, and the fraction of the variance of a denoising step from it, if the network has learned that (see
    /// [`forward_with_variance`](Backbone::forward_with_variance)): from one evaluation. Guidance and factors are for the data
    /// alone.
    #[must_use]
    pub fn data_and_variance(&self, x: Tensor<4>, t: f64) -> (Tensor<4>, Option<Tensor<4>>) {
        let times = [t];
        let t = Times(&times);
        let (output, variance) = self.output(x.clone(), t, t);
        (self.read(&x, output, t, Prediction::Data, self.schedule), variance)
    }

    /// Network evaluations so far; a guided step counts both networks.
    #[must_use]
    pub fn evaluations(&self) -> usize {
        match &self.source {
            Source::Network { evaluations, .. } => evaluations.get(),
            Source::Guided { strong, weak } => {
                strong.evaluations() + weak.iter().map(|(weak, _)| weak.evaluations()).sum::<usize>()
            }
            Source::Mapped { flow, .. } | Source::Relabelled { flow, .. } | Source::Finished { flow, .. } => {
                flow.evaluations()
            }
        }
    }

    fn assert_on(&self, schedule: &dyn Schedule) {
        assert!(same_path(self.schedule, schedule), "a flow on {schedule:?} is guided by one on {:?}", self.schedule);
    }

    fn predict_guided_as(&self, x: Tensor<4>, t: f64, guided_as: f64, prediction: Prediction) -> Tensor<4> {
        self.predict_on(self.schedule, x, Times(&[t]), Times(&[guided_as]), prediction)
    }

    /// As a network would predict it that counts time as `schedule` does, which is this one's path.
    fn predict_on(
        &self,
        schedule: &dyn Schedule,
        x: Tensor<4>,
        t: Times,
        guided_as: Times,
        prediction: Prediction,
    ) -> Tensor<4> {
        match (&self.source, prediction) {
            (Source::Mapped { flow, map }, Prediction::Score) => {
                let score = flow.predict_on(schedule, x.clone(), t, guided_as, prediction);
                t.combine(&x, score, |t| map(t).of_score())
            }
            _ => self.read(&x, self.output(x.clone(), t, guided_as).0, t, prediction, schedule),
        }
    }

    /// The output as another prediction; untouched where it is that already.
    fn read(&self, x: &Tensor<4>, output: Tensor<4>, t: Times, to: Prediction, schedule: &dyn Schedule) -> Tensor<4> {
        let between = |t| {
            let (at, to_at) = (self.schedule.at(t), schedule.at(t));
            let clipped = |from: Prediction, at, to, to_at| from.convert_clipped(at, to, to_at, self.floor);
            if self.prediction != Prediction::Velocity || self.floor == 0.0 {
                return clipped(self.prediction, &at, to, &to_at);
            }
            // Of a changed velocity: back to the data that it was read from.
            let (velocity, read) =
                (clipped(Prediction::Data, &at, Prediction::Velocity, &at), clipped(Prediction::Data, &at, to, &to_at));
            Affine { x: read.x - read.y * velocity.x / velocity.y, y: read.y / velocity.y }
        };
        t.combine(x, output, between)
    }

    fn output(&self, x: Tensor<4>, t: Times, guided_as: Times) -> Output {
        match &self.source {
            Source::Network { predict, evaluations } => {
                evaluations.set(evaluations.get() + 1);
                predict(x, t)
            }
            Source::Guided { strong, weak } => {
                let (strong, variance) = strong.output(x.clone(), t, guided_as);
                let guided = weak.iter().filter_map(|(weak, guidance)| {
                    let active: Vec<bool> = guided_as.0.iter().map(|&t| guidance.is_active(t)).collect();
                    let weak = || weak.predict_on(self.schedule, x.clone(), t, guided_as, self.prediction);
                    let guided = active.contains(&true).then(|| guide(strong.clone(), weak(), guidance))?;
                    if !active.contains(&false) {
                        return Some(guided);
                    }
                    let rows = TensorData::new(active, [strong.dims()[0], 1, 1, 1]);
                    let rows = Tensor::<4, Bool>::from_data(rows, &strong.device()).expand(strong.shape());
                    Some(strong.clone().mask_where(rows, guided))
                });
                let together = guided.reduce(|all, guided| all + (guided - strong.clone()));
                (together.unwrap_or_else(|| strong.clone()), variance)
            }
            Source::Mapped { flow, map } => {
                let (output, variance) = flow.output(x.clone(), t, guided_as);
                let velocity = flow.read(&x, output, t, Prediction::Velocity, flow.schedule);
                (t.combine(&x, velocity, |t| map(t).of_velocity()), variance)
            }
            Source::Relabelled { flow, labels } => match labels(&x, t.one()) {
                Some(labels) => flow.output(x, Times(&labels), guided_as),
                None => flow.output(x, t, guided_as),
            },
            Source::Finished { flow, finish } => {
                let (output, variance) = flow.output(x.clone(), t, guided_as);
                finish.remember(|| flow.read(&x, output.clone(), t, Prediction::Data, flow.schedule));
                (output, variance)
            }
        }
    }
}

/// Paper times of a batch: one for all rows, or one each.
#[derive(Clone, Copy)]
pub(crate) struct Times<'t>(&'t [f64]);

impl Times<'_> {
    /// `x · Affine::x + y · Affine::y` with the factors of each row's time; `y` itself where they change nothing.
    fn combine(self, x: &Tensor<4>, y: Tensor<4>, affine: impl Fn(f64) -> Affine) -> Tensor<4> {
        if let &[t] = self.0 {
            return match affine(t) {
                Affine { x: 0.0, y: 1.0 } => y,
                Affine { x: 0.0, y: factor } => y * factor,
                Affine { x: of_x, y: of_y } => x.clone() * of_x + y * of_y,
            };
        }
        let affine: Vec<Affine> = self.0.iter().map(|&t| affine(t)).collect();
        let [of_x, of_y] = [|affine: &Affine| affine.x, |affine: &Affine| affine.y].map(|part| {
            let factors = TensorData::new(affine.iter().map(part).collect(), [affine.len(), 1, 1, 1]);
            Tensor::from_data(factors, (&x.device(), x.dtype()))
        });
        x.clone() * of_x + y * of_y
    }

    /// The time of all rows.
    pub(crate) fn one(self) -> f64 {
        let &[time] = self.0 else { panic!("a function of one time was asked at {} times", self.0.len()) };
        time
    }

    /// Paper time of each row of `x`, `[batch or 1, 1, 1, 1]`.
    #[cfg(test)]
    pub(crate) fn column(self, x: &Tensor<4>) -> Tensor<4> {
        Tensor::<1>::from_data(self.0, (&x.device(), x.dtype())).reshape([-1, 1, 1, 1])
    }

    /// What a network is told, a label for each row of `x`.
    fn labels(self, schedule: &dyn Schedule, x: &Tensor<4>) -> Tensor<1> {
        let options = (&x.device(), x.dtype());
        if let &[time] = self.0 {
            return Tensor::full([x.dims()[0]], schedule.at(time).time, options);
        }
        let labels: Vec<f64> = self.0.iter().map(|&time| schedule.at(time).time).collect();
        Tensor::from_data(labels.as_slice(), options)
    }
}

impl fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("schedule", &self.schedule)
            .field("prediction", &self.prediction)
            .field("evaluations", &self.evaluations())
            .finish_non_exhaustive()
    }
}

fn guide(strong: Tensor<4>, weak: Tensor<4>, guidance: &Guidance) -> Tensor<4> {
    let channels = strong.dims()[1];
    let guided = guidance.channels().unwrap_or(channels).min(channels);
    let [first, rest] = [strong.clone().narrow(1, 0, guided), strong];
    let weak = weak.narrow(1, 0, guided);
    let first = weak.clone() + (first - weak) * guidance.scale();
    if guided == channels {
        return first;
    }
    Tensor::cat(vec![first, rest.narrow(1, guided, channels - guided)], 1)
}
