//! REPA's samplers against the official code: every state of every recorded run.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor};
use mixflow::sampling::solver::{Euler, EulerMaruyama, KarrasHeun, LastStep, Solver};
use mixflow::sampling::{Flow, Guidance};
use mixflow_backbones::{ClassLabels, Condition};
use mixflow_schedules::{Cosine, Diffusion, Linear, Prediction, Reversed, Schedule, TimeGrid};
use mixflow_tests::{Fixture, LabelledTinyNet};

/// Both for `num_steps` 5. The stochastic steps end at 0.04 of REPA's time, from where one step goes to data.
const ODE_GRID: &str = r#"{ "steps": 5 }"#;
const SDE_GRID: &str = r#"{ "steps": 4, "end": 0.96, "last": 1.0 }"#;

/// What a recipe would say: path, solver, grid.
fn run<'a>(name: &str) -> (&'a dyn Schedule, &'a dyn Solver, TimeGrid) {
    let schedule: &dyn Schedule = if name.contains("cosine") { &Reversed(Cosine) } else { &Reversed(Linear) };
    let solver: &dyn Solver = match name.split('.').collect::<Vec<_>>()[..] {
        ["ode", _, "euler", ..] => &Euler,
        ["ode", _, "heun", ..] => &KarrasHeun,
        ["sde", _, "euler", ..] => {
            &EulerMaruyama { diffusion: Diffusion::Linear { norm: 1.0 }, last_step: LastStep::Mean }
        }
        _ => panic!("no run is called {name}"),
    };
    let grid = if name.starts_with("sde") { SDE_GRID } else { ODE_GRID };
    (schedule, solver, serde_json::from_str(grid).expect("the grid is valid"))
}

#[test]
fn every_recorded_state_is_the_official_one() {
    let fixture = Fixture::read("samplers/repa");
    let device = Device::default();
    let network = LabelledTinyNet::of(&fixture, &device);
    // The samplers take 1000 for the null label, whatever the number of classes.
    let labels = ClassLabels { labels: fixture.integers("in.y", &device), null: 1000 };
    let number = |key: &str| fixture.manifest["config"][key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    // REPA's time runs to noise.
    let [start, end] = [1.0 - number("guidance_high"), 1.0 - number("guidance_low")];
    let noise = fixture.tensor::<5>("in.w", &device);

    let names = fixture.names("out.");
    let runs: BTreeSet<&str> = names.iter().filter_map(|name| name.strip_suffix(".final")).collect();
    assert_eq!((runs.len(), names.len()), (7, 7 * 4));
    for name in runs {
        let (schedule, solver, grid) = run(name);
        let flow = |labels| Flow::of(schedule, Prediction::Velocity, &network, labels);
        let scale = if name.ends_with("cfg1.8") { number("cfg_scale") } else { 1.0 };
        let guidance = Guidance::new(scale).and_then(|guidance| guidance.within(start, end)).expect("it is valid");
        let flow = flow(labels.clone()).guided(flow(labels.clone().null()), guidance);

        let (mut times, mut states, mut guided) = (vec![], vec![], vec![]);
        let mut draw = |step: usize, shape: [usize; 4]| noise.clone().narrow(0, step, 1).reshape(shape);
        let mut visit = |t: f64, x: &Tensor<4>| {
            times.push(schedule.at(t).time as f32);
            guided.push(i64::from(guidance.is_active(t)));
            states.push(x.clone());
        };
        let last = solver
            .solve(&flow, fixture.tensor("in.z", &device), &grid.times(), &mut draw, &mut visit)
            .unwrap_or_else(|error| panic!("{name}: {error}"));

        // The record has the states that steps start from, and the last one apart.
        let steps = grid.steps();
        let compare =
            |part: &str, found| fixture.assert_close(&format!("out.{name}.{part}"), found, fixture.tolerance(None));
        compare("states", Tensor::stack::<5>(states[..steps].to_vec(), 0).into_data());
        compare("times", Tensor::<1>::from_data(&times[..steps], &device).into_data());
        compare("final", last.into_data());
        let recorded: Vec<i64> = fixture.data(&format!("out.{name}.guided")).iter().collect();
        assert_eq!(guided[..steps], recorded, "{name}");

        let heun = name.contains("heun");
        let evaluations: i64 = recorded
            .iter()
            .enumerate()
            .map(|(step, guided)| (1 + guided) * if heun && step + 1 < steps { 2 } else { 1 })
            .sum();
        assert_eq!(flow.evaluations() as i64, evaluations, "{name}");
    }
}
