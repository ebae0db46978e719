//! The velocity field that a network defines under a schedule.

use std::cell::Cell;
use std::fmt;

use burn::prelude::*;
use mixflow_backbones::Backbone;
use mixflow_schedules::{Prediction, Schedule, same_path, time_between};

use crate::objective::FlowMatching;
use crate::sampling::Guidance;

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
    Scaled {
        flow: Box<Flow<'a>>,
        factor: f64,
    },
}

type Predict<'a> = dyn Fn(Tensor<4>, f64) -> Tensor<4> + 'a;

impl<S: Schedule, T> FlowMatching<S, T> {
    /// The flow of a network that was trained so, under one condition for the whole batch that is sampled.
    pub fn flow<'a, B: Backbone>(&'a self, backbone: &'a B, condition: B::Condition) -> Flow<'a>
    where
        B::Condition: 'a,
    {
        Flow::of(&self.schedule, self.prediction, backbone, condition)
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

    /// A backbone under one condition for the whole batch it samples.
    pub fn of<B: Backbone>(
        schedule: &'a dyn Schedule,
        prediction: Prediction,
        backbone: &'a B,
        condition: B::Condition,
    ) -> Self
    where
        B::Condition: 'a,
    {
        Self::new(schedule, prediction, move |x, time| {
            let time = Tensor::full([x.dims()[0]], time, (&x.device(), x.dtype()));
            backbone.forward(x, time, condition.clone())
        })
    }

    /// As [`new`](Self::new), with `predict` told paper time.
    pub(crate) fn labelled(
        schedule: &'a dyn Schedule,
        prediction: Prediction,
        predict: impl Fn(Tensor<4>, f64) -> Tensor<4> + 'a,
    ) -> Self {
        let source = Source::Network { predict: Box::new(predict), evaluations: Cell::new(0) };
        Self { schedule, prediction, source, carried: 0 }
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
        let source = Source::Guided { strong: Box::new(self), weak: vec![(weak, guidance)] };
        Self { schedule, prediction, source, carried: 0 }
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

    /// The flow whose velocity is `factor` times that of this one, with the same guidance and evaluations.
    ///
    /// Data and noise are read from the scaled velocity, so that every solver follows the same flow. The score stays: what
    /// a stochastic solver adds as noise it removes in full.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        if factor == 1.0 {
            return self;
        }
        let (schedule, carried) = (self.schedule, self.carried);
        let source = Source::Scaled { flow: Box::new(self), factor };
        Self { schedule, prediction: Prediction::Velocity, source, carried }
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

    /// The velocity and the score `∇ log p_t(x)`, from one evaluation.
    #[must_use]
    pub fn velocity_and_score(&self, x: Tensor<4>, t: f64) -> (Tensor<4>, Tensor<4>) {
        if let Source::Scaled { flow, factor } = &self.source {
            let (velocity, score) = flow.velocity_and_score(x, t);
            return (velocity * *factor, score);
        }
        let output = self.output(x.clone(), t, t);
        let read = |prediction| self.read(x.clone(), output.clone(), t, prediction, self.schedule);
        (read(Prediction::Velocity), read(Prediction::Score))
    }

    /// Network evaluations so far; a guided step counts both networks.
    #[must_use]
    pub fn evaluations(&self) -> usize {
        match &self.source {
            Source::Network { evaluations, .. } => evaluations.get(),
            Source::Guided { strong, weak } => {
                strong.evaluations() + weak.iter().map(|(weak, _)| weak.evaluations()).sum::<usize>()
            }
            Source::Scaled { flow, .. } => flow.evaluations(),
        }
    }

    fn assert_on(&self, schedule: &dyn Schedule) {
        assert!(same_path(self.schedule, schedule), "a flow on {schedule:?} is guided by one on {:?}", self.schedule);
    }

    fn predict_guided_as(&self, x: Tensor<4>, t: f64, guided_as: f64, prediction: Prediction) -> Tensor<4> {
        self.predict_on(self.schedule, x, t, guided_as, prediction)
    }

    /// As a network would predict it that counts time as `schedule` does, which is this one's path.
    fn predict_on(
        &self,
        schedule: &dyn Schedule,
        x: Tensor<4>,
        t: f64,
        guided_as: f64,
        prediction: Prediction,
    ) -> Tensor<4> {
        match (&self.source, prediction) {
            (Source::Scaled { flow, .. }, Prediction::Score) => flow.predict_on(schedule, x, t, guided_as, prediction),
            _ => self.read(x.clone(), self.output(x, t, guided_as), t, prediction, schedule),
        }
    }

    /// The output as another prediction; untouched where it is that already.
    fn read(&self, x: Tensor<4>, output: Tensor<4>, t: f64, to: Prediction, schedule: &dyn Schedule) -> Tensor<4> {
        let affine = self.prediction.convert_between(&self.schedule.at(t), to, &schedule.at(t));
        match (affine.x, affine.y) {
            (0.0, 1.0) => output,
            (0.0, factor) => output * factor,
            (x_factor, factor) => x * x_factor + output * factor,
        }
    }

    fn output(&self, x: Tensor<4>, t: f64, guided_as: f64) -> Tensor<4> {
        match &self.source {
            Source::Network { predict, evaluations } => {
                evaluations.set(evaluations.get() + 1);
                predict(x, t)
            }
            Source::Guided { strong, weak } => {
                let strong = strong.output(x.clone(), t, guided_as);
                let guided =
                    weak.iter().filter(|(_, guidance)| guidance.is_active(guided_as)).map(|(weak, guidance)| {
                        let weak = weak.predict_on(self.schedule, x.clone(), t, guided_as, self.prediction);
                        guide(strong.clone(), weak, guidance)
                    });
                let together = guided.reduce(|all, guided| all + (guided - strong.clone()));
                together.unwrap_or_else(|| strong.clone())
            }
            Source::Scaled { flow, factor } => flow.predict_guided_as(x, t, guided_as, Prediction::Velocity) * *factor,
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use mixflow_schedules::{Cosine, Linear, Reversed};

    use super::*;
    use crate::sampling::solver::testing::{numbers, point, schedules, silent};
    use crate::sampling::solver::{Euler, Solver};

    const ALL: [Prediction; 4] = [Prediction::Noise, Prediction::Data, Prediction::Score, Prediction::Velocity];

    /// A flow on `Linear` whose velocity is the same everywhere.
    fn constant(velocity: f64) -> Flow<'static> {
        Flow::new(&Linear, Prediction::Velocity, move |x, _| x.zeros_like() + velocity)
    }

    #[test]
    fn guidance_holds_in_its_interval_and_channels() {
        let guidance = Guidance::new(3.0).unwrap().within(0.25, 0.5).unwrap().first_channels(3).unwrap();
        let x = || point(0.0).repeat_dim(1, 4);
        for (t, guided) in [(0.0, false), (0.25, true), (0.5, true), (0.75, false)] {
            let flow = constant(1.0).guided(constant(0.5), guidance);
            let first = if guided { 0.5 + 3.0 * 0.5 } else { 1.0 };
            assert_eq!(numbers(&flow.velocity(x(), t)), [first, first, first, 1.0], "t = {t}");
            assert_eq!(flow.evaluations(), if guided { 2 } else { 1 });
        }
    }

    #[test]
    fn evaluations_are_counted_exactly() {
        let run = |flow: Flow<'_>| {
            let times: Vec<f64> = (0..=8).map(|k| f64::from(k) / 8.0).collect();
            Euler.solve(&flow, point(0.0), &times, &mut silent, &mut |_, _| {}).unwrap();
            flow.evaluations()
        };
        let guidance = Guidance::new(2.0).unwrap();
        assert_eq!(run(constant(1.0)), 8);
        assert_eq!(run(constant(1.0).guided(constant(0.0), guidance)), 16);
        // The times 2/8 to 5/8 are inside.
        assert_eq!(run(constant(1.0).guided(constant(0.0), guidance.within(0.25, 0.625).unwrap())), 12);
        assert_eq!(run(constant(1.0).guided(constant(0.0), Guidance::new(1.0).unwrap())), 8);
    }

    #[test]
    fn every_weak_flow_adds_its_own_difference() {
        let at = |t| {
            let guidance = Guidance::new(3.0).unwrap();
            let early = Guidance::new(1.5).unwrap().within(0.0, 0.4).unwrap();
            let flow = constant(1.0).guided(constant(0.5), guidance).guided_also(constant(-2.0), early);
            (numbers(&flow.velocity(point(0.0), t))[0], flow.evaluations())
        };
        // 0.5 + 3 (1 − 0.5), and half of 1 − (−2).
        assert_eq!(at(0.2), (2.0 + 1.5, 3));
        assert_eq!(at(0.6), (2.0, 2));
        let alone = constant(1.0).guided_also(constant(-2.0), Guidance::new(1.5).unwrap());
        assert_eq!((numbers(&alone.velocity(point(0.0), 0.2)), alone.evaluations()), (vec![2.5], 2));
    }

    /// Whatever the networks predict: the velocity is affine in each prediction.
    #[test]
    fn guiding_noise_or_data_guides_the_velocity() {
        fn network(prediction: Prediction, schedule: &dyn Schedule, factor: f64) -> Flow<'_> {
            Flow::new(schedule, prediction, move |x, _| x * factor)
        }
        let guidance = Guidance::new(2.5).unwrap();
        for schedule in schedules() {
            for strong in ALL {
                for weak in ALL {
                    let value = |flow: Flow<'_>| numbers(&flow.velocity(point(0.8), 0.4))[0];
                    let [s, w] = [value(network(strong, &schedule, 0.3)), value(network(weak, &schedule, -0.2))];
                    let flow = network(strong, &schedule, 0.3).guided(network(weak, &schedule, -0.2), guidance);
                    let (found, expected) = (value(flow), w + 2.5 * (s - w));
                    assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.0), "{strong:?} {weak:?}");
                }
            }
        }
    }

    /// Every prediction of the weak flow, from a network that counts time the other way: the same numbers.
    #[test]
    fn a_guide_may_count_time_the_other_way() {
        let guidance = Guidance::new(2.5).unwrap();
        for schedule in schedules() {
            let back = Reversed(&schedule);
            for strong in ALL {
                for weak in ALL {
                    let velocity = |weak: Flow<'_>| {
                        let flow = Flow::new(&schedule, strong, |x, _| x * 0.3).guided(weak, guidance);
                        numbers(&flow.velocity(point(0.8), 0.4))[0]
                    };
                    let expected = velocity(Flow::new(&schedule, weak, |x, time| x * (time - 0.7)));
                    // The label is 1 − time there; only a velocity is another number.
                    let sign = if weak == Prediction::Velocity { -1.0 } else { 1.0 };
                    let found = velocity(Flow::new(&back, weak, move |x, time| x * ((0.3 - time) * sign)));
                    assert!(
                        (found - expected).abs() < 1e-9 * expected.abs().max(1.0),
                        "{schedule:?} {strong:?} {weak:?}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a flow on Linear is guided by one on Cosine")]
    fn a_guide_on_another_path_is_no_guide() {
        let weak = Flow::new(&Cosine, Prediction::Velocity, |x, _| x);
        let _ = constant(1.0).guided(weak, Guidance::new(2.0).unwrap());
    }

    /// The factor is on the guided velocity, wherever guidance is decided, and on nothing that the network says of the score.
    #[test]
    fn a_scaled_flow_is_guided_and_counted_as_the_flow_itself() {
        let flow = || {
            let guidance = Guidance::new(3.0).unwrap().within(0.0, 0.5).unwrap();
            Flow::new(&Linear, Prediction::Noise, |x, t| x * (0.2 + t)).guided(constant(0.5), guidance)
        };
        let (plain, scaled) = (flow(), flow().scaled(0.9));
        for (t, guided_as) in [(0.3, 0.3), (0.3, 0.6), (0.7, 0.5), (0.7, 0.7)] {
            let velocity = |flow: &Flow<'_>| numbers(&flow.velocity_guided_as(point(0.8), t, guided_as))[0];
            assert_eq!(velocity(&scaled), 0.9 * velocity(&plain), "{t} {guided_as}");
            assert_eq!(scaled.evaluations(), plain.evaluations());
        }
        let [(plain_velocity, plain_score), (velocity, score)] =
            [&plain, &scaled].map(|flow| flow.velocity_and_score(point(0.8), 0.3));
        assert_eq!(numbers(&velocity), numbers(&(plain_velocity * 0.9)));
        assert_eq!(numbers(&score), numbers(&plain_score));
        assert_eq!(numbers(&scaled.predict(point(0.8), 0.3, Prediction::Score)), numbers(&plain_score));
        // On the straight path data is where the velocity leads to by t = 1.
        let data = numbers(&scaled.predict(point(0.8), 0.3, Prediction::Data))[0];
        assert!((data - (0.8 + 0.7 * numbers(&velocity)[0])).abs() < 1e-12, "{data}");
    }

    #[test]
    fn both_directions_are_one_flow() {
        let forward = constant(1.0);
        let reversed = Reversed(Linear);
        let backward = Flow::new(&reversed, Prediction::Velocity, |x, time| {
            assert_eq!(time, 0.75);
            x.zeros_like() - 1.0
        });
        let step = |flow: &Flow<'_>| numbers(&(flow.velocity(point(0.0), 0.25) * flow.elapsed(0.25, 0.5)))[0];
        assert_eq!(step(&forward), step(&backward));
        let [a, b] = [&forward, &backward].map(|flow| numbers(&flow.velocity_and_score(point(0.3), 0.25).1));
        assert_eq!(a, b);
    }
}
