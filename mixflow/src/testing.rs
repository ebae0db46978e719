//! Conformance checks for any data set and any solver; those for networks are
//! [`mixflow_backbones::testing`](crate::backbones), those for paths and laws [`mixflow_schedules::testing`].

use burn::tensor::{Device, Tensor};
use mixflow_schedules::{Linear, Prediction, TimeGrid};

use crate::data::{Dataset, Example, Variation};
use crate::sampling::Flow;
use crate::sampling::solver::{SampleError, SeededNoise, Solver};

/// Examples that are looked at, spread over the set.
const EXAMPLES: u64 = 200;

/// Checks everything that training takes for granted about a data set.
///
/// - There are examples, classes and pixels.
/// - Every example has the stated number of pixels and of features, all finite, and a label that is a class.
/// - As training sees it, it has the number of pixels of its bucket, where there are some.
/// - An example is the same at every reading, in any order and from any thread.
/// - Of several captions the first is the label, all are classes, and one at least has a weight above 0.
/// - A mask has a number in [0, 1] for every place.
/// - The label without the image is that of the image; the fingerprint is the same at every call.
///
/// Of large sets 200 examples are read.
///
/// ```
/// use mixflow::data::{Channels, Digits};
///
/// mixflow::testing::check_dataset(&Digits::new(8, Channels::One)?);
/// # Ok::<(), mixflow::data::Error>(())
/// ```
///
/// # Panics
/// If a property does not hold: the message starts with its name.
pub fn check_dataset(data: &dyn Dataset) {
    let (len, classes, shape) = (data.len(), data.classes().len(), data.shape());
    assert!(
        len != Some(0) && classes > 0 && !shape.contains(&0),
        "size: {len:?} examples of {shape:?}, {classes} classes"
    );
    let read = |index| data.example(index).unwrap_or_else(|error| panic!("reading: example {index}: {error}"));
    let last = len.map_or(1_000_000, |len| len - 1);
    let indices: Vec<u64> = (0..EXAMPLES.min(last + 1)).map(|place| place * last / EXAMPLES.min(last).max(1)).collect();
    let examples: Vec<Example> = indices.iter().map(|&index| read(index)).collect();
    for (&index, example) in indices.iter().zip(&examples) {
        let Example { pixels, label, features, mask, captions } = example;
        let (found, expected) = (pixels.len(), shape.iter().product::<usize>());
        assert!(found == expected, "shape: example {index} has {found} pixels, expected {expected}, as in {shape:?}");
        let found: Vec<usize> = features.iter().map(Vec::len).collect();
        let expected: Vec<usize> = data.features().iter().map(|[tokens, width]| tokens * width).collect();
        assert!(found == expected, "features: example {index} has {found:?} numbers, expected {expected:?}");
        let places = shape[1] * shape[2];
        let right =
            mask.as_ref().is_none_or(|mask| mask.len() == places && mask.iter().all(|m| (0.0..=1.0).contains(m)));
        assert!(right, "mask: that of example {index} is not of {places} numbers in [0, 1]");
        let masked = data.masked();
        assert!(mask.is_some() == masked, "mask: example {index} has one: {}, masked() says {masked}", mask.is_some());
        let several = captions.len() < 2 || data.several_captions();
        assert!(several, "captions: example {index} has several, and several_captions() says that none has");
        let seen = data.variant(index, Variation { seed: 0, position: index, flip: false });
        let seen = seen.unwrap_or_else(|error| panic!("reading: example {index} in training: {error}")).pixels.len();
        let bucket = data.buckets().get(data.bucket(index)).unwrap_or(&shape);
        let expected: usize = bucket.iter().product();
        assert!(
            seen == expected,
            "bucket: example {index} has {seen} pixels in training, expected those of {bucket:?}"
        );
        let finite = pixels.iter().chain(features.iter().flatten()).all(|number| number.is_finite());
        assert!(finite, "finiteness: example {index} has a number that is none");
        assert!(*label < classes, "label: example {index} has class {label}, expected less than {classes}");
        let first = captions.first().is_none_or(|(first, _)| first == label);
        let likely = captions.is_empty() || captions.iter().map(|(_, weight)| weight).sum::<f64>() > 0.0;
        let right = captions.iter().all(|(caption, weight)| *caption < classes && *weight >= 0.0);
        assert!(first && likely && right, "captions: example {index} of class {label} is told by {captions:?}");
        let alone = data.label(index).unwrap_or_else(|error| panic!("label: example {index}: {error}"));
        assert!(alone == *label, "label: {alone} without the image of example {index}, {label} with it");
    }
    let again =
        |index: u64, example: &Example| assert!(read(index) == *example, "determinism: example {index} differs");
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|thread| {
            let backwards = indices.iter().zip(&examples).rev().skip(thread).step_by(2);
            scope.spawn(move || backwards.for_each(|(&index, example)| again(index, example)))
        });
        for thread in threads {
            // Its words, not the scope's.
            thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        }
    });
    let print = || data.fingerprint().unwrap_or_else(|error| panic!("fingerprint: {error}"));
    assert!(print() == print(), "fingerprint: two calls differ");
}

/// Checks everything that sampling takes for granted about a solver.
///
/// - It visits every time of the grid once, in order, with a finite state of the noise's shape, and returns the last.
/// - The same noise gives the same samples, bit for bit.
/// - Along `dx/dt = −x/2` it comes to `x e^(−1/2)`, nearer with more steps, if it needs no noise on its way.
/// - Times that turn and states that are not finite are errors.
///
/// ```
/// mixflow::testing::check_solver(&mixflow::sampling::solver::Heun);
/// ```
///
/// # Panics
/// As [`check_dataset`].
pub fn check_solver(solver: &dyn Solver) {
    const SHAPE: [usize; 4] = [2, 1, 2, 3];
    let device = Device::flex();
    let solve = |velocity: f64, times: &[f64], seed: u64, seen: &mut Vec<(f64, Tensor<4>)>| {
        let flow = Flow::new(&Linear, Prediction::Velocity, move |x, _| x * velocity);
        let start = SeededNoise::new(0, 0, &device).start(SHAPE);
        solver
            .solve(&flow, start, times, &mut SeededNoise::new(seed, 0, &device), &mut |t, x| seen.push((t, x.clone())))
    };
    let numbers = |x: Tensor<4>| x.into_data().iter::<f64>().collect::<Vec<_>>();
    let start = numbers(SeededNoise::new(0, 0, &device).start(SHAPE));
    let run = |steps: usize, seed: u64| {
        let times = TimeGrid::new(steps).expect("a number of steps").times();
        let mut seen = vec![];
        let samples = solve(-0.5, &times, seed, &mut seen).unwrap_or_else(|error| panic!("solving: {error}"));
        let visited: Vec<f64> = seen.iter().map(|(t, _)| *t).collect();
        assert!(visited == times, "visits: it was at {visited:?}, expected {times:?}");
        for (t, x) in &seen {
            assert!(x.dims() == SHAPE, "shape: {:?} at t = {t}, expected {SHAPE:?}", x.dims());
            assert!(numbers(x.clone()).iter().all(|value| value.is_finite()), "finiteness: a state at t = {t}");
        }
        let (_, end) = seen.pop().expect("a grid has a last time");
        let samples = numbers(samples);
        assert!(samples == numbers(end), "return: the samples are not the last state that was visited");
        samples
    };
    let [few, many] = [16, 64].map(|steps| run(steps, 1));
    assert!(run(16, 1) == few, "determinism: the same noise gives other samples");
    if run(16, 2) == few {
        let error = |found: &[f64]| {
            let apart = found.iter().zip(&start).map(|(found, start)| (found - start * (-0.5f64).exp()).abs());
            apart.fold(0.0, f64::max)
        };
        let (few, many) = (error(&few), error(&many));
        assert!(many < 0.01 && many <= few + 1e-5, "convergence: off by {few} after 16 steps, by {many} after 64");
    }
    let turning = solve(-0.5, &[0.0, 0.5, 0.25, 1.0], 1, &mut vec![]);
    assert!(matches!(turning, Err(SampleError::Config(_))), "times: those that turn are no error");
    let diverging = solve(f64::INFINITY, &[0.0, 0.5, 1.0], 1, &mut vec![]);
    assert!(diverging.is_err(), "finiteness: a velocity that is infinite is no error");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Channels, Digits, Error, Shapes};
    use crate::sampling::SolverConfig;
    use crate::sampling::solver::NoiseSource;

    #[test]
    fn what_this_crate_has_conforms() {
        check_dataset(&Digits::new(8, Channels::Three).unwrap());
        check_dataset(&Shapes::new(8, 0).unwrap());
        for solver in [
            r#"{"kind":"euler"}"#,
            r#"{"kind":"heun"}"#,
            r#"{"kind":"karras-heun"}"#,
            r#"{"kind":"runge-kutta","method":"three-eighths"}"#,
            r#"{"kind":"adaptive","pair":"dormand-prince-5","atol":1e-6,"rtol":0.001,"max_steps":1000}"#,
            r#"{"kind":"dpmpp-2m","clock":"log-sigma"}"#,
            r#"{"kind":"euler-maruyama","diffusion":{"kind":"sigma","norm":1.0},"last_step":"mean"}"#,
            r#"{"kind":"stochastic-heun","diffusion":{"kind":"linear","norm":0.5},"last_step":"tweedie"}"#,
        ] {
            check_solver(&serde_json::from_str::<SolverConfig>(solver).unwrap());
        }
    }

    fn complaint(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let cause = std::panic::catch_unwind(check).expect_err("the check finds the fault");
        let text = cause.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default()
    }

    #[test]
    fn every_fault_of_a_data_set_is_found() {
        /// Three examples with one thing changed.
        #[derive(Debug)]
        struct Changed(Vec<String>, fn(u64, Example) -> Example);
        impl Dataset for Changed {
            fn len(&self) -> Option<u64> {
                Some(3)
            }
            fn classes(&self) -> &[String] {
                &self.0
            }
            fn shape(&self) -> [usize; 3] {
                [1, 1, 2]
            }
            fn example(&self, index: u64) -> Result<Example, Error> {
                Ok(self.1(index, Example::new(vec![0.5; 2], 0)))
            }
        }
        static READ: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        type Change = fn(u64, Example) -> Example;
        let faults: [(&str, Change); 9] = [
            ("shape", |index, e| Example { pixels: vec![0.0; 2 + index as usize], ..e }),
            ("features", |_, e| Example { features: vec![vec![0.0]], ..e }),
            ("mask", |_, e| Example { mask: Some(vec![1.0]), ..e }),
            ("mask", |_, e| Example { mask: Some(vec![0.0, 1.5]), ..e }),
            ("captions", |_, e| Example { captions: vec![(0, 0.0)], ..e }),
            ("captions", |_, e| Example { captions: vec![(0, 1.0), (1, 1.0)], ..e }),
            ("finiteness", |_, e| Example { pixels: vec![0.0, f32::NAN], ..e }),
            ("label", |index, e| Example { label: index as usize, ..e }),
            ("determinism", |_, e| {
                let read = READ.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Example { pixels: vec![read as f32; 2], ..e }
            }),
        ];
        for (name, change) in faults {
            let data = Changed(vec!["one".into()], change);
            let found = complaint(|| check_dataset(&data));
            assert!(found.starts_with(name), "{name}: {found}");
        }
        check_dataset(&Changed(vec!["one".into()], |_, example| example));
    }

    #[test]
    fn every_fault_of_a_solver_is_found() {
        /// Euler's method with a fault.
        #[derive(Debug)]
        struct Faulty(&'static str);
        impl Solver for Faulty {
            fn solve(
                &self,
                flow: &Flow<'_>,
                mut x: Tensor<4>,
                times: &[f64],
                noise: &mut dyn NoiseSource,
                visit: &mut dyn FnMut(f64, &Tensor<4>),
            ) -> Result<Tensor<4>, SampleError> {
                visit(times[0], &x);
                for pair in times.windows(2) {
                    if pair[1] <= pair[0] && self.0 != "times" {
                        return Err(SampleError::Config("they turn".into()));
                    }
                    let factor = if self.0 == "convergence" { 1.1 } else { 1.0 };
                    x = x.clone() + flow.velocity(x, pair[0]) * flow.elapsed(pair[0], pair[1]) * factor;
                    let _ = &noise;
                    if self.0 != "visits" {
                        visit(pair[1], &x);
                    }
                }
                Ok(if self.0 == "return" { x * 2.0 } else { x })
            }
        }
        for name in ["visits", "return", "convergence", "times", "finiteness"] {
            let found = complaint(|| check_solver(&Faulty(name)));
            assert!(found.starts_with(name), "{name}: {found}");
        }
    }
}
