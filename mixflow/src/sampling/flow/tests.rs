use burn::tensor::{DType, Device};
use mixflow_backbones::{ClassLabels, Condition};
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
                assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.0), "{schedule:?} {strong:?} {weak:?}");
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

/// What it says of the time is what it was told, of the condition what the row is: neither may get into another row.
#[derive(burn::module::Module, Debug)]
struct ImageCaptions;

impl Backbone for ImageCaptions {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        let labels = condition.labels.float().cast(x.dtype()).reshape([-1, 1, 1, 1]);
        x * time.reshape([-1, 1, 1, 1]) + labels * 0.1
    }
}

#[test]
fn rows_at_times_of_their_own_are_what_they_are_alone() {
    let device = Device::default();
    let guidance = Guidance::new(3.0).unwrap().within(0.2, 0.5).unwrap();
    let (times, labels) = ([0.1, 0.3, 0.45, 0.9], [2, 0, 1, 3]);
    let x = Tensor::<4>::from_data([[[[0.3]]], [[[-1.0]]], [[[0.7]]], [[[2.0]]]], (&device, DType::F64));
    for to in ALL {
        let flow = |labels: &[usize]| {
            let condition = ClassLabels::new(labels, 4, &device);
            let weak = Flow::of(&Cosine, Prediction::Data, &ImageCaptions, condition.clone().null());
            Flow::of(&Cosine, Prediction::Velocity, &ImageCaptions, condition).guided(weak, guidance).scaled(0.9)
        };
        let together = flow(&labels);
        let found = numbers(&together.predict_rows(x.clone(), &times, to));
        assert_eq!(together.evaluations(), 2, "one of each network");
        for (row, (time, label)) in times.into_iter().zip(labels).enumerate() {
            let alone = numbers(&flow(&[label]).predict(x.clone().narrow(0, row, 1), time, to))[0];
            assert!((found[row] - alone).abs() < 1e-12 * alone.abs().max(1.0), "{to:?} {row}: {} {alone}", found[row]);
        }
    }
}

#[test]
#[should_panic(expected = "a time for each row")]
fn rows_without_a_time_are_refused() {
    let _ = constant(1.0).predict_rows(point(0.3), &[0.1, 0.2], Prediction::Velocity);
}
