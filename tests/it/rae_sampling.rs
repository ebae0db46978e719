//! RAE's samplers against the official code, which runs from time 1, noise, to 0, data.

use burn::tensor::{Device, Tensor};
use mixflow::data::Classes;
use mixflow::evaluation::Generator;
use mixflow::recipe::Recipe;
use mixflow::sampling::solver::{Adaptive, Euler, EulerMaruyama, Heun, LastStep, Pair, Solver, StochasticHeun};
use mixflow::sampling::{Flow, Guidance};
use mixflow_backbones::{Backbone, ClassLabels, Condition, NetworkConfig};
use mixflow_schedules::{
    Cosine, Diffusion, Interval, Linear, Prediction, PublishedCode, Reversed, Schedule, TimeGrid, Use, interval,
};
use mixflow_tests::{Fixture, TinyNet, Tolerance};
use serde_json::json;

use crate::dit_dh::{self, network};

const LAST_STEP: f64 = 0.04;

/// RAE's grid of six points.
fn times(schedule: &dyn Schedule, purpose: Use, shift: f64) -> Vec<f64> {
    let interval = interval(schedule, Prediction::Velocity, purpose, PublishedCode::Rae);
    let grid = TimeGrid::new(5).and_then(|grid| grid.interval(interval)?.shift(shift));
    grid.expect("the grid is valid").times()
}

/// The states at `times` after the first, the first itself being `x`.
fn states(
    solver: &dyn Solver,
    flow: &Flow<'_>,
    x: &Tensor<4>,
    times: &[f64],
    noise: &dyn Fn(usize) -> Tensor<4>,
) -> Vec<Tensor<4>> {
    let mut states = vec![];
    solver
        .solve(flow, x.clone(), times, &mut |step: usize, _| noise(step), &mut |_, x| states.push(x.clone()))
        .unwrap_or_else(|error| panic!("{solver:?}: {error}"));
    states
}

fn silent(_: usize) -> Tensor<4> {
    panic!("a deterministic solver drew noise")
}

fn check(fixture: &Fixture, name: &str, states: Vec<Tensor<4>>, tolerance: Tolerance) {
    fixture.assert_close(name, Tensor::stack::<5>(states, 0).into_data(), tolerance);
}

#[test]
fn every_recorded_run_is_matched() {
    let fixture = Fixture::read("samplers/rae_ode_sde");
    let device = Device::default();
    let network = TinyNet::of(&fixture, &device);
    let (x, noise) = (fixture.tensor::<4>("in.z", &device), fixture.tensor::<5>("in.w", &device));
    let draw = |step: usize| noise.clone().narrow(0, step, 1).squeeze_dim(0);
    let runs = fixture.names("out.");
    assert_eq!(runs.len(), 30);
    for run in runs {
        let shift = fixture.manifest["config"]["time_dist_shift_values"][usize::from(!run.ends_with("1.000"))].as_f64();
        let shift = shift.expect("two shifts");
        let (method, _) = run.rsplit_once(".shift").expect("every run has a shift");
        let parts: Vec<&str> = method.split('.').collect();
        let schedule: &dyn Schedule = if parts[1] == "Linear" { &Reversed(Linear) } else { &Reversed(Cosine) };
        let flow = Flow::of(schedule, Prediction::Velocity, &network, ());
        let mut tolerance = fixture.tolerance(None);
        let states = match *parts {
            ["ode", _, method] => {
                let adaptive = Adaptive::new(Pair::DormandPrince5, 1e-6, 1e-3).expect("valid");
                let solver: &dyn Solver = match method {
                    "euler" => &Euler,
                    "heun2" => &Heun,
                    _ => &adaptive,
                };
                if method == "dopri5" {
                    tolerance = fixture.tolerance(Some("dopri5_default_tolerances"));
                }
                states(solver, &flow, &x, &times(schedule, Use::Ode, shift), &silent)
            }
            ["sde", _, method, form, last] => {
                let last_step = serde_json::from_value(last.to_lowercase().into()).expect("a last step");
                stochastic(&flow, &x, shift, method, diffusion(form), last_step, &draw)
            }
            _ => panic!("no run is called {run}"),
        };
        check(&fixture, &format!("out.{run}"), states, tolerance);
    }
}

/// Stochastic steps on the shifted grid, then the official last step: it is taken from `LAST_STEP` before data *without*
/// the shift, wherever the shifted grid has left the state. Our grid takes its `last` step from where the state is.
fn stochastic(
    flow: &Flow<'_>,
    x: &Tensor<4>,
    shift: f64,
    method: &str,
    diffusion: Diffusion,
    last_step: LastStep,
    draw: &dyn Fn(usize) -> Tensor<4>,
) -> Vec<Tensor<4>> {
    let solve = |x: &Tensor<4>, times: &[f64], last_step| match method {
        "euler" => states(&EulerMaruyama { diffusion, last_step }, flow, x, times, draw),
        _ => states(&StochasticHeun { diffusion, last_step }, flow, x, times, draw),
    };
    // Without a last step the grid reaches data and the state is recorded twice.
    let size = if last_step == LastStep::None { 0.0 } else { LAST_STEP };
    let all = solve(x, &times(flow.schedule(), Use::Sde { last_step: size }, shift), LastStep::None);
    let end = all.last().expect("six states").clone();
    let last = match last_step {
        LastStep::None => end,
        _ => solve(&end, &[1.0 - LAST_STEP, 1.0], last_step).pop().expect("two states"),
    };
    all.into_iter().skip(1).chain([last]).collect()
}

/// The diffusion as the fixture calls it.
fn diffusion(name: &str) -> Diffusion {
    serde_json::from_value(serde_json::json!({ "kind": name })).expect("a diffusion")
}

/// With shift 1 both agree, and ours is one run.
#[test]
fn the_last_step_of_an_unshifted_grid_is_the_official_one() {
    let fixture = Fixture::read("samplers/rae_ode_sde");
    let device = Device::default();
    let network = TinyNet::of(&fixture, &device);
    let noise = fixture.tensor::<5>("in.w", &device);
    let flow = Flow::of(&Reversed(Linear), Prediction::Velocity, &network, ());
    let solver = EulerMaruyama { diffusion: diffusion("sigma"), last_step: LastStep::Mean };
    let grid = TimeGrid::new(5).and_then(|grid| grid.interval(Interval { start: 0.0, end: 0.96 })?.last(1.0));
    let times = grid.expect("the grid is valid").times();
    let draw = |step: usize| noise.clone().narrow(0, step, 1).squeeze_dim(0);
    let mut found = states(&solver, &flow, &fixture.tensor("in.z", &device), &times, &draw);
    found.remove(0);
    check(&fixture, "out.sde.Linear.euler.sigma.Mean.shift1.000", found, fixture.tolerance(None));
}

/// Guided samples of DiT^DH, network and all. The official batch holds every image twice, the second time under the null
/// label; a weaker network guides both halves apart.
#[test]
fn guided_samples_are_the_official_ones() {
    let fixture = Fixture::read("samplers/rae_end_to_end_guided");
    let device = Device::default();
    let config = &fixture.manifest["config"];
    let load = |which: &str, prefix| network(&fixture, &config[which], &config[which], prefix, &device);
    let (strong, weaker) = (load("main", "weights."), load("guidance_model", "weights_ag."));
    let null = config["main"]["num_classes"].as_u64().expect("num_classes") as usize;
    let labels = ClassLabels { labels: fixture.integers("in.y", &device), null };
    let (x, reversed) = (fixture.tensor::<4>("in.z", &device), Reversed(Linear));
    let times = times(&reversed, Use::Ode, config["time_dist_shift"].as_f64().expect("time_dist_shift"));
    assert!(1.0 - times[5] > 0.006, "the grid stops before data");

    fn flow<'a, B: Backbone<Condition = ClassLabels>>(net: &'a B, labels: &ClassLabels) -> Flow<'a> {
        Flow::of(&Reversed(Linear), Prediction::Velocity, net, labels.clone())
    }
    let guidance = |scale, start, end| Guidance::new(scale).and_then(|g| g.within(start, end)).expect("valid");
    let run = |name: &str, solver: &dyn Solver, halves: [Flow<'_>; 2]| {
        let halves = halves.map(|flow| Tensor::stack::<5>(states(solver, &flow, &x, &times, &silent), 0));
        fixture.assert_close(name, Tensor::cat(halves.to_vec(), 1).into_data(), fixture.tolerance(None));
    };

    let unguided = states(&Euler, &flow(&strong, &labels), &x, &times, &silent);
    check(&fixture, "out.unguided.euler", unguided, fixture.tolerance(None));
    let free = || flow(&strong, &labels).guided(flow(&strong, &labels.clone().null()), guidance(1.5, 0.0, 1.0));
    run("out.cfg1.5.euler", &Euler, [free(), free()]);
    let auto = |labels: &ClassLabels, start, end| {
        flow(&strong, labels).guided(flow(&weaker, labels), guidance(1.42, start, end))
    };
    let both = |start, end| [auto(&labels, start, end), auto(&labels.clone().null(), start, end)];
    run("out.ag1.42.euler", &Euler, both(0.0, 1.0));
    run("out.ag1.42_interval_0.1_0.9.euler", &Euler, both(0.1, 0.9));
    run("out.ag1.42.heun2", &Heun, both(0.0, 1.0));
}

/// The same by a recipe that names the guide and its file: the states that the library gives, bit for bit, which are the
/// official ones.
#[test]
fn a_recipe_guides_as_the_official_code_does() {
    let fixture = Fixture::read("samplers/rae_end_to_end_guided");
    let device = Device::default();
    let config = &fixture.manifest["config"];
    let file = tempfile::NamedTempFile::with_suffix(".safetensors").expect("a temporary file");
    fixture.weights("weights_ag.").write(file.path(), &[]).expect("a file to write to");
    let shape = |which: &str| NetworkConfig::DitDh(dit_dh::config(&config[which], &config[which]));
    let recipe = |solver: &str, interval: [f64; 2]| {
        let recipe = json!({
            "name": "guided",
            "data": { "kind": "digits", "size": 8 },
            "network": shape("main"),
            "objective": { "schedule": { "kind": "linear", "reversed": true } },
            "training": { "steps": 1, "batch": 1 },
            "sampling": {
                "solver": { "kind": solver },
                "grid": { "steps": 5, "end": 0.999, "shift": config["time_dist_shift"] },
                "guidance": { "scale": 1.42, "interval": interval },
                "guide": { "network": shape("guidance_model"), "weights": file.path() },
            },
        });
        Recipe::from_value(recipe).expect("the recipe is valid")
    };
    let strong = recipe("euler", [0.0, 1.0]).network.init(0, &device).load(fixture.weights("weights.")).expect("fits");
    let weak = network(&fixture, &config["guidance_model"], &config["guidance_model"], "weights_ag.", &device);
    let labels =
        ClassLabels { labels: fixture.integers("in.y", &device), null: recipe("euler", [0.0, 1.0]).network.classes() };
    let x = fixture.tensor::<4>("in.z", &device);

    for (name, solver, interval, evaluations) in [
        ("out.ag1.42.euler", "euler", [0.0, 1.0], 10),
        ("out.ag1.42_interval_0.1_0.9.euler", "euler", [0.1, 0.9], 7),
        ("out.ag1.42.heun2", "heun", [0.0, 1.0], 20),
    ] {
        let recipe = recipe(solver, interval);
        let guide = recipe
            .sampling
            .active_guide()
            .expect("the recipe has one")
            .load(&Device::default())
            .expect("the file fits");
        let classes = Classes(labels.null);
        let generator = Generator { guide: Some(&guide), ..recipe.generator(&strong, &classes) };
        let halves = [labels.clone(), labels.clone().null()].map(|labels| {
            let run = |flow: Flow<'_>| {
                let mut states = vec![];
                let mut silent = |step: usize, _: [usize; 4]| silent(step);
                let sampler = &recipe.sampling.sampler;
                let samples = sampler.trajectory(&flow, x.clone(), &mut silent, |_, x| states.push(x.clone()));
                (Tensor::stack::<5>(states, 0), samples.expect("finite states").evaluations)
            };
            let guidance = Guidance::new(1.42).and_then(|g| g.within(interval[0], interval[1])).expect("valid");
            let path = &recipe.objective.schedule;
            let weak = Flow::of(path, Prediction::Velocity, &weak, labels.clone());
            let (states, counted) =
                run(Flow::of(path, Prediction::Velocity, &strong, labels.clone()).guided(weak, guidance));
            assert_eq!(counted, evaluations, "{name}");
            // A generator has no label that stands for none.
            let numbers: Vec<usize> = labels.labels.into_data().iter::<i64>().map(|label| label as usize).collect();
            if !numbers.contains(&labels.null) {
                let (made, _) = run(generator.flow(&numbers, &device).expect("they are classes"));
                assert_eq!(made.to_data(), states.to_data(), "{name}");
            }
            states
        });
        fixture.assert_close(name, Tensor::cat(halves.to_vec(), 1).into_data(), fixture.tolerance(None));
    }
}
