//! From a folder to images.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Precision;
use mixflow::backbones::autoencoder::{self, KlAutoencoderConfig};
use mixflow::backbones::weights::Weights;
use mixflow::recipe::AutoencoderConfig;
use mixflow::sampling::Images;
use mixflow::schedules::TimeGrid;
use mixflow_t2i::recipe::TextEncoderConfig;
use mixflow_t2i::{SkipLayers, TextEmbedding, TextPipeline, Words, from_diffusers, to_diffusers};
use mixflow_tests::{Fixture, Tolerance, close};
use serde_json::{Value, json};

use crate::CASES;

/// Small, for the latents of the first case.
fn autoencoder() -> KlAutoencoderConfig {
    KlAutoencoderConfig { widths: vec![4, 8], depth: 1, groups: 2, ..KlAutoencoderConfig::stable_diffusion_3() }
}

/// A folder as `diffusers` writes it, with the network of the first case.
fn folder() -> (tempfile::TempDir, Fixture) {
    let fixture = Fixture::read(CASES[0]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for part in ["transformer", "vae", "scheduler"] {
        fs::create_dir(folder.path().join(part)).expect("room");
    }
    let mut config = fixture.manifest["config"].clone();
    config["_class_name"] = "SD3Transformer2DModel".into();
    write(folder.path(), "transformer/config.json", &config);
    let shape = autoencoder();
    let config = json!({
        "_class_name": "AutoencoderKL", "block_out_channels": shape.widths, "in_channels": 3, "latent_channels": 16,
        "layers_per_block": 1, "norm_num_groups": 2, "scaling_factor": 1.5305, "shift_factor": 0.0609,
        "use_quant_conv": false, "use_post_quant_conv": false,
    });
    write(folder.path(), "vae/config.json", &config);
    let config = json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0 });
    write(folder.path(), "scheduler/scheduler_config.json", &config);
    let of_vae = Weights::of(&shape.init(3, &Device::default()), autoencoder::official_key);
    for (part, weights) in [("transformer", fixture.weights("weights.")), ("vae", of_vae)] {
        let file = folder.path().join(part).join("diffusion_pytorch_model.safetensors");
        weights.write(file, &[]).expect("room");
    }
    (folder, fixture)
}

fn write(folder: &Path, file: &str, value: &Value) {
    fs::write(folder.join(file), value.to_string()).expect("room");
}

/// Three prompts, each against its own negative one.
fn prompts(fixture: &Fixture) -> TextEmbedding {
    let device = Device::default();
    let all = |factors: [f64; 3]| {
        let rows = |x: Tensor<3>| Tensor::cat(factors.map(|factor| x.clone() * factor).into(), 0);
        let pooled = fixture.tensor::<2>("in.cond_pooled", &device).unsqueeze_dim::<3>(1);
        TextEmbedding::new(rows(fixture.tensor("in.cond", &device)), rows(pooled).squeeze_dim(1))
    };
    all([1.0, 0.5, -1.0]).with_negative(all([0.1, -0.3, 0.0]))
}

/// The folder has no encoder, and these prompts are encoded already.
fn opened(folder: &Path) -> Result<TextPipeline, mixflow_t2i::Error> {
    let pipeline = from_diffusers(folder)?.load(&Device::default())?;
    Ok(TextPipeline::with_encoder(pipeline, Box::new(Words { width: 1, tokens: 1, places: false })))
}

fn assert_same(found: &Images, expected: &Images) {
    assert_eq!(found.shape, expected.shape);
    let values = |images: &Images| images.pixels.iter().map(|&pixel| f64::from(pixel)).collect::<Vec<_>>();
    // A hundred or so products in f32, added in another order for another number of rows.
    close("pixels", &values(found), &values(expected), Tolerance { relative: 1e-4, absolute: 1e-4 });
}

#[test]
fn a_folder_makes_images_whatever_the_batch() {
    let (folder, fixture) = folder();
    let mut pipeline = opened(folder.path()).expect("a folder of diffusers");
    pipeline.size = [16, 24];
    let draw =
        |pipeline: &TextPipeline, text: &TextEmbedding, first| pipeline.draw(text, first, &mut |_| {}).expect("finite");
    let text = prompts(&fixture);
    // Latents of 8 x 12, two pixels a side each; two evaluations for each of 28 steps.
    let images = draw(&pipeline, &text, 5);
    assert_eq!((images.shape, images.evaluations), ([3, 3, 16, 24], 56));
    assert!(images.pixels.iter().all(|pixel| pixel.is_finite()));
    assert_eq!(draw(&pipeline, &text, 5), images, "the same again");
    pipeline.pipeline.recipe.sampling.batch = 2;
    assert_same(&draw(&pipeline, &text, 5), &images);
    // The second prompt alone, with the noise of its number.
    let second = mixflow::backbones::Condition::select(text.clone(), Tensor::from_data([1], &Device::default()));
    let alone = draw(&pipeline, &second, 6);
    let size = 3 * 16 * 24;
    let expected = Images {
        pixels: images.pixels[size..2 * size].to_vec(),
        shape: [1, 3, 16, 24],
        evaluations: 56,
        ..Images::default()
    };
    assert_same(&alone, &expected);
    pipeline.pipeline.recipe.seed = 1;
    assert_ne!(draw(&pipeline, &text, 5), images, "another seed");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let (folder, fixture) = folder();
    let text = prompts(&fixture);
    let refused = |change: &dyn Fn(&mut TextPipeline), size, words: &str| {
        let mut pipeline = opened(folder.path()).expect("a folder of diffusers");
        pipeline.size = size;
        change(&mut pipeline);
        let error = pipeline.draw(&text, 0, &mut |_| {}).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&|_| {}, [16, 25], "width must be a multiple of 4 pixels, at most 24, found 25");
    refused(&|_| {}, [28, 16], "height must be a multiple of 4 pixels, at most 24, found 28");
    refused(&|_| {}, [0, 16], "found 0");
    refused(&|pipeline| pipeline.pipeline.recipe.sampling.batch = 0, [16, 16], "batch must be at least 1");
    let skip = |blocks| SkipLayers { blocks, scale: 2.5, steps: [0.0, 1.0] };
    let skipping = |pipeline: &mut TextPipeline| pipeline.skip_layers = Some(skip(vec![0, 2]));
    refused(&skipping, [16, 16], "skip_layers.blocks must be 0 to 1, found 2");
}

#[test]
fn folders_that_are_not_whole_are_refused_in_words() {
    let refused = |change: &dyn Fn(&Path), words: &str| {
        let (folder, _) = folder();
        change(folder.path());
        let error = opened(folder.path()).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    let remove = |file: &'static str| move |folder: &Path| fs::remove_file(folder.join(file)).expect("it is there");
    refused(
        &remove("transformer/config.json"),
        "is no folder of Stable Diffusion 3, FLUX.1 or Z-Image as diffusers writes it",
    );
    refused(&remove("vae/diffusion_pytorch_model.safetensors"), "has no weights: expected diffusion_pytorch_model");
    refused(&remove("scheduler/scheduler_config.json"), "cannot read");
    let scheduler = |key: &'static str, value: Value| {
        move |folder: &Path| {
            let mut config = json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0 });
            config[key] = value.clone();
            write(folder, "scheduler/scheduler_config.json", &config);
        }
    };
    refused(&scheduler("_class_name", "DDIMScheduler".into()), "describes a DDIMScheduler");
    refused(&scheduler("use_dynamic_shifting", true.into()), "asks for use_dynamic_shifting");
    refused(&scheduler("shift", (-1).into()), "has the shift -1; expected one above 0");
    refused(&scheduler("num_train_timesteps", 10.into()), "has 10 training steps");
    let other = |folder: &Path| {
        let text = fs::read_to_string(folder.join("vae/config.json")).expect("it is there");
        let text = text.replace("\"latent_channels\":16", "\"latent_channels\":4");
        fs::write(folder.join("vae/config.json"), text).expect("room");
    };
    refused(&other, "does not belong together: the transformer has 16 channels, the autoencoder 4");
}

#[test]
fn what_is_written_for_diffusers_makes_the_same_images() {
    let (folder, fixture) = folder();
    let place = |name: &str| folder.path().join(name);
    for part in ["tokenizer/more", "tokenizer_2", "text_encoder", "text_encoder_2"] {
        fs::create_dir_all(place(part)).expect("room");
    }
    fs::write(place("tokenizer/more/merges.txt"), "a b").expect("room");
    fs::write(place("text_encoder/model.fp16.safetensors"), "half").expect("room");
    for name in ["model", "model.fp16"] {
        fs::write(place(&format!("text_encoder_2/{name}.safetensors")), name).expect("room");
    }
    let pipeline = opened(folder.path()).expect("a folder of diffusers");
    let out = place("out.1");
    fs::create_dir(place("out.partial")).expect("room");
    to_diffusers(&pipeline.pipeline, &out).expect("room");
    let again = opened(&out).expect("a folder of diffusers");
    let text = prompts(&fixture);
    let images = |pipeline: &TextPipeline| pipeline.draw(&text, 0, &mut |_| {}).expect("finite");
    assert_eq!(images(&again), images(&pipeline));
    assert_eq!(fs::read_to_string(out.join("tokenizer/more/merges.txt")).expect("it was there"), "a b");
    // By the one name that is asked for, full or half.
    for (file, content) in [("text_encoder", "half"), ("text_encoder_2", "model")] {
        let file = out.join(file).join("model.safetensors");
        assert_eq!(fs::read_to_string(file).expect("it is asked for"), content);
    }
    let json = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(out.join(file)).expect("it was written")).expect("JSON")
    };
    let index = json("model_index.json");
    // Two pixels for each side of the latents: the tiles of `enable_tiling` are whole images.
    let side = fixture.manifest["config"]["sample_size"].as_u64().expect("a side");
    assert_eq!(json("vae/config.json")["sample_size"], 2 * side);
    assert_eq!(index["tokenizer"], json!(["transformers", "CLIPTokenizer"]));
    assert_eq!((&index["tokenizer_3"], &index["vae"]), (&json!([null, null]), &json!(["diffusers", "AutoencoderKL"])));
    // Sampled with another shift, it is sampled so by diffusers.
    let mut shifted = opened(folder.path()).expect("a folder of diffusers").pipeline;
    shifted.recipe.sampling.sampler.grid = TimeGrid::stable_diffusion_3(28, 5.0).expect("in range");
    to_diffusers(&shifted, &place("shifted")).expect("room");
    let grid = opened(&place("shifted")).expect("a folder of diffusers").pipeline.recipe.sampling.sampler.grid;
    assert_eq!(grid, shifted.recipe.sampling.sampler.grid);
    // Nothing else is touched, and nothing left.
    assert!(place("out.partial").is_dir() && hidden(folder.path()).is_empty());

    let there = to_diffusers(&pipeline.pipeline, &out).expect_err("it is there").to_string();
    assert!(there.contains("expected a new folder"), "{there}");
    let inside =
        to_diffusers(&pipeline.pipeline, &place("tokenizer/out")).expect_err("it would hold itself").to_string();
    assert!(inside.contains("lies in a folder that is part of it"), "{inside}");
    let mut low = opened(folder.path()).expect("a folder of diffusers").pipeline;
    low.network = Precision::Bf16.of_frozen(low.network);
    let fault = to_diffusers(&low, &place("other")).expect_err("rounded").to_string();
    assert!(fault.contains("its weights are rounded to 16 bits"), "{fault}");
    let shards = place("text_encoder/model.safetensors.index.fp16.json");
    fs::write(&shards, "{}").expect("room");
    let fault = to_diffusers(&pipeline.pipeline, &place("other")).expect_err("half, in shards").to_string();
    assert!(fault.contains("text_encoder: has weights in half precision alone, in shards"), "{fault}");
    fs::remove_file(shards).expect("it is there");
    fs::rename(place("tokenizer_2"), place("elsewhere")).expect("room");
    let fault = to_diffusers(&pipeline.pipeline, &place("other")).expect_err("half of it").to_string();
    assert!(fault.contains("has no tokenizer_2, which network.text.folder is to hold"), "{fault}");
    fs::rename(place("elsewhere"), place("tokenizer_2")).expect("room");
    let mut words = pipeline.pipeline;
    words.recipe.network.text = TextEncoderConfig::Words(Words { width: 1, tokens: 1, places: false });
    let none = to_diffusers(&words, &place("other")).expect_err("no encoders").to_string();
    assert!(none.contains("diffusers has no pipeline for this network"), "{none}");

    for (key, schedule, prediction) in [
        ("says the data", json!({ "kind": "linear", "reversed": true }), "data"),
        ("runs to the data", json!({ "kind": "linear" }), "velocity"),
    ] {
        let mut changed = opened(folder.path()).expect("a folder of diffusers").pipeline;
        let objective = json!({ "schedule": schedule, "prediction": prediction });
        changed.recipe.objective = serde_json::from_value(objective).expect("an objective");
        let fault = to_diffusers(&changed, &place("other")).expect_err(key).to_string();
        assert!(fault.contains("on the reversed linear path alone, and takes velocities alone"), "{fault}");
    }

    let mut lost = opened(folder.path()).expect("a folder of diffusers").pipeline;
    let Some(AutoencoderConfig::Kl { weights, .. }) = &mut lost.recipe.autoencoder else { panic!("it has latents") };
    *weights = place("lost.safetensors");
    to_diffusers(&lost, &place("other")).expect_err("no autoencoder");
    assert!(!place("other").exists() && hidden(folder.path()).is_empty());
}

/// Names that begin with a dot.
fn hidden(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a name").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with('.')).collect()
}
