//! Sampling against the official code, from the recorded noise.

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Precision;
use mixflow::data::Unlabelled;
use mixflow::evaluation::Generator;
use mixflow::recipe::SamplingConfig;
use mixflow::sampling::solver::{Clock, DpmPlusPlus2M, Euler};
use mixflow::sampling::{Guidance, Rounding, Sampler, SolverConfig};
use mixflow::schedules::TimeGrid;
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::{SkipLayers, TextSampling, Transformer};
use mixflow_tests::{Fixture, close};

use crate::{CASES, network, text};

const DPM: SolverConfig = SolverConfig::DpmPlusPlus2M(DpmPlusPlus2M { clock: Clock::LogSigma });

#[test]
fn the_grid_is_that_of_the_official_schedulers() {
    let fixture = Fixture::read("mmdit/flow_match_euler_sigmas");
    let mut compared = 0;
    for shift in ["1.0", "3.0"] {
        for steps in [10, 28, 40] {
            let grid = TimeGrid::stable_diffusion_3(steps, shift.parse().expect("a number")).expect("a grid");
            assert_eq!(grid.steps(), steps);
            let sigmas: Vec<f64> = grid.times().iter().map(|t| 1.0 - t).collect();
            for name in ["sigmas", "stability_sigmas"] {
                let recorded = fixture.values(&format!("out.shift{shift}.steps{steps}.{name}"));
                close(name, &sigmas, &recorded, fixture.tolerance(None));
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 12);
}

/// The states that four steps of a solver go through.
fn states(fixture: &Fixture, solver: SolverConfig, scale: f64, skip_layers: Option<SkipLayers>) -> Vec<Tensor<4>> {
    let device = Device::default();
    let grid = TimeGrid::stable_diffusion_3(4, 3.0).expect("a grid");
    let guidance = Some(Guidance::new(scale).expect("a scale"));
    let (network, recipe) = (network(fixture, &device), read_text_recipe("sd3.5-medium-mixflow", &[]));
    let mut recipe = recipe.expect("it comes along").expect("it is for text");
    recipe.sampling = SamplingConfig {
        sampler: Sampler { solver, grid },
        guidance,
        guide: None,
        distilled_guidance: None,
        correction: None,
        batch: 1,
        precision: Precision::F32,
        tiles: None,
        bytes: Rounding::Nearest,
    };
    let network = Transformer::from(network);
    let weaker = skip_layers.and_then(|skip| skip.weaker(&network, &grid).expect("it has these blocks"));
    let generator = Generator { weaker: weaker.as_ref(), ..recipe.generator(&network, &Unlabelled) };
    let none = text(fixture, ["in.uncond", "in.uncond_pooled"], &device);
    let text = text(fixture, ["in.cond", "in.cond_pooled"], &device).with_negative(none);
    let mut silent = |_, _| panic!("a deterministic solver drew noise");
    let mut states = vec![];
    let visit = |_, x: &Tensor<4>| states.push(x.clone());
    let (flow, noise) = (generator.flow_of(text).expect("no guide"), fixture.tensor("in.sample_noise", &device));
    recipe.sampling.sampler.trajectory(&flow, noise, &mut silent, visit).expect("finite");
    states
}

fn end(states: Vec<Tensor<4>>) -> burn::tensor::TensorData {
    states.last().expect("five states").clone().into_data()
}

#[test]
fn guided_euler_is_the_official_one() {
    for case in CASES {
        let fixture = Fixture::read(case);
        let states = states(&fixture, SolverConfig::Euler(Euler), 4.5, None);
        let trajectory = Tensor::stack::<5>(states.clone(), 0).into_data();
        fixture.assert_close("out.euler4.trajectory", trajectory, fixture.tolerance(None));
        fixture.assert_close("out.stability.euler4", end(states), fixture.tolerance(None));
    }
}

#[test]
fn dpm_plus_plus_is_the_official_one() {
    for case in CASES {
        let fixture = Fixture::read(case);
        let found = end(states(&fixture, DPM, 4.5, None));
        fixture.assert_close("out.stability.dpmpp_2m4", found, fixture.tolerance(None));
    }
}

/// The recorded run holds it for steps 1 and 2 of four, where block 1 is left out.
#[test]
fn skip_layer_guidance_is_the_official_one() {
    for case in CASES {
        let fixture = Fixture::read(case);
        let skip = SkipLayers { blocks: vec![1], scale: 2.5, steps: [0.01, 0.6] };
        let found = end(states(&fixture, DPM, 4.0, Some(skip)));
        fixture.assert_close("out.stability.dpmpp_2m_skip_layer", found, fixture.tolerance(None));
    }
}

#[test]
fn skipping_holds_for_its_share_of_the_steps() {
    let preset = TextSampling::stable_diffusion_3_5_medium_skip_layers();
    let (skip, grid) = (preset.skip_layers.expect("it skips"), preset.sampling.sampler.grid);
    let guidance = skip.guidance(&grid).expect("valid").expect("some steps");
    assert_eq!(guidance.scale(), 3.5);
    // More than half a step and fewer than ten: 1 to 9.
    let active: Vec<usize> = (0..50).filter(|&step| guidance.is_active(grid.times()[step])).collect();
    assert_eq!(active, (1..=9).collect::<Vec<_>>());
    let none = SkipLayers { steps: [0.0, 0.02], ..skip.clone() };
    assert_eq!(none.guidance(&grid).expect("valid"), None, "step 0 is not after its start");
    for steps in [[0.2, 0.1], [0.0, 1.5], [f64::NAN, 1.0]] {
        assert!(SkipLayers { steps, ..skip.clone() }.guidance(&grid).is_err());
    }
}

/// `HYPERPARAMETERS.md` of the recorded cases.
#[test]
fn published_settings_are_recipes() {
    for (sampling, steps, scale) in [
        (TextSampling::diffusers(3.0).expect("valid"), 28, Some(7.0)),
        (TextSampling::stable_diffusion_3_5_medium(), 50, Some(5.0)),
        (TextSampling::stable_diffusion_3_5_medium_skip_layers(), 50, Some(4.0)),
        (TextSampling::stable_diffusion_3_5_large(), 40, Some(4.5)),
        (TextSampling::stable_diffusion_3_5_large_turbo(), 4, None),
    ] {
        let sampling = sampling.sampling;
        assert_eq!(
            (sampling.sampler.grid, sampling.batch),
            (TimeGrid::stable_diffusion_3(steps, 3.0).expect("valid"), 1)
        );
        assert_eq!(sampling.guidance.map(|guidance| guidance.scale()), scale);
        let json = serde_json::to_string(&sampling).expect("a recipe");
        assert_eq!(serde_json::from_str::<SamplingConfig>(&json).expect("a recipe"), sampling, "{json}");
    }
    let read = |json| serde_json::from_str::<SamplingConfig>(json).map_err(|error| error.to_string());
    let sampling = read(r#"{"solver": {"kind": "dpmpp-2m"}, "grid": {"steps": 20}}"#).expect("a recipe");
    assert_eq!(sampling.guidance, None);
    let error = read(r#"{"solver": {"kind": "euler"}, "grid": {"steps": 9}, "skip": 1}"#).expect_err("no such key");
    assert!(error.contains("unknown field `skip`"), "{error}");
}
