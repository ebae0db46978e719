//! A tiny FLUX.1 in a folder.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Condition;
use mixflow::backbones::autoencoder::{self, KlAutoencoderConfig};
use mixflow::data::Conditioner;
use mixflow::schedules::Shift;
use mixflow_backbones::weights::Weights;
use mixflow_t2i::flux::official_key;
use mixflow_t2i::prompts::PromptTable;
use mixflow_t2i::recipe::TextEncoderConfig;
use mixflow_t2i::text::{FluxEncoders, TextEncoder};
use mixflow_t2i::{FluxConfig, TextEmbedding, TextPipeline, to_diffusers};
use mixflow_tests::{Fixture, close};
use serde_json::{Value, json};

use crate::pipeline::{prompts, write_pipeline};

/// The encoders of the recorded pipeline that FLUX has, where it has them.
fn write_encoders(folder: &Path) -> Fixture {
    let fixture = write_pipeline(folder);
    for name in ["text_encoder_2", "tokenizer_2"] {
        fs::remove_dir_all(folder.join(name)).expect("a folder");
    }
    for name in ["text_encoder", "tokenizer"] {
        fs::rename(folder.join(format!("{name}_3")), folder.join(format!("{name}_2"))).expect("a folder");
    }
    // Its CLIP has no projection.
    let clip =
        fixture.weights("weights.text_encoder.").rename(|name| (!name.contains("projection")).then(|| name.into()));
    clip.write(folder.join("text_encoder/model.safetensors"), &[]).expect("a file");
    fixture
}

fn opened(folder: &Path) -> FluxEncoders {
    let encoders = FluxEncoders::from_folder(folder, &Device::default()).expect("a whole folder");
    encoders.with_t5_length(24).expect("room for tokens")
}

fn values(text: &TextEmbedding) -> Vec<f64> {
    text.tokens.to_data().iter::<f64>().chain(text.pooled.to_data().iter()).collect()
}

#[test]
fn prompts_are_what_diffusers_makes_of_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_encoders(folder.path());
    let recorded = Fixture::read("text/flux_prompt");
    let tolerance = recorded.tolerance(None);
    let (encoders, all) = (opened(folder.path()), prompts(&fixture));
    let text = encoders.encode(&all).expect("whole files");
    recorded.assert_close("out.tokens", text.tokens.clone().into_data(), tolerance);
    recorded.assert_close("out.pooled", text.pooled.clone().into_data(), tolerance);
    assert_eq!(encoders.widths(), Some([text.tokens.dims()[2], text.pooled.dims()[1]]));
    // The file of a CLIP that has the projection serves, too.
    let clip = fixture.weights("weights.text_encoder.");
    clip.write(folder.path().join("text_encoder/model.safetensors"), &[]).expect("a file");
    assert_eq!(values(&opened(folder.path()).encode(&all).expect("whole files")), values(&text));
    // As does one that Transformers 5 has flattened.
    let clip = fixture.weights("weights.text_encoder.");
    let flat = clip.rename(|name| Some(name.strip_prefix("text_model.")?.into()));
    assert_eq!(flat.iter().len() + 1, fixture.weights("weights.text_encoder.").iter().len());
    flat.write(folder.path().join("text_encoder/model.safetensors"), &[]).expect("a file");
    assert_eq!(values(&opened(folder.path()).encode(&all).expect("whole files")), values(&text));
    // In blocks they are read once.
    let mut blocks = vec![];
    let mut sink = |text: TextEmbedding| {
        blocks.push(text);
        Ok(())
    };
    encoders.encode_blocks(&[&all[..3], &all[3..]], &mut sink).expect("whole files");
    let tokens = Tensor::cat(blocks.iter().map(|text| text.tokens.clone()).collect(), 0);
    let pooled = Tensor::cat(blocks.iter().map(|text| text.pooled.clone()).collect(), 0);
    close("blocks", &values(&TextEmbedding::new(tokens, pooled)), &values(&text), tolerance);
}

/// What CLIP says is the pooled prompt, what T5 says the tokens.
#[test]
fn each_of_two_encoders_is_left_out_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = write_encoders(folder.path());
    let (encoders, device) = (opened(folder.path()), Device::default());
    assert_eq!(encoders.parts().len(), 2);
    let prompt = [prompts(&fixture)[0].to_string()];
    let table = PromptTable::prepare(&folder.path().join("table"), &prompt, &encoders, |_| Ok(())).expect("a table");
    let told = table.conditions(&[0], &device).expect("a prompt");
    let numbers = |text: TextEmbedding| {
        [text.tokens.into_data(), text.pooled.into_data()].map(|part| part.iter::<f32>().collect::<Vec<_>>())
    };
    let left = |part| numbers(told.clone().mask_part(part, Tensor::from_data([true], &device)));
    let ([tokens, pooled], [no_tokens, no_pooled]) = (numbers(told.clone()), numbers(told.clone().null()));
    assert!(tokens != no_tokens && pooled != no_pooled);
    assert_eq!(left(0), [tokens, no_pooled]);
    assert_eq!(left(1), [no_tokens, pooled]);
}

#[test]
fn encoders_are_known_by_their_content() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_encoders(folder.path());
    let identity = || opened(folder.path()).identity().expect("whole files");
    let first = identity();
    assert_ne!(opened(folder.path()).with_t5_length(25).expect("room").identity().expect("whole files"), first);
    for name in ["text_encoder/model.safetensors", "text_encoder_2/model.safetensors"] {
        let path = folder.path().join(name);
        let bytes = fs::read(&path).expect("a file");
        let mut changed = bytes.clone();
        *changed.last_mut().expect("weights") ^= 1;
        fs::write(&path, changed).expect("a file");
        assert_ne!(identity(), first, "{name}");
        fs::write(&path, bytes).expect("a file");
    }
    assert_eq!(identity(), first);
    let long = "a cat a cat a cat a cat a cat a cat a cat a cat a cat a cat, blue and red";
    let cuts = opened(folder.path()).truncations(&["a cat", long]).expect("tokens");
    assert_eq!(cuts.iter().map(|cut| (cut.prompt, cut.encoder)).collect::<Vec<_>>(), [(1, "CLIP-L"), (1, "T5")]);
    fs::remove_dir_all(folder.path().join("tokenizer_2")).expect("a folder");
    let error = FluxEncoders::from_folder(folder.path(), &Device::default()).expect_err("a fault").to_string();
    assert!(error.contains("lacks tokenizer_2:"), "{error}");
}

/// The rest of the folder: for 16 by 16 pixels of the latents, half of that of the images.
fn write_networks(folder: &Path, guidance: Option<f64>, scheduler: Value) {
    let network = FluxConfig {
        input_size: 128,
        channels: 4,
        width: 16,
        depth: 1,
        single_depth: 1,
        heads: 2,
        axes: [2, 2, 4],
        context_width: 48,
        pooled_width: 16,
        guidance,
    };
    let shape = KlAutoencoderConfig {
        latent_channels: 4,
        widths: vec![4, 8],
        depth: 1,
        groups: 2,
        ..KlAutoencoderConfig::flux_1()
    };
    let mut vae = shape.to_diffusers();
    vae["_class_name"] = "AutoencoderKL".into();
    let mut scheduler = scheduler;
    scheduler["_class_name"] = "FlowMatchEulerDiscreteScheduler".into();
    for (file, value) in [
        ("transformer/config.json", network.to_diffusers()),
        ("vae/config.json", vae),
        ("scheduler/scheduler_config.json", scheduler),
    ] {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("room");
        fs::write(file, value.to_string()).expect("room");
    }
    let device = Device::default();
    let drawn = Weights::of(&network.init(5, &device), official_key).flat_map(|name, tensor| {
        let data = tensor.data().expect("in memory");
        let numbers: Vec<f32> =
            (0..).zip(data.iter::<f32>()).map(|(i, value)| value + 0.1 * (i as f32).sin()).collect();
        [(name, burn::tensor::TensorData::new(numbers, tensor.shape().to_vec()).into())]
    });
    let of_vae = Weights::of(&shape.init(3, &device), autoencoder::official_key);
    for (part, weights) in [("transformer", drawn), ("vae", of_vae)] {
        weights.write(folder.join(part).join("diffusion_pytorch_model.safetensors"), &[]).expect("room");
    }
}

/// As `black-forest-labs/FLUX.1-dev` and `FLUX.1-schnell` have them.
fn schedulers() -> [Value; 2] {
    let line = |dynamic, shift| {
        json!({
            "base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
            "num_train_timesteps": 1000, "shift": shift, "use_dynamic_shifting": dynamic
        })
    };
    [line(true, 3.0), line(false, 1.0)]
}

#[test]
fn a_published_folder_makes_images() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_encoders(folder.path());
    let [dev, schnell] = schedulers();
    let open = || TextPipeline::from_folder(folder.path(), &Device::default());
    write_networks(folder.path(), Some(1.0), dev.clone());
    let mut pipeline = open().expect("a published folder");
    let sampling = &pipeline.pipeline.recipe.sampling;
    assert_eq!((sampling.sampler.grid.steps(), sampling.distilled_guidance), (28, Some(3.5)));
    let grid = mixflow::schedules::TimeGrid::new(28).and_then(|grid| grid.shift(Shift::of_tokens(4096)));
    assert_eq!(sampling.sampler.grid, grid.expect("a grid"));
    pipeline.pipeline.recipe.sampling = sampling.with_steps(3).expect("steps");
    pipeline.size = [16, 24];
    let images = pipeline.images(&["a cat", "two foxes"], 0).expect("finite");
    assert_eq!((images.shape, images.evaluations), ([2, 3, 16, 24], 3));
    assert!(images.pixels.iter().all(|pixel| pixel.is_finite()));
    let drawn = |pipeline: &TextPipeline| pipeline.images(&["a cat"], 0).expect("finite").pixels;
    let first = drawn(&pipeline);
    assert_ne!(first, images.pixels[3 * 16 * 24..]);
    pipeline.pipeline.recipe.sampling.distilled_guidance = Some(1.0);
    assert_ne!(drawn(&pipeline), first);
    pipeline.size = [16, 18];
    let error = pipeline.images(&["a cat"], 0).expect_err("half a token").to_string();
    assert!(error.contains("width must be a multiple of 4 pixels"), "{error}");

    write_networks(folder.path(), None, schnell);
    let pipeline = open().expect("a published folder");
    let sampling = &pipeline.pipeline.recipe.sampling;
    assert_eq!((sampling.sampler.grid.steps(), sampling.distilled_guidance), (4, None));
    assert_eq!(sampling.sampler.grid, mixflow::schedules::TimeGrid::new(4).expect("a grid"));

    // Without guidance, but with the times of dev: sampled as that is, and told none.
    write_networks(folder.path(), None, dev.clone());
    let pipeline = open().expect("a published folder");
    let recipe = &pipeline.pipeline.recipe;
    assert_eq!((recipe.sampling.sampler.grid.steps(), recipe.sampling.distilled_guidance), (28, None));
    let TextEncoderConfig::Flux1 { tokens, .. } = recipe.network.text else { panic!("it has these encoders") };
    assert_eq!(tokens, 512);
    assert!(pipeline.images(&["a cat"], 0).is_ok());

    for (key, value, words) in [
        ("max_image_seq_len", json!(1024), "expected base_image_seq_len 256, max_image_seq_len 4096, exponential"),
        ("time_shift_type", json!("linear"), "expected base_image_seq_len 256"),
        ("use_karras_sigmas", json!(true), "asks for use_karras_sigmas"),
    ] {
        let mut other = dev.clone();
        other[key] = value;
        write_networks(folder.path(), Some(1.0), other);
        let error = open().expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    fs::remove_file(folder.path().join("vae/config.json")).expect("it is there");
    let error = open().expect_err("no autoencoder").to_string();
    assert!(error.contains("is no folder of Stable Diffusion 3, FLUX.1 or Z-Image as diffusers writes it"), "{error}");
}

#[test]
fn what_is_written_for_diffusers_makes_the_same_images() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = folder.path().join("base");
    fs::create_dir(&base).expect("room");
    write_encoders(&base);
    let [dev, schnell] = schedulers();
    for (guidance, scheduler, name) in [(Some(1.0), dev, "dev"), (None, schnell, "schnell")] {
        write_networks(&base, guidance, scheduler.clone());
        let open = |folder: &Path| TextPipeline::from_folder(folder, &Device::default()).expect("a published folder");
        let (pipeline, out) = (open(&base), folder.path().join(name));
        to_diffusers(&pipeline.pipeline, &out).expect("room");
        let again = open(&out);
        assert_eq!(again.pipeline.recipe.sampling, pipeline.pipeline.recipe.sampling);
        let images = |mut pipeline: TextPipeline| {
            pipeline.pipeline.recipe.sampling = pipeline.pipeline.recipe.sampling.with_steps(2).expect("steps");
            pipeline.size = [16, 24];
            pipeline.images(&["a cat"], 0).expect("finite").pixels
        };
        assert_eq!(images(again), images(pipeline));
        let json = |file: &str| -> Value {
            serde_json::from_slice(&fs::read(out.join(file)).expect("it was written")).expect("JSON")
        };
        let index = json("model_index.json");
        for (part, class) in [
            ("text_encoder", json!(["transformers", "CLIPTextModel"])),
            ("text_encoder_2", json!(["transformers", "T5EncoderModel"])),
            ("tokenizer_2", json!(["transformers", "T5TokenizerFast"])),
            ("transformer", json!(["diffusers", "FluxTransformer2DModel"])),
            ("_class_name", json!("FluxPipeline")),
        ] {
            assert_eq!(index[part], class, "{part}");
        }
        assert!(index.get("text_encoder_3").is_none());
        // Latents of 128, two pixels each.
        assert_eq!(json("vae/config.json")["sample_size"], 256);
        // What diffusers shifts by is what it was published with.
        let written = json("scheduler/scheduler_config.json");
        let keys = match guidance {
            Some(_) => {
                &["use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len"][..]
            }
            None => &["shift"],
        };
        assert!(keys.iter().all(|key| written[key] == scheduler[key]), "{written}");
    }
}
