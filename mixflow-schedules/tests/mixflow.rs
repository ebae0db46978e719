//! Times, slowed inputs and both targets of MixFlow Training, in both directions of time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixtures;

use fixtures::{Fixture, RaeVp, mix};
use mixflow_schedules::{
    Cosine, Linear, Prediction, Reversed, Schedule, Timestep, TimestepConfig, TimestepSampler, VariancePreserving,
};
use serde_json::json;

const CASES: [(&str, &dyn Schedule); 9] = [
    ("sit_linear", &Linear),
    ("sit_gvp", &Cosine),
    ("repa_linear", &Reversed(Linear)),
    ("repa_cosine", &Reversed(Cosine)),
    ("rae_linear", &Reversed(Linear)),
    ("rae_linear_shift", &Reversed(Linear)),
    ("rae_gvp", &Reversed(Cosine)),
    ("rae_gvp_shift", &Reversed(Cosine)),
    ("rae_vp", &RaeVp),
];

#[test]
fn times_inputs_and_targets_match() {
    for (name, schedule) in CASES {
        check(name, schedule);
    }
    check("sit_vp", &VariancePreserving::default());
}

fn check(name: &str, schedule: &dyn Schedule) {
    let fixture = Fixture::load(&format!("mixflow/mixflow_{name}"));
    let config = &fixture.manifest["config"];
    // The code bounds the uniform number behind Beta(2, 1), so that the time is bounded by the root.
    let end = config["t_interval"][1].as_f64().unwrap().sqrt();
    let beta = json!({"kind": "beta", "alpha": 2, "beta": 1});
    let truncated = json!({"kind": "truncated", "end": end, "base": beta});
    let shifted = json!({"kind": "shifted", "shift": config["time_dist_shift"], "base": truncated});
    let recipe = json!({"kind": "mixflow", "gamma": config["gamma"], "base": shifted});
    let times: TimestepConfig = serde_json::from_value(recipe).unwrap();

    let n = fixture.get("in.u1").len();
    for i in 0..n {
        let [u1, u2, x0, x1] = ["in.u1", "in.u2", "in.x0", "in.x1"].map(|name| fixture.example(name, i, n));
        let compare = |name: &str, found: &[f64]| fixture.check(name, None, i, n, found);
        let Timestep { t, m } = times.timestep([u1[0], u2[0]]);
        for (label, at) in [("t", schedule.at(t)), ("m", schedule.at(m))] {
            compare(&format!("out.{label}"), &[at.time]);
            compare(&format!("out.x_{label}"), &mix(at.alpha, x1, at.sigma, x0));
            let [data, noise] = Prediction::Velocity.coordinates(&at);
            compare(&format!("out.target_{label}"), &mix(data, x1, noise, x0));
        }
    }
}
