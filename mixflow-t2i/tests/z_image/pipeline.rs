//! From a folder to images.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use mixflow::evaluation::Generator;
use mixflow::sampling::Guidance;
use mixflow::schedules::TimeGrid;
use mixflow_t2i::{TextPipeline, TextSampling, to_diffusers};
use mixflow_tests::{Fixture, close};
use serde_json::{Value, json};

use crate::folder::{change, encoder, prompts, write_folder};

fn opened(folder: &Path) -> TextPipeline {
    TextPipeline::from_folder(folder, &Device::default()).expect("a published folder")
}

#[test]
fn images_are_those_that_diffusers_draws() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_folder(folder.path());
    let (mut pipeline, device) = (opened(folder.path()), Device::default());
    pipeline.encoder = Box::new(encoder(folder.path(), &fixture));
    let all = prompts(&fixture);
    let text = pipeline.encode(&all.iter().map(String::as_str).collect::<Vec<_>>()).expect("whole files");
    // Guidance 1 is none here, and 0 there.
    for (name, guidance) in [("guided", Some(Guidance::new(2.5).expect("a scale"))), ("alone", None)] {
        let recipe = &mut pipeline.pipeline.recipe;
        recipe.sampling = recipe.sampling.with_steps(4).expect("steps");
        recipe.sampling.guidance = guidance;
        let pipeline = &pipeline.pipeline;
        let generator = Generator { shape: [4, 8, 12], ..pipeline.generator() };
        let (flow, noise) = (generator.flow_of(text.clone()).expect("no guide"), fixture.tensor("in.latents", &device));
        let (mut states, mut silent) = (vec![], |_, _| panic!("a deterministic solver drew noise"));
        let visit = |_, x: &Tensor<4>| states.push(x.clone());
        let end = pipeline.recipe.sampling.sampler.trajectory(&flow, noise, &mut silent, visit).expect("finite");
        let states = Tensor::stack::<5>(states.split_off(1), 0).into_data();
        fixture.assert_close(&format!("out.{name}.trajectory"), states, fixture.tolerance(None));
        let images = pipeline.autoencoder.as_ref().expect("it has latents").decode(end.x);
        let images = ((images + 1.0) / 2.0).clamp(0.0, 1.0);
        fixture.assert_close(&format!("out.{name}.images"), images.into_data(), fixture.tolerance(None));
    }
}

fn sigmas(grid: TimeGrid) -> Vec<f64> {
    grid.times().iter().map(|t| 1.0 - t).collect()
}

#[test]
fn a_folder_is_sampled_as_its_model_card_says() {
    let fixture = Fixture::read("z_image/pipeline");
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_folder(folder.path());
    for (shift, steps, guidance) in [(3.0, 8, None), (6.0, 50, Some(5.0))] {
        change(&folder.path().join("scheduler/scheduler_config.json"), |config| config["shift"] = shift.into());
        let pipeline = opened(folder.path());
        let sampling = &pipeline.pipeline.recipe.sampling;
        assert_eq!(sampling.guidance.map(|guidance| guidance.scale()), guidance);
        let name = format!("out.sigmas.shift{shift:.1}.steps{steps}");
        close(&name, &sigmas(sampling.sampler.grid), &fixture.values(&name), fixture.tolerance(None));
        assert_eq!(pipeline.size, [256, 256]);
    }
    let published =
        [TextSampling::z_image_turbo(3.0), TextSampling::z_image(6.0)].map(|all| all.expect("valid").sampling);
    assert_eq!(opened(folder.path()).pipeline.recipe.sampling, published[1]);
    assert_eq!(published[0].sampler.grid.steps(), 8);

    let mut pipeline = opened(folder.path());
    pipeline.pipeline.recipe.sampling = pipeline.pipeline.recipe.sampling.with_steps(2).expect("steps");
    pipeline.size = [16, 24];
    let images = pipeline.images(&["a cat", "two foxes under the moon"], 0).expect("finite");
    assert_eq!((images.shape, images.evaluations), ([2, 3, 16, 24], 4));
    pipeline.size = [16, 18];
    let error = pipeline.images(&["a cat"], 0).expect_err("half a token").to_string();
    assert!(error.contains("width must be a multiple of 4 pixels"), "{error}");
    change(&folder.path().join("scheduler/scheduler_config.json"), |config| {
        config["use_dynamic_shifting"] = true.into()
    });
    let error = TextPipeline::from_folder(folder.path(), &Device::default()).expect_err("another grid").to_string();
    assert!(error.contains("asks for use_dynamic_shifting"), "{error}");
}

#[test]
fn what_is_written_for_diffusers_makes_the_same_images() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (base, out) = (folder.path().join("base"), folder.path().join("out"));
    fs::create_dir(&base).expect("room");
    let fixture = write_folder(&base);
    let mut pipeline = opened(&base);
    to_diffusers(&pipeline.pipeline, &out).expect("room");
    let again = opened(&out);
    assert_eq!(again.pipeline.recipe.sampling, pipeline.pipeline.recipe.sampling);
    let images = |pipeline: &mut TextPipeline| {
        pipeline.pipeline.recipe.sampling = pipeline.pipeline.recipe.sampling.with_steps(2).expect("steps");
        pipeline.size = [16, 24];
        pipeline.images(&["a cat"], 0).expect("finite").pixels
    };
    assert_eq!(images(&mut { again }), images(&mut pipeline));
    let written = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(out.join(file)).expect("it was written")).expect("JSON")
    };
    // What `save_pretrained` writes of the same parts.
    assert_eq!(written("model_index.json"), fixture.manifest["files"]["model_index.json"]);
    let transformer = &fixture.manifest["files"]["transformer/config.json"];
    for (key, value) in written("transformer/config.json").as_object().expect("an object") {
        assert!(key == "axes_lens" || transformer[key] == *value, "{key}: {value}");
    }
    assert_eq!(written("scheduler/scheduler_config.json")["shift"], json!(3.0));
    pipeline.pipeline.recipe.objective =
        serde_json::from_value(json!({ "schedule": { "kind": "linear", "reversed": true } })).expect("an objective");
    let fault = to_diffusers(&pipeline.pipeline, &folder.path().join("other")).expect_err("the other way").to_string();
    assert!(fault.contains("on the linear path that is not reversed alone"), "{fault}");
}
