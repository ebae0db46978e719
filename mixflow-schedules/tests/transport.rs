//! Paths, conversions, drifts, diffusions, losses and intervals of the SiT, RAE and REPA code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixtures;

use std::f64::consts::TAU;

use fixtures::{Fixture, RaeVp, mix};
use mixflow_schedules::{
    Cosine, Diffusion, Interval, Linear, LogitNormal, Prediction, PublishedCode, Reversed, Schedule, Shifted, TimeGrid,
    TimeLaw, Truncated, Uniform, Use, VariancePreserving, Weighting, interval,
};

/// The recorded network of the fixtures, `conventions.tiny_net`.
fn tiny_net(fixture: &Fixture, x: &[f64], t: f64) -> Vec<f64> {
    let features = [x, &[t, (TAU * t).cos(), (TAU * t).sin()]].concat();
    let layer = |weight: &str, bias: &str, input: &[f64]| -> Vec<f64> {
        let rows = fixture.get(weight).chunks(input.len());
        let dot = |row: &[f64]| row.iter().zip(input).map(|(w, x)| w * x).sum::<f64>();
        rows.zip(fixture.get(bias)).map(|(row, bias)| dot(row) + bias).collect()
    };
    let hidden = layer("weights.w1", "weights.b1", &features);
    let hidden: Vec<f64> = hidden.iter().map(|a| a / (1.0 + (-a).exp())).collect();
    layer("weights.w2", "weights.b2", &hidden)
}

struct Case {
    fixture: Fixture,
    reference: PublishedCode,
    paths: [(&'static str, Box<dyn Schedule>); 3],
}

fn cases() -> [Case; 2] {
    [
        Case {
            fixture: Fixture::load("transport/paths_sit"),
            reference: PublishedCode::Sit,
            paths: [
                ("Linear", Box::new(Linear)),
                ("GVP", Box::new(Cosine)),
                ("VP", Box::new(VariancePreserving::default())),
            ],
        },
        Case {
            fixture: Fixture::load("transport/paths_rae"),
            reference: PublishedCode::Rae,
            paths: [
                ("Linear", Box::new(Reversed(Linear))),
                ("GVP", Box::new(Reversed(Cosine))),
                ("VP", Box::new(RaeVp)),
            ],
        },
    ]
}

impl Case {
    /// RAE kept SiT's closed-form VP drift although it exchanged the path's coefficients, so that drift, and what
    /// follows from it, belongs to no path.
    fn drift_is_inconsistent(&self, path: &str) -> bool {
        self.reference == PublishedCode::Rae && path == "VP"
    }

    /// Paper time from the time of the code, or back.
    fn flip(&self, t: f64) -> f64 {
        if self.reference == PublishedCode::Rae { 1.0 - t } else { t }
    }

    /// Calls `check` for every path and recorded time, with a function that compares a tensor `out.<path>.<name>`.
    fn each(&self, check: impl Fn(&str, &dyn Schedule, usize, f64, &dyn Fn(&str, &[f64]))) {
        let times = self.fixture.get("in.t");
        for (path, schedule) in &self.paths {
            for (i, t) in times.iter().enumerate() {
                let compare = |name: &str, found: &[f64]| {
                    self.fixture.check(&format!("out.{path}.{name}"), Some(path), i, times.len(), found);
                };
                check(path, schedule, i, self.flip(*t), &compare);
            }
        }
    }

    fn input(&self, name: &str, i: usize) -> &[f64] {
        self.fixture.example(name, i, self.fixture.get("in.t").len())
    }
}

#[test]
fn coefficients_inputs_and_targets_match() {
    for case in cases() {
        case.each(|_, schedule, i, t, compare| {
            let at = schedule.at(t);
            compare("alpha", &[at.alpha]);
            compare("sigma", &[at.sigma]);
            compare("d_alpha", &[at.d_alpha]);
            compare("d_sigma", &[at.d_sigma]);
            let (x0, x1) = (case.input("in.x0", i), case.input("in.x1", i));
            compare("xt", &mix(at.alpha, x1, at.sigma, x0));
            let [data, noise] = Prediction::Velocity.coordinates(&at);
            compare("ut", &mix(data, x1, noise, x0));
        });
    }
}

#[test]
fn drifts_and_conversions_match() {
    for case in cases() {
        case.each(|path, schedule, i, t, compare| {
            let at = schedule.at(t);
            let x_t = mix(at.alpha, case.input("in.x1", i), at.sigma, case.input("in.x0", i));
            let convert = |from: Prediction, to: Prediction, value: &[f64]| {
                let map = from.convert(to, &at);
                mix(map.x, &x_t, map.y, value)
            };
            let (velocity, score) = (case.input("in.v", i), case.input("in.score", i));
            compare("score_from_velocity", &convert(Prediction::Velocity, Prediction::Score, velocity));
            compare("noise_from_velocity", &convert(Prediction::Velocity, Prediction::Noise, velocity));
            let net = tiny_net(&case.fixture, &x_t, at.time);
            compare("pf_drift.velocity", &net);
            compare("score.velocity", &convert(Prediction::Velocity, Prediction::Score, &net));
            compare("score.noise", &convert(Prediction::Noise, Prediction::Score, &net));
            compare("score.score", &net);
            if case.drift_is_inconsistent(path) {
                return;
            }
            let sde = at.sde();
            compare("d_alpha_alpha_ratio", &[-sde.drift]);
            compare("drift0", &mix(sde.drift, &x_t, 0.0, &x_t));
            compare("drift1", &[sde.diffusion]);
            compare("velocity_from_score", &convert(Prediction::Score, Prediction::Velocity, score));
            compare("pf_drift.noise", &convert(Prediction::Noise, Prediction::Velocity, &net));
            compare("pf_drift.score", &convert(Prediction::Score, Prediction::Velocity, &net));
        });
    }
}

#[test]
fn diffusions_match() {
    for case in cases() {
        case.each(|path, schedule, i, t, compare| {
            for norm in [1.0, 0.5] {
                let forms = [
                    ("sigma", Diffusion::Sigma { norm }),
                    ("linear", Diffusion::Linear { norm }),
                    ("decreasing", Diffusion::Decreasing { norm }),
                    ("increasing-decreasing", Diffusion::IncreasingDecreasing { norm }),
                ];
                let at = schedule.at(t);
                for (name, diffusion) in forms {
                    compare(&format!("diffusion.{name}.norm{norm:.1}"), &[diffusion.at(t, &at)]);
                }
                // RAE's is negative and its square root NaN: the magnitude is compared.
                if !case.drift_is_inconsistent(path) {
                    let name = format!("out.{path}.diffusion.SBDM.norm{norm:.1}");
                    let found = Diffusion::Sbdm { norm }.at(t, &at);
                    case.fixture.check_against(&name, Some(path), &[found], &[case.input(&name, i)[0].abs()]);
                }
            }
            assert_eq!(Diffusion::Constant { norm: 0.3 }.at(t, &schedule.at(t)), 0.3);
        });
    }
}

#[test]
fn training_times_and_weighted_losses_match() {
    for case in cases() {
        case.each(|path, schedule, i, _, compare| {
            let u = case.input("in.u", i)[0];
            for (name, prediction) in
                [("velocity", Prediction::Velocity), ("noise", Prediction::Noise), ("score", Prediction::Score)]
            {
                // RAE's VP is singular at the other end: its interval is SiT's in the time of the code.
                let exchanged = case.drift_is_inconsistent(path);
                let vp = VariancePreserving::default();
                let keeper: &dyn Schedule = if exchanged { &vp } else { schedule };
                let Interval { start, end } = interval(keeper, prediction, Use::Train, case.reference);
                let law = Truncated::new(start, end, Uniform).unwrap();
                let t = if exchanged { 1.0 - law.quantile(u) } else { law.quantile(case.flip(u)) };
                let at = schedule.at(t);
                compare(&format!("train_t.{name}"), &[at.time]);

                let (x0, x1) = (case.input("in.x0", i), case.input("in.x1", i));
                let x_t = mix(at.alpha, x1, at.sigma, x0);
                compare(&format!("train_xt.{name}"), &x_t);
                let net = tiny_net(&case.fixture, &x_t, at.time);
                let [data, noise] = prediction.coordinates(&at);
                // A score network is compared after multiplication by σ: σ · score = −ε.
                let scale = if prediction == Prediction::Score { at.sigma } else { 1.0 };
                let error = mix(scale, &net, -scale, &mix(data, x1, noise, x0));
                let loss = error.iter().map(|e| e * e).sum::<f64>() / error.len() as f64;
                compare(&format!("train_loss.{name}.none"), &[loss]);
                if prediction == Prediction::Velocity || exchanged {
                    continue;
                }
                let weighted = |weighting: Weighting| weighting.at(prediction, &at, 0.0) * loss;
                compare(&format!("train_loss.{name}.velocity"), &[weighted(Weighting::Velocity)]);
                // RAE's likelihood weight is negative, which would maximise the error: the magnitude is compared.
                let likelihood = format!("out.{path}.train_loss.{name}.likelihood");
                let recorded = case.input(&likelihood, i)[0].abs();
                case.fixture.check_against(&likelihood, Some(path), &[weighted(Weighting::Likelihood)], &[recorded]);
            }
        });
    }
}

/// Every row, but those that no code path asks for: RAE's that end in a `TypeError`, and the training interval of an SDE
/// without a last step on VP, since training never is an SDE.
#[test]
fn intervals_match() {
    for case in cases() {
        let mut compared = 0;
        for row in case.fixture.manifest["check_interval"]["rows"].as_array().unwrap() {
            let [path, network, kind, mode] = [0, 1, 2, 3].map(|column| row[column].as_str().unwrap());
            let (last_step, reverse) = (row[5].as_f64().unwrap(), row[6].as_bool().unwrap());
            let never_asked = [path, kind, mode] == ["VP", "sde", "train"] && last_step == 0.0;
            let (Some(t0), Some(t1)) = (row[7].as_f64(), row[8].as_f64()) else { continue };
            if never_asked {
                continue;
            }
            let schedule: &dyn Schedule = match path {
                "Linear" => &Linear,
                "GVP" => &Cosine,
                _ => &VariancePreserving::default(),
            };
            let prediction = serde_json::from_value(network.into()).unwrap();
            let purpose = match (kind, mode) {
                ("sde", _) => Use::Sde { last_step },
                (_, "train") => Use::Train,
                _ => Use::Ode,
            };
            let Interval { start, end } = interval(schedule, prediction, purpose, case.reference);
            let mirrored = case.reference == PublishedCode::Rae && purpose == Use::Train && path != "VP";
            let [start, end] = if mirrored { [1.0 - end, 1.0 - start] } else { [start, end] };
            let [start, end] = if reverse { [1.0 - start, 1.0 - end] } else { [start, end] };
            assert!((start - t0).abs() < 1e-12 && (end - t1).abs() < 1e-12, "{row}: found {start} {end}");
            compared += 1;
        }
        // Of 216 rows 12 are never asked for; 72 of RAE's raise.
        assert_eq!(compared, if case.reference == PublishedCode::Sit { 204 } else { 132 });
    }
}

#[test]
fn repa_paths_match() {
    let fixture = Fixture::load("transport/paths_repa");
    let times = fixture.get("in.t");
    for (path, schedule) in [("linear", &Reversed(Linear) as &dyn Schedule), ("cosine", &Reversed(Cosine))] {
        for (i, time) in times.iter().enumerate() {
            let compare = |name: &str, found: &[f64]| {
                fixture.check(&format!("out.{path}.{name}"), None, i, times.len(), found);
            };
            let at = schedule.at(1.0 - time);
            compare("alpha", &[at.alpha]);
            compare("sigma", &[at.sigma]);
            compare("d_alpha", &[at.d_alpha]);
            compare("d_sigma", &[at.d_sigma]);
            let [x0, x1, v] = ["in.noise", "in.images", "in.v"].map(|name| fixture.example(name, i, times.len()));
            let x_t = mix(at.alpha, x1, at.sigma, x0);
            compare("xt", &x_t);
            let [data, noise] = Prediction::Velocity.coordinates(&at);
            compare("target", &mix(data, x1, noise, x0));
            let score = Prediction::Velocity.convert(Prediction::Score, &at);
            compare("score_from_velocity", &mix(score.x, &x_t, score.y, v));
            // REPA writes `√w dW` for our `√(2w) dW`.
            let diffusion = 2.0 * Diffusion::Linear { norm: 1.0 }.at(1.0 - time, &at);
            fixture.check("out.diffusion", None, i, times.len(), &[diffusion]);
        }
    }
}

#[test]
fn rae_times_and_grids_match() {
    let fixture = Fixture::load("transport/time_sampling_rae");
    let Interval { start, end } = interval(&Linear, Prediction::Velocity, Use::Train, PublishedCode::Rae);
    let noiseward =
        |law: &dyn TimeLaw, u: &[f64]| -> Vec<f64> { u.iter().map(|u| 1.0 - law.quantile(1.0 - u)).collect() };
    for (label, shift) in fixture.manifest["shift_values"].as_object().unwrap() {
        let shift = shift.as_f64().unwrap();
        let compare = |name: &str, found: &[f64]| fixture.check(name, None, 0, 1, found);

        // The code's time runs towards noise, so that its mean of the logit is minus ours.
        let laws: [(&str, Box<dyn TimeLaw>); 3] = [
            ("uniform", Box::new(Uniform)),
            ("logit-normal_0_1", Box::new(LogitNormal::new(0.0, 1.0).unwrap())),
            ("logit-normal_0.5_0.8", Box::new(LogitNormal::new(-0.5, 0.8).unwrap())),
        ];
        for (name, law) in laws {
            let law = Shifted::new(shift, Truncated::new(start, end, law).unwrap()).unwrap();
            compare(&format!("out.t.{name}.shift{label}"), &noiseward(&law, fixture.get("in.u")));
        }

        let tenths: Vec<f64> = (0..=10).map(|i| f64::from(i) / 10.0).collect();
        let law = Shifted::new(shift, Uniform).unwrap();
        compare(&format!("out.shift_fn.{label}"), &noiseward(&law, &tenths));
        let paper: Vec<f64> = tenths.iter().map(|t| law.quantile(*t)).collect();
        compare(&format!("out.shift_fn_sit_direction.{label}"), &paper);

        let ode = interval(&Linear, Prediction::Velocity, Use::Ode, PublishedCode::Rae);
        for points in [5, 50] {
            let grid = TimeGrid::new(points - 1).unwrap().interval(ode).unwrap().shift(shift).unwrap();
            let times: Vec<f64> = grid.times().iter().map(|t| 1.0 - t).collect();
            compare(&format!("out.ode_grid.n{points}.shift{label}"), &times);
        }
    }
}
