//! Sampling against the official code, from the recorded noise.

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Condition;
use mixflow::backbones::embed::patchify;
use mixflow::data::Unlabelled;
use mixflow::evaluation::Generator;
use mixflow::recipe::ObjectiveConfig;
use mixflow::sampling::solver::Euler;
use mixflow::sampling::{Sampler, SolverConfig};
use mixflow::schedules::{Shift, TimeGrid};
use mixflow_t2i::recipe::read_text_recipe;
use mixflow_t2i::{TextRecipe, TextSampling, Transformer};
use mixflow_tests::{Fixture, close};
use serde_json::json;

use crate::{CASES, config, network, text};

fn grid(steps: usize, shift: impl Into<Shift>) -> TimeGrid {
    TimeGrid::new(steps).and_then(|grid| grid.shift(shift)).expect("a grid")
}

fn sigmas(grid: TimeGrid) -> Vec<f64> {
    grid.times().iter().map(|t| 1.0 - t).collect()
}

#[test]
fn grids_are_those_of_the_official_codes() {
    let fixture = Fixture::read("flux/flux_sigmas");
    let tolerance = fixture.tolerance(None);
    let mut compared = 0;
    for (size, latents) in
        [("256x256", [32, 32]), ("512x512", [64, 64]), ("1024x1024", [128, 128]), ("768x1344", [96, 168])]
    {
        for steps in [4, 28] {
            // That of the recipe, for images of another size.
            let grid = grid(steps, Shift::of_tokens(4096)).for_latents(latents).expect("a grid");
            for name in [format!("out.dev.{size}.steps{steps}.sigmas"), format!("out.bfl.{size}.steps{steps}")] {
                close(&name, &sigmas(grid), &fixture.values(&name), tolerance);
                compared += 1;
            }
        }
    }
    for steps in [1, 2, 4] {
        let name = format!("out.schnell.steps{steps}.sigmas");
        close(&name, &sigmas(grid(steps, 1.0)), &fixture.values(&name), tolerance);
        compared += 1;
    }
    assert_eq!(compared, 19);
}

#[test]
fn four_steps_are_the_official_ones() {
    let device = Device::default();
    let objective: ObjectiveConfig =
        serde_json::from_value(json!({ "schedule": { "kind": "linear", "reversed": true } })).expect("an objective");
    let objective = objective.flow_matching();
    for case in CASES {
        let fixture = Fixture::read(case);
        let (mut net, channels) = (network(&fixture, &device), config(&fixture).channels);
        let noise = fixture.tensor::<4>("in.sample_noise_latent", &device);
        let [_, _, height, width] = noise.dims();
        let mut grid = grid(4, 1.0);
        if config(&fixture).guidance.is_some() {
            net =
                mixflow::backbones::Backbone::with_guidance(&net, fixture.values("in.guidance")[0]).expect("told one");
            grid = self::grid(4, Shift::of_tokens(1)).for_latents([height, width]).expect("a grid");
        }
        close("sigmas", &sigmas(grid), &fixture.values("out.euler4.sigmas"), fixture.tolerance(None));
        let told = text(&fixture, &device).select(Tensor::from_data([0], &device));
        let (mut states, mut silent) = (vec![], |_, _| panic!("a deterministic solver drew noise"));
        let sampler = Sampler { solver: Euler, grid };
        let visit = |_, x: &Tensor<4>| states.push(patchify(x.clone(), channels, 2));
        let end = sampler.trajectory(&objective.flow(&net, told), noise, &mut silent, visit).expect("finite");
        fixture.assert_close("out.euler4.final_latent", end.x.into_data(), fixture.tolerance(None));
        let trajectory = Tensor::stack::<4>(states, 0).into_data();
        fixture.assert_close("out.euler4.trajectory", trajectory, fixture.tolerance(None));
    }
}

/// The recipe that comes along, of the recorded network.
fn recipe(fixture: &Fixture, changes: &[&str]) -> TextRecipe {
    let mut network = serde_json::to_value(config(fixture)).expect("numbers");
    network["kind"] = "flux".into();
    let changes = changes.iter().map(|change| change.to_string());
    let own = [
        format!("network.transformer={network}"),
        "data.size=64".into(),
        "objective.timesteps.base.shift.tokens=16".into(),
        "sampling.grid={\"steps\":3,\"shift\":{\"tokens\":16}}".into(),
        "sampling.precision=f32".into(),
    ];
    let changes: Vec<String> = own.into_iter().chain(changes).collect();
    read_text_recipe("flux.1-dev-mixflow", &changes).expect("it comes along").expect("it is for text")
}

#[test]
fn images_are_told_the_guidance_of_the_sampling_and_shifted_by_their_size() {
    let (fixture, device) = (Fixture::read(CASES[1]), Device::default());
    let (net, told) = (Transformer::from(network(&fixture, &device)), text(&fixture, &device));
    let draw = |recipe: &TextRecipe, network: &Transformer, shape: [usize; 3]| {
        let generator = Generator { shape, ..recipe.generator(network, &Unlabelled) };
        generator.draw(&told, 2, 5, &mut |_| {}).expect("finite").pixels
    };
    let (own, shape) = (recipe(&fixture, &[]), [16, 8, 8]);
    assert_eq!(own.sampling.distilled_guidance, Some(3.5));
    let drawn = draw(&own, &net, shape);
    let silent = recipe(&fixture, &["sampling.distilled_guidance=null"]);
    let of = |scale| mixflow::backbones::Backbone::with_guidance(&net, scale).expect("it is told one");
    assert_eq!(draw(&silent, &of(3.5), shape), drawn);
    // That of the training otherwise.
    assert_eq!(draw(&silent, &net, shape), draw(&silent, &of(1.0), shape));
    assert_ne!(draw(&silent, &net, shape), drawn);
    // Larger images are shifted further.
    let mut further = own.clone();
    further.sampling.sampler.grid = grid(3, Shift::of_tokens(24));
    let fixed = |tokens| {
        let mut fixed = own.clone();
        fixed.sampling.sampler.grid = grid(3, Shift::of_tokens(tokens).factor());
        fixed
    };
    let wide = [16, 8, 12];
    assert_eq!(draw(&own, &net, wide), draw(&fixed(24), &net, wide));
    assert_ne!(draw(&own, &net, wide), draw(&fixed(16), &net, wide));
    assert_eq!(draw(&further, &net, shape), drawn);
}

#[test]
fn the_recipe_of_flux_is_of_the_published_network() {
    let recipe = read_text_recipe("flux.1-dev-mixflow", &[]).expect("it comes along").expect("it is for text");
    assert_eq!(recipe.network.transformer, mixflow_t2i::FluxConfig::dev().into());
    let Some(mixflow::recipe::AutoencoderConfig::Kl { network, .. }) = &recipe.autoencoder else { panic!("latents") };
    assert_eq!(*network, mixflow::backbones::autoencoder::KlAutoencoderConfig::flux_1());
    let published = TextSampling::flux_1_dev(Shift::of_tokens(4096)).expect("valid").sampling;
    assert_eq!(recipe.sampling.sampler, published.sampler);
    assert_eq!(recipe.sampling.distilled_guidance, published.distilled_guidance);
    assert_eq!(published.sampler.solver, SolverConfig::Euler(Euler));
    assert!(recipe.sampling.describe().contains("Euler, told guidance 3.5"), "{}", recipe.sampling.describe());
    assert_eq!(TextRecipe::parse_value(recipe.to_value()).expect("the same"), recipe);
    for (change, words) in [
        ("network.transformer.input_size=64", "objective.timesteps do not fit: `shift.tokens` must be 1024, those of"),
        ("sampling.grid.shift.tokens=1024", "sampling.grid does not fit: `shift.tokens` must be 4096, those of"),
        ("network.transformer.guidance=null", "sampling.distilled_guidance is for networks that are told a scale"),
        ("network.transformer.guidance=-1", "network.transformer.guidance must be 0 or above, found -1"),
        ("sampling.distilled_guidance=-1", "sampling.distilled_guidance must be 0 or above, found -1"),
        ("network.transformer.axes=[16,56,58]", "network.transformer.axes must be even and together 128"),
        ("network.transformer.input_size=127", "network.transformer.input_size must be divisible by 2, found 127"),
        ("sampling.grid.shift=\"much\"", "expected a number, or {\"tokens\": 4096}"),
    ] {
        let error = read_text_recipe("flux.1-dev-mixflow", &[change.into()]).expect_err(words).to_string();
        assert!(error.contains(words), "{change}: {error}");
    }
    let words = read_text_recipe("words", &["sampling.distilled_guidance=3".into()]).expect_err("it is told none");
    assert!(words.to_string().contains("is for networks that are told a scale of guidance"), "{words}");
}
