use burn::prelude::*;
use mixflow_schedules::{Cosine, Linear, Prediction, Schedule, ScheduleConfig, TimeGrid};
use serde_json::json;

use super::*;
use crate::recipe::Recipe;
use crate::sampling::solver::testing::{Fixture, Gaussian, numbers, point, schedules, silent};
use crate::sampling::solver::{Adaptive, Ddim, DpmPlusPlus2M, Euler, Heun, Pair, Solver};
use crate::sampling::{Guidance, Sampler, Times};

/// The analytic network of the recorded runs, which knows a time for each row.
fn recorded(fixture: &Fixture) -> Flow<'static> {
    let weights = ["a", "b", "c", "d", "e", "f", "h"]
        .map(|name| fixture.tensor::<1>(&format!("weights.{name}")).reshape([1, -1, 1, 1]));
    let [a, b, c, d, e, f, h] = weights;
    Flow::with_variance(&Linear, Prediction::Velocity, move |x: Tensor<4>, times: Times| {
        let t = times.column(&x);
        let bent = (b.clone() * x.clone() + c.clone() + d.clone() * t.clone()).tanh() * a.clone();
        (bent + (e.clone() + h.clone() * (t * 2.0 - 1.0)) * x + f.clone(), None)
    })
}

fn config(json: serde_json::Value) -> CorrectionConfig {
    serde_json::from_value(json).unwrap()
}

/// Eight steps of Euler, from the time that the record begins at.
#[test]
fn recorded_runs_are_matched() {
    let fixture = Fixture::read("../rivals/samplers");
    let shift = |of: &str, reach: f64, until: f64| {
        config(json!({"kind": "time-shift", "of": of, "reach": reach, "until": until, "data_variance": 0.85}))
    };
    for (name, start, correction) in [
        ("euler", 0.0, config(json!({"kind": "schedule-corrector", "a": 0, "b": 0}))),
        ("ssc", 0.0, config(json!({"kind": "schedule-corrector", "a": 0.2, "b": 2}))),
        ("epsilon_scaling_1.017", 0.0, config(json!({"kind": "epsilon-scaling", "scale": 1.017}))),
        ("epsilon_scaling_1.005", 0.0, config(json!({"kind": "epsilon-scaling", "scale": 1.005}))),
        ("timeshift_pnm", 0.001, shift("target", 0.1, 0.7)),
        ("timeshift_label", 0.001, shift("label", 0.11, 0.8)),
        ("dcw_pix", 0.0, config(json!({"kind": "dcw", "low": 0.02, "high": 0.02, "weights": "constant"}))),
        ("dcw_low", 0.0, config(json!({"kind": "dcw", "low": 0.05}))),
        ("dcw_low_constant", 0.0, config(json!({"kind": "dcw", "low": 0.05, "weights": "constant"}))),
        ("dcw_high", 0.0, config(json!({"kind": "dcw", "high": 0.03}))),
        ("dcw_double", 0.0, config(json!({"kind": "dcw", "low": 0.05, "high": 0.03}))),
    ] {
        let flow = correction.correct(recorded(&fixture));
        let mut times: Vec<f64> = (0..=8).map(|step| f64::from(step) / 8.0).collect();
        times[0] = start;
        let mut states = vec![];
        let visit = &mut |_, x: &Tensor<4>| states.push(x.clone());
        Euler.solve(&flow, fixture.tensor("in.noise"), &times, &mut silent, visit).unwrap();
        for (found, recorded) in states.iter().zip(fixture.rows(&format!("out.{name}.x"))) {
            fixture.assert_close(name, found, &recorded, "/tolerance");
        }
        assert_eq!((states.len(), flow.evaluations()), (9, 8), "{name}");
    }
}

/// A network that says 2 of data whatever it sees: with clipped denominators as without, a last step goes to the data that the
/// velocity was read from, `x + 1.001 (2 − x)`.
#[test]
fn a_factor_of_nearly_one_hardly_changes_steps_to_clipped_data() {
    let last = |factor: f64| {
        let flow = Flow::new(&Linear, Prediction::Data, |x, _| x.zeros_like() + 2.0).floored(0.05).scaled(factor);
        numbers(&Ddim.solve(&flow, point(0.5), &[0.98, 1.0], &mut silent, &mut |_, _| {}).unwrap())[0]
    };
    assert!((last(1.0) - 2.0).abs() < 1e-6, "{}", last(1.0));
    // The noise, too, is that which is read of the data itself, (x − t D) / 0.05.
    let flow = Flow::new(&Linear, Prediction::Data, |x, _| x.zeros_like() + 2.0).floored(0.05).scaled(1.0 + 1e-9);
    let noise = numbers(&flow.predict(point(0.5), 0.98, Prediction::Noise))[0];
    assert!((noise - (0.5 - 0.98 * 2.0) / 0.05).abs() < 1e-4, "{noise}");
    assert!((last(1.001) - (0.5 + 1.001 * 1.5)).abs() < 1e-5, "{}", last(1.001));
}

/// Adaptive solvers look a little beyond data.
#[test]
fn noise_is_scaled_beyond_data_as_at_data() {
    let flow = || Flow::new(&Linear, Prediction::Velocity, |x, _| x);
    let at = |t| numbers(&EpsilonScaling::new(1.1).correct(flow()).velocity(point(0.8), t))[0];
    assert!((at(1.0 + 1e-9) - at(1.0)).abs() < 1e-6);
}

/// On every path `v' = α' x' + σ' ε'` and `x_t = α x' + σ ε'` with the noise divided, and nothing at noise.
#[test]
fn scaled_noise_and_its_data_make_the_state_on_every_path() {
    for schedule in schedules() {
        let gaussian = Gaussian(&schedule);
        let (plain, scaled) = (gaussian.flow(), EpsilonScaling::new(1.1).correct(gaussian.flow()));
        for t in [0.2, 0.6, 0.9] {
            let at = schedule.at(t);
            let read = |flow: &Flow<'_>, prediction| numbers(&flow.predict(point(0.8), t, prediction))[0];
            let noise = read(&plain, Prediction::Noise) / 1.1;
            let data = (0.8 - at.sigma * noise) / at.alpha;
            for (prediction, expected) in [
                (Prediction::Noise, noise),
                (Prediction::Data, data),
                (Prediction::Velocity, at.d_alpha * data + at.d_sigma * noise),
                (Prediction::Score, -noise / at.sigma),
            ] {
                let found = read(&scaled, prediction);
                assert!(
                    (found - expected).abs() < 1e-9 * expected.abs().max(1.0),
                    "{schedule:?} {prediction:?} {found}"
                );
            }
        }
        let [at_noise, plain] = [&scaled, &plain].map(|flow| numbers(&flow.velocity(point(0.8), 0.0)));
        assert!(schedule.at(0.0).alpha > 0.0 || at_noise == plain, "{schedule:?}");
    }
}

/// Moving the end of a step takes the data and the noise of the step elsewhere: exact for DDIM, on every path.
#[test]
fn a_shifted_step_is_a_step_to_the_shifted_time() {
    for schedule in [&Linear as &dyn Schedule, &Cosine] {
        let shift = TimeShift { of: Shifted::Target, reach: 0.05, until: 0.5, data_variance: 0.5 };
        // A state of far less variance than any time has is taken for the last one within reach.
        let x = || Tensor::<4>::from_data([[[[0.1, 0.11]]]], (&Device::flex(), burn::tensor::DType::F64));
        let flow = || Flow::with_variance(schedule, Prediction::Data, |x: Tensor<4>, _: Times| (x * 0.3, None));
        let run = |flow: &Flow<'_>, times: &[f64]| Ddim.solve(flow, x(), times, &mut silent, &mut |_, _| {}).unwrap();
        let shifted = run(&shift.correct(flow()), &[0.1, 0.2, 0.3]);
        let first = run(&flow(), &[0.1, 0.2]);
        let expected = Ddim.solve(&flow(), first, &[0.2, 0.35], &mut silent, &mut |_, _| {}).unwrap();
        for (found, expected) in numbers(&shifted).into_iter().zip(numbers(&expected)) {
            assert!((found - expected).abs() < 1e-12, "{schedule:?}: {found} is not {expected}");
        }
    }
}

/// Few steps of Euler contract a Gaussian. Moving away from the predicted data undoes some of that, moving towards it adds.
#[test]
fn the_sign_of_dcw_is_that_of_a_known_error() {
    let gaussian = Gaussian(&Linear);
    let deviation = |low: f64| {
        let flow = Dcw { low, high: 0.0, weights: Weights::Noise }.correct(gaussian.flow());
        let end = |x: f64| {
            let x = point(x).repeat_dim(2, 2).repeat_dim(3, 2);
            let times = TimeGrid::new(8).unwrap().times();
            numbers(&Euler.solve(&flow, x, &times, &mut silent, &mut |_, _| {}).unwrap())[0]
        };
        end(1.0) - end(0.0)
    };
    let [towards, none, away] = [-0.01, 0.0, 0.01].map(deviation);
    assert!(none < Gaussian::DEVIATION && towards < none && none < away, "{towards} {none} {away}");
    assert!((away - Gaussian::DEVIATION).abs() < (none - Gaussian::DEVIATION).abs());
}

/// With guidance, every solver and numbers that change nothing, images are what they are without, at as many evaluations.
#[test]
fn nothing_is_changed_by_nothing_and_nothing_costs_more() {
    let neutral = [
        json!({"kind": "schedule-corrector", "a": 0.0, "b": 2}),
        json!({"kind": "epsilon-scaling", "scale": 1}),
        json!({"kind": "time-shift", "of": "target", "reach": 0.0001, "until": 0.5, "data_variance": 0.25}),
        json!({"kind": "dcw"}),
    ];
    let guidance = Guidance::new(1.5).unwrap().within(0.3, 0.7).unwrap();
    let times: Vec<f64> = (0..=8).map(|step| f64::from(step) / 8.0).collect();
    for schedule in schedules() {
        let flow = || Gaussian(&schedule).flow().guided(Gaussian(&schedule).flow(), guidance);
        for solver in [&Euler as &dyn Solver, &Heun, &Ddim, &DpmPlusPlus2M::default()] {
            let run = |flow: &Flow<'_>| {
                let x =
                    Tensor::<4>::from_data([[[[0.3, 0.5], [-1.0, 0.2]]]], (&Device::flex(), burn::tensor::DType::F64));
                let end = solver.solve(flow, x, &times[1..8], &mut silent, &mut |_, _| {}).unwrap();
                (numbers(&end), flow.evaluations())
            };
            let (expected, evaluations) = run(&flow());
            for correction in &neutral {
                let (found, counted) = run(&config(correction.clone()).correct(flow()));
                assert_eq!(counted, evaluations, "{solver:?} {correction}");
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (found - expected).abs() < 1e-9,
                        "{schedule:?} {solver:?} {correction}: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn solvers_that_take_no_steps_of_the_grid_are_refused() {
    let adaptive = Adaptive::new(Pair::DormandPrince5, 1e-3, 1e-3).unwrap();
    let sampler = Sampler { solver: adaptive, grid: TimeGrid::new(4).unwrap() };
    let flow = Dcw { low: 0.01, high: 0.01, weights: Weights::Noise }.correct(Gaussian(&Linear).flow());
    let error = sampler.sample(&flow, point(0.1), &mut silent).unwrap_err().to_string();
    assert!(error.contains("after each step of the grid"), "{error}");
}

#[test]
fn recipes_name_them_and_what_makes_no_sense_is_refused() {
    let read = |correction: &str, more: &[&str]| {
        let set = std::iter::once(format!("sampling.correction={correction}"));
        let alone = std::iter::once("post_training=null".into());
        let set: Vec<String> = set.chain(alone).chain(more.iter().map(ToString::to_string)).collect();
        Recipe::read("digits", &set).map_err(|error| error.to_string())
    };
    let shift = |of: &str, more: &str| {
        format!(r#"{{"kind":"time-shift","of":"{of}","reach":0.03,"until":0.4,"data_variance":0.2{more}}}"#)
    };
    let recipe = read(&shift("label", ""), &[]).unwrap();
    assert_eq!(Recipe::from_value(recipe.to_value()).unwrap(), recipe);
    assert_eq!(recipe.sampling.describe(), "Heun, Time-Shift of labels (0.03 until t = 0.4, data variance 0.2)");
    let adaptive = [r#"sampling.solver={"kind":"adaptive","pair":"heun-euler","atol":1e-3,"rtol":1e-3}"#];
    let stochastic = r#"sampling.solver={"kind":"euler-maruyama","diffusion":{"kind":"sigma"}}"#;
    assert!(read(&shift("label", ""), &adaptive).is_ok() && read(r#"{"kind":"dcw"}"#, &[stochastic]).is_ok());
    for (correction, more, words) in [
        (r#"{"kind":"ssc"}"#.into(), &[][..], "unknown value `ssc`"),
        (r#"{"kind":"epsilon-scaling","scale":1.01,"until":1}"#.into(), &[], "unknown key `until`"),
        (r#"{"kind":"epsilon-scaling","scale":0}"#.into(), &[], "sampling.correction.scale must be a number above 0"),
        (r#"{"kind":"epsilon-scaling","scale":1,"interval":[0.5,0.2]}"#.into(), &[], "sampling.correction.interval"),
        (
            r#"{"kind":"schedule-corrector","a":-1,"b":0}"#.into(),
            &[],
            "sampling.correction.a must be a number above -1",
        ),
        (r#"{"kind":"schedule-corrector","a":0.1,"b":-1}"#.into(), &[], "sampling.correction.b"),
        (shift("target", ",\"low\":1"), &[], "unknown key `low`"),
        (shift("target", ""), &adaptive, "an adaptive solver does not take"),
        (shift("target", ""), &[stochastic], "the noise of a stochastic step"),
        (r#"{"kind":"dcw","low":0.01}"#.into(), &adaptive, "an adaptive solver does not take"),
        // The variance of the linear path is least at 1 / 1.5.
        (
            r#"{"kind":"time-shift","of":"label","reach":0.1,"until":0.6,"data_variance":0.5}"#.into(),
            &[],
            "and reach must come to 0.667 at most",
        ),
    ] {
        let error = read(&correction, more).unwrap_err();
        assert!(error.contains(words), "{correction}: {error}");
    }
    // Noise and score networks begin just above noise, where a fiftieth of the path is twenty times the time.
    let near = ["sampling.grid.steps=50", "sampling.grid.start=0.001", "objective.prediction=noise"];
    let scaled = |more: &str| format!(r#"{{"kind":"epsilon-scaling","scale":1.005{more}}}"#);
    let error = read(&scaled(""), &near).unwrap_err();
    assert!(error.contains("sampling.correction.interval must leave out the step from 0.001 to 0.021"), "{error}");
    let later = read(&scaled(r#","interval":[0.02,1]"#), &near).unwrap();
    assert_eq!(later.sampling.correction.unwrap().to_string(), "Epsilon Scaling (1.005 from t = 0.02 to 1)");
    assert!(read(&scaled(""), &["sampling.grid.steps=50"]).is_ok());
    // A path that preserves the variance of data of variance 1.
    let flat = |variance: f64| {
        let shift =
            format!(r#"{{"kind":"time-shift","of":"label","reach":0.03,"until":0.75,"data_variance":{variance}}}"#);
        read(&shift, &[r#"objective.schedule={"kind":"cosine"}"#])
    };
    for variance in [1.0, 0.99] {
        let error = flat(variance).unwrap_err();
        assert!(
            error.contains("sampling.correction.data_variance leaves the variance of this path between"),
            "{error}"
        );
    }
    assert!(flat(0.2).is_ok());
    // The control has its factor in the place of the correction that all other arms have.
    let compared = r#"post_training={"steps":1,"gamma":0.8,"seeds":1,"images":9,"solver_steps":[]}"#;
    let error = read(r#"{"kind":"dcw"}"#, &[compared]).unwrap_err();
    assert!(error.contains("post_training.arms have `control`: it is the standard arm"), "{error}");
    let without = compared.replace("\"seeds\":1", r#""seeds":1,"arms":["standard","mixflow"]"#);
    assert!(read(r#"{"kind":"dcw"}"#, &[&without]).is_ok());
    let odd = Dcw { low: 0.1, high: 0.1, weights: Weights::Noise }.check([1, 8, 7]).unwrap_err().to_string();
    assert!(odd.contains("must be even, found 8 and 7"), "{odd}");
    assert!(matches!(recipe.objective.schedule, ScheduleConfig::Linear { .. }));
}
