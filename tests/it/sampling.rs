//! Guided samples of SiT, network and all, against the official code; and what samples must not depend on.

use burn::tensor::{Device, Tensor};
use mixflow::data::{Classes, Conditioner};
use mixflow::evaluation::{Generator, Visited, Weaker};
use mixflow::recipe::{ObjectiveConfig, SamplingConfig};
use mixflow::sampling::correction::{CorrectionConfig, ScheduleCorrector};
use mixflow::sampling::solver::{Adaptive, Euler, EulerMaruyama, Heun, LastStep, Pair, SeededNoise, Solver};
use mixflow::sampling::{Flow, Guidance};
use mixflow_backbones::autoencoder::{Autoencoder, KlAutoencoder, KlAutoencoderConfig, TileConfig};
use mixflow_backbones::sit::Sit;
use mixflow_backbones::{ClassLabels, Condition};
use mixflow_schedules::{Diffusion, Linear, Prediction, TimeGrid};
use mixflow_tests::{Fixture, Tolerance, close};
use serde_json::{Value, json};

use crate::sit::network;

const CASE: &str = "samplers/sit_end_to_end_cfg";

/// Labels of the recorded images; the batch holds every image twice, the second time under the null label.
fn labels(fixture: &Fixture, device: &Device) -> ClassLabels {
    let null = fixture.manifest["config"]["num_classes"].as_u64().expect("num_classes") as usize;
    let labels = fixture.integers::<1>("in.y", device);
    let images = labels.dims()[0] / 2;
    ClassLabels { labels: labels.slice([..images]), null }
}

fn guidance(fixture: &Fixture) -> Guidance {
    let scale = fixture.manifest["config"]["cfg_scale"].as_f64().expect("cfg_scale");
    Guidance::new(scale).and_then(|guidance| guidance.first_channels(3)).expect("the scale is valid")
}

fn guided<'a>(sit: &'a Sit, labels: &ClassLabels, guidance: Guidance) -> Flow<'a> {
    let flow = |labels| Flow::of(&Linear, Prediction::Velocity, sit, labels);
    flow(labels.clone()).guided(flow(labels.clone().null()), guidance)
}

fn grid() -> TimeGrid {
    TimeGrid::new(5).expect("five steps are valid")
}

/// Compares every state, the first one included if it was recorded, with the first half of the recorded batch.
fn check(fixture: &Fixture, name: &str, solver: &dyn Solver, flow: &Flow<'_>, start: &Tensor<4>, times: &[f64]) {
    let device = start.device();
    let noise = fixture.tensor::<5>("in.w", &device);
    let [images, ..] = start.dims();
    let mut draw = |step: usize, shape: [usize; 4]| noise.clone().slice([step..step + 1, 0..images]).reshape(shape);
    let mut states: Vec<Tensor<4>> = vec![];
    solver
        .solve(flow, start.clone(), times, &mut draw, &mut |_, x| states.push(x.clone()))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let recorded = fixture.tensor::<5>(name, &device);
    let [points, batch, ..] = recorded.dims();
    let found = Tensor::stack::<5>(states, 0);
    let skipped = found.dims()[0] - points;
    let half = |states: Tensor<5>, first: usize| {
        states.slice([first..first + points, 0..batch / 2]).into_data().iter::<f64>().collect::<Vec<_>>()
    };
    close(name, &half(found, skipped), &half(recorded, 0), fixture.tolerance(None));
}

#[test]
fn guided_samples_are_the_official_ones() {
    let fixture = Fixture::read(CASE);
    let device = Device::default();
    let (sit, labels) = (network(&fixture, &device), labels(&fixture, &device));
    let flow = guided(&sit, &labels, guidance(&fixture));
    let start = fixture.tensor::<4>("in.z", &device).slice([..labels.labels.dims()[0]]);

    check(&fixture, "out.ode.euler", &Euler, &flow, &start, &grid().times());
    check(&fixture, "out.ode.heun2", &Heun, &flow, &start, &grid().times());
    let solver = EulerMaruyama { diffusion: Diffusion::Sigma { norm: 1.0 }, last_step: LastStep::Mean };
    let times = [0.0, 0.192, 0.384, 0.576, 0.768, 0.96, 1.0];
    // The record leaves out the first state.
    check(&fixture, "out.sde.Euler.sigma.Mean", &solver, &flow, &start, &times);
}

/// The official code integrates both halves of its batch, which drift apart in the channels that are not guided, and its
/// adaptive steps depend on the error of both: so we do here as well.
#[test]
fn guided_adaptive_samples_are_the_official_ones() {
    let fixture = Fixture::read(CASE);
    let device = Device::default();
    let (sit, labels) = (network(&fixture, &device), labels(&fixture, &device));
    let images = labels.labels.dims()[0];
    let strong = guided(&sit, &labels, guidance(&fixture));
    let weak = Flow::of(&Linear, Prediction::Velocity, &sit, labels.null());
    let both = Flow::new(&Linear, Prediction::Velocity, |x, t| {
        let x = x.slice([..images]);
        let (strong, weak) = (strong.velocity(x.clone(), t), weak.velocity(x, t));
        let second = Tensor::cat(vec![strong.clone().slice([0..images, 0..3]), weak.slice([0..images, 3..4])], 1);
        Tensor::cat(vec![strong, second], 0)
    });
    let solver = Adaptive::new(Pair::DormandPrince5, 1e-6, 1e-3).expect("the tolerances are valid");
    check(&fixture, "out.ode.dopri5", &solver, &both, &fixture.tensor("in.z", &device), &grid().times());
}

/// How the images of the tests below are made.
fn sampling(solver: &Value, batch: usize) -> SamplingConfig {
    let sampling = json!({ "solver": solver, "grid": { "steps": 4 }, "guidance": { "scale": 1.5 }, "batch": batch });
    serde_json::from_value(sampling).expect("the recipe is valid")
}

fn generator<'a>(sit: &'a Sit, objective: &'a ObjectiveConfig, sampling: &'a SamplingConfig) -> Generator<'a, Sit> {
    Generator {
        autoencoder: None,
        guide: None,
        negative: None,
        weaker: None,
        network: sit,
        objective,
        sampling,
        conditioner: &Classes(6),
        shape: [4, 4, 4],
        seed: 5,
        beside: &[],
    }
}

/// One factor on the velocity at all times.
fn factor(lambda: f64) -> CorrectionConfig {
    CorrectionConfig::ScheduleCorrector(ScheduleCorrector { a: lambda - 1.0, b: 0.0 })
}

const LABELS: [usize; 7] = [0, 1, 2, 3, 4, 5, 0];

#[test]
fn images_do_not_depend_on_the_batch() {
    let fixture = Fixture::read(CASE);
    let sit = network(&fixture, &Device::default());
    let stochastic = json!({ "kind": "euler-maruyama", "diffusion": { "kind": "sigma" } });
    let adaptive = json!({ "kind": "adaptive", "pair": "dormand-prince-5", "atol": 1e-4, "rtol": 1e-4 });
    // Products of matrices add in an order that depends on the number of rows: roundings of f32, 6e-8 each, of sixteen
    // evaluations. Another noise would differ by 1. The steps of an adaptive solver are those of the batch: they differ by
    // as much as the tolerance of each of some ten steps.
    for (solver, tolerance) in [(json!({ "kind": "heun" }), 1e-5), (stochastic, 1e-5), (adaptive, 1e-3)] {
        let numbers = |batch| {
            let (objective, sampling) = (ObjectiveConfig::default(), sampling(&solver, batch));
            let images = generator(&sit, &objective, &sampling).images(&LABELS, 3).expect("sampling succeeds");
            images.pixels.into_iter().map(f64::from).collect::<Vec<_>>()
        };
        let whole = numbers(7);
        assert_ne!(whole[..64], whole[6 * 64..], "two images of a class differ");
        assert_eq!(numbers(7), whole);
        for batch in [1, 2, 100] {
            let tolerance = Tolerance { relative: tolerance, absolute: tolerance };
            close(&format!("{solver}, batches of {batch}"), &numbers(batch), &whole, tolerance);
        }
    }
}

/// Batches are whole on whatever device draws them: the same bits, though a solver chooses its steps by the batch. States of
/// a batch come in the order of their times.
#[test]
fn images_are_the_same_on_any_number_of_devices() {
    let fixture = Fixture::read(CASE);
    let sit = network(&fixture, &Device::default());
    let weaker = Weaker { network: sit.clone(), guidance: Guidance::new(2.0).expect("it is valid") };
    let autoencoder = autoencoder();
    let labels: Vec<usize> = LABELS.into_iter().cycle().take(20).collect();
    for solver in ["heun", "adaptive"] {
        let solver = match solver {
            "adaptive" => json!({ "kind": solver, "pair": "bogacki-shampine-3", "atol": 1e-3, "rtol": 1e-3 }),
            kind => json!({ "kind": kind }),
        };
        let (objective, sampling) = (ObjectiveConfig::default(), sampling(&solver, 3));
        let draw = |beside: &[Device]| {
            let mut visited = vec![(vec![], vec![]); 7];
            let mut done = vec![];
            let visit = &mut |state: Visited<'_>| {
                let batch = &mut visited[state.first / 3];
                batch.0.push(state.t);
                batch.1.push(state.x.to_data().iter::<f32>().collect::<Vec<_>>());
                done.push(state.done);
            };
            let generator = generator(&sit, &objective, &sampling);
            let generator = Generator { beside, autoencoder: Some(&autoencoder), weaker: Some(&weaker), ..generator };
            let images = generator.trajectories(&labels, 5, visit).expect("sampling succeeds");
            assert!(done.is_sorted() && done.last() == Some(&20), "{done:?}");
            assert!(visited.iter().all(|(times, _)| times.is_sorted() && times.len() == 5));
            (images, visited)
        };
        let alone = draw(&[]);
        assert_eq!(alone.0.shape, [20, 3, 8, 8]);
        for beside in [vec![Device::flex()], vec![Device::flex(); 3], vec![Device::flex(); 9]] {
            assert!(draw(&beside) == alone, "{solver}: {} devices", beside.len() + 1);
        }
    }
}

/// Images of 8 x 8 pixels of latents of 4 x 4 x 4.
fn autoencoder() -> KlAutoencoder {
    let published = KlAutoencoderConfig::stable_diffusion();
    KlAutoencoderConfig { widths: vec![8, 16], depth: 1, groups: 4, ..published }.init(0, &Device::default())
}

#[test]
fn large_images_are_decoded_in_tiles() {
    let fixture = Fixture::read(CASE);
    let (sit, autoencoder) = (network(&fixture, &Device::default()), autoencoder());
    let draw = |autoencoder: Option<&dyn Autoencoder>, tiles: Option<TileConfig>| {
        let sampling = SamplingConfig { tiles, ..sampling(&json!({ "kind": "heun" }), 100) };
        let objective = ObjectiveConfig::default();
        Generator { autoencoder, ..generator(&sit, &objective, &sampling) }.images(&LABELS, 5).expect("it draws")
    };
    let latents = draw(None, None);
    let latents = Tensor::<1>::from_floats(latents.pixels.as_slice(), &Device::default()).reshape(latents.shape);
    let [small, large] = [(3, 1), (4, 1)].map(|(side, overlap)| TileConfig { side, overlap });
    let expected = autoencoder.decode_tiled(latents, small).into_data().iter::<f32>().collect::<Vec<_>>();
    let whole = draw(Some(&autoencoder), None).pixels;
    assert_eq!(draw(Some(&autoencoder), Some(large)).pixels, whole);
    assert!(draw(Some(&autoencoder), Some(small)).pixels == expected && expected != whole);
}

/// An error of one batch ends all of them, whatever the others do.
#[test]
fn what_fails_on_one_device_ends_the_drawing() {
    let fixture = Fixture::read(CASE);
    let sit = network(&fixture, &Device::default());
    let (objective, sampling) = (ObjectiveConfig::default(), sampling(&json!({ "kind": "heun" }), 2));
    let beside = &[Device::flex(), Device::flex()];
    let generator = Generator { beside, ..generator(&sit, &objective, &sampling) };
    let mut labels = vec![0; 20];
    labels[9] = 6;
    let error = generator.images(&labels, 0).expect_err("there are six classes").to_string();
    assert!(error.contains("found 6"), "{error}");
    let mut taken = 0;
    let stopped = generator.batches(&labels, 0, &mut |_| {}, |batches| {
        taken = batches.take(2).filter(Result::is_ok).count();
        Err::<(), _>(mixflow::Error::Export { path: "x".into(), reason: "the disk is full".into() })
    });
    assert!(taken == 2 && stopped.expect_err("nobody takes more").to_string().contains("disk is full"));
}

/// By a generator, and by hand from flow, sampler and noise: the same bits, whatever a solver draws on the way, and scaled.
#[test]
fn a_seed_gives_the_same_images_by_generator_and_by_hand() {
    let fixture = Fixture::read(CASE);
    let device = Device::default();
    let sit = network(&fixture, &device);
    let diffusion = json!({ "kind": "sigma", "norm": 0.5 });
    for solver in [
        json!({ "kind": "heun" }),
        json!({ "kind": "karras-heun" }),
        json!({ "kind": "dpmpp-2m" }),
        json!({ "kind": "adaptive", "pair": "bogacki-shampine-3", "atol": 1e-3, "rtol": 1e-3 }),
        json!({ "kind": "euler-maruyama", "diffusion": diffusion }),
        json!({ "kind": "stochastic-heun", "diffusion": diffusion }),
    ] {
        for lambda in [1.0, 1.05] {
            let (objective, mut sampling) = (ObjectiveConfig::default(), sampling(&solver, 7));
            sampling.correction = Some(factor(lambda));
            let made = generator(&sit, &objective, &sampling).images(&LABELS, 3);
            let made = made.expect("sampling succeeds");

            let flow = |labels| Flow::of(&Linear, Prediction::Velocity, &sit, labels);
            let labels = ClassLabels::new(&LABELS, 6, &device);
            let guidance = Guidance::new(1.5).expect("the scale is valid");
            let flow = flow(labels.clone()).guided(flow(labels.null()), guidance).scaled(lambda);
            let mut noise = SeededNoise::new(5, 3, &device);
            let start = noise.start([7, 4, 4, 4]);
            let samples = sampling.sampler.sample(&flow, start, &mut noise).expect("sampling succeeds");
            assert_eq!(made.pixels, samples.x.into_data().iter::<f32>().collect::<Vec<_>>(), "{solver} {lambda}");
            assert_eq!(made.evaluations, samples.evaluations, "{solver} {lambda}");
            // Both networks are counted, with a factor too.
            let stated = sampling.evaluations();
            assert!(stated.is_none_or(|stated| stated == made.evaluations), "{solver}: {stated:?}");
        }
    }
}

/// A factor is on the guided velocity: guidance in an interval is decided once a step by the solvers that do so, and what
/// they count stays what they count.
#[test]
fn a_scaled_network_is_guided_as_the_others_are() {
    let fixture = Fixture::read(CASE);
    let sit = network(&fixture, &Device::default());
    let (objective, mut sampling) = (ObjectiveConfig::default(), sampling(&json!({ "kind": "karras-heun" }), 7));
    sampling.guidance = Some(Guidance::new(2.0).and_then(|guidance| guidance.within(0.25, 0.6)).expect("it is valid"));
    let images = |lambda| {
        let sampling = SamplingConfig { correction: Some(factor(lambda)), ..sampling.clone() };
        generator(&sit, &objective, &sampling).images(&LABELS, 3).expect("sampling succeeds")
    };
    // Seven evaluations of four steps, and four more in the two steps that begin at 0.25 and 0.5.
    assert_eq!([1.0, 1.5].map(|lambda| images(lambda).evaluations), [11, 11]);
    // As the factor tends to 1 the images do.
    let [plain, near] = [1.0, 1.0 + 1e-6].map(|lambda| images(lambda).pixels);
    let numbers = |pixels: Vec<f32>| pixels.into_iter().map(f64::from).collect::<Vec<_>>();
    let tolerance = Tolerance { relative: 1e-4, absolute: 1e-4 };
    close("near 1", &numbers(near), &numbers(plain), tolerance);
}

#[test]
fn a_condition_draws_what_its_labels_draw() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    let sit = network(&fixture, &device);
    let (objective, sampling) = (ObjectiveConfig::default(), sampling(&json!({ "kind": "heun" }), 3));
    let generator = generator(&sit, &objective, &sampling);
    let condition = Classes(6).conditions(&LABELS, &device).expect("they are classes");
    let draw = |generator: &Generator<'_, Sit>, condition: &ClassLabels, count, first| {
        generator.draw(condition, count, first, &mut |_| {})
    };
    let expected = generator.images(&LABELS, 3).expect("sampling succeeds");
    assert_eq!(draw(&generator, &condition, 7, 3).expect("sampling succeeds"), expected);
    // What says the same leads nowhere, and is asked.
    let weaker = Weaker { network: sit.clone(), guidance: Guidance::new(3.0).expect("it is valid") };
    let guided = Generator { weaker: Some(&weaker), ..generator };
    let found = draw(&guided, &condition, 7, 3).expect("sampling succeeds");
    assert_eq!((found.pixels, found.evaluations), (expected.pixels, expected.evaluations * 3 / 2));
    // What says something else leads somewhere, with no other guidance too.
    let mut fewer = sit.clone();
    fewer.blocks.pop();
    let weaker = Weaker { network: fewer, guidance: Guidance::new(2.0).expect("it is valid") };
    let plain = SamplingConfig { guidance: None, ..sampling.clone() };
    let alone = Generator { sampling: &plain, ..generator };
    let guided = Generator { weaker: Some(&weaker), ..alone };
    let [alone, guided] = [alone, guided].map(|generator| draw(&generator, &condition, 7, 3).expect("it succeeds"));
    assert_eq!(guided.evaluations, 2 * alone.evaluations);
    assert_ne!(guided.pixels, alone.pixels);
    let error = draw(&generator, &condition, 1, 1 << 44).expect_err("it makes no sense").to_string();
    assert!(error.contains("images are numbered below"), "{error}");
}

#[test]
fn what_is_no_class_or_number_of_an_image_is_refused() {
    let fixture = Fixture::read(CASE);
    let sit = network(&fixture, &Device::default());
    let (objective, sampling) = (ObjectiveConfig::default(), sampling(&json!({ "kind": "heun" }), 7));
    let generator = generator(&sit, &objective, &sampling);
    for (labels, first, complaint) in [
        (&[0, 6][..], 0, "labels are classes from 0 to 5, found 6"),
        (&[0, 1], (1 << 44) - 1, "images are numbered below 17592186044416, found 2 from 17592186044415 on"),
        (&[0], u64::MAX, "images are numbered below"),
    ] {
        let error = generator.images(labels, first).expect_err("it makes no sense").to_string();
        assert!(error.contains(complaint), "{error}");
    }
    assert_eq!(generator.images(&[], 0).expect("nothing to do").pixels, Vec::<f32>::new());
}
