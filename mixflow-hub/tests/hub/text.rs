//! Text to image of what was downloaded.

use std::fs;
use std::path::Path;

use mixflow::Pipeline;
use mixflow::backbones::autoencoder::{self, KlAutoencoderConfig};
use mixflow::backbones::weights::Weights;
use mixflow_hub::{Address, Client, Error, FromHub};
use mixflow_t2i::mmdit::official_key;
use mixflow_t2i::{MmDitConfig, TextPipeline};
use serde_json::{Value, json};

use crate::pipeline::published;
use crate::shared::Setting;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/text").join(name)
}

/// A tiny Stable Diffusion 3 as `diffusers` writes it, with the recorded text encoders and what a repository has besides.
fn write(folder: &Path) {
    let manifest: Value = serde_json::from_slice(&fs::read(fixture("sd3_prompt.json")).unwrap()).unwrap();
    let mut files: Vec<(&str, String)> = vec![
        ("model_index.json", json!({ "_class_name": "StableDiffusion3Pipeline" }).to_string()),
        ("README.md", "# tiny".into()),
        ("text_encoder/model.fp16.safetensors", "half".into()),
        ("transformer/diffusion_pytorch_model.bin", "pickle".into()),
        ("sd3_tiny.safetensors", "all in one".into()),
        (
            "scheduler/scheduler_config.json",
            json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0 }).to_string(),
        ),
        (
            "vae/config.json",
            json!({
                "_class_name": "AutoencoderKL", "block_out_channels": [4, 8], "in_channels": 3, "latent_channels": 4,
                "layers_per_block": 1, "norm_num_groups": 2, "scaling_factor": 1.5, "shift_factor": 0.1,
                "use_quant_conv": false, "use_post_quant_conv": false,
            })
            .to_string(),
        ),
    ];
    for (name, content) in manifest["files"].as_object().unwrap() {
        files.push((name, content.to_string()));
    }
    for tokenizer in ["tokenizer/tokenizer.json", "tokenizer_2/tokenizer.json"] {
        files.push((tokenizer, fs::read_to_string(fixture("tokenizer_clip.json")).unwrap()));
    }
    files.push(("tokenizer_3/tokenizer.json", fs::read_to_string(fixture("tokenizer_t5.json")).unwrap()));
    for (name, content) in files {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    for encoder in ["text_encoder", "text_encoder_2", "text_encoder_3"] {
        let prefix = format!("weights.{encoder}.");
        let weights = Weights::read(fixture("sd3_prompt.safetensors")).unwrap();
        let weights = weights.rename(|name| name.strip_prefix(&prefix).map(String::from));
        weights.write(folder.join(encoder).join("model.safetensors"), &[]).unwrap();
    }
    let device = Default::default();
    let transformer = MmDitConfig::from_diffusers(&folder.join("transformer/config.json")).unwrap().init(5, &device);
    let vae = KlAutoencoderConfig::from_diffusers(&folder.join("vae/config.json")).unwrap().init(6, &device);
    let networks = [
        ("transformer", Weights::of(&transformer, official_key)),
        ("vae", Weights::of(&vae, autoencoder::official_key)),
    ];
    for (part, weights) in networks {
        weights.write(folder.join(part).join("diffusion_pytorch_model.safetensors"), &[]).unwrap();
    }
}

fn open(client: &Client) -> Result<TextPipeline, Error> {
    TextPipeline::open(client, &"hf://org/sd3".parse().unwrap(), &Default::default(), |_| {})
}

#[test]
fn a_repository_of_diffusers_draws_what_its_folder_draws() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    write(folder.path());
    published(&setting, "org/sd3", folder.path());

    let draw = |mut pipeline: TextPipeline| {
        assert_eq!(pipeline.size, [16, 16]);
        let grid = &mut pipeline.pipeline.recipe.sampling.sampler.grid;
        *grid = grid.with_steps(3).unwrap();
        pipeline.images(&["a photo of a cat", "two foxes"], 1).unwrap()
    };
    let expected = draw(TextPipeline::from_folder(folder.path(), &Default::default()).unwrap());
    assert_eq!((expected.shape, expected.evaluations), ([2, 3, 16, 16], 6));
    let fetched = open(&setting.client()).unwrap();
    let source = Path::new(&fetched.pipeline.sources()[0]).parent().unwrap().with_file_name("");
    assert_eq!(draw(fetched), expected);
    // What is not needed was not fetched, and offline it is there.
    assert!(source.join("model_index.json").exists());
    for other in ["README.md", "sd3_tiny.safetensors", "text_encoder/model.fp16.safetensors"] {
        assert!(!source.join(other).exists(), "{other}");
    }
    assert_eq!(draw(open(&setting.client().offline(true)).unwrap()), expected);

    // It is no network for class labels, and a file is no pipeline.
    let error = Pipeline::open(&setting.client(), &"hf://org/sd3".parse().unwrap(), &Default::default(), |_| {});
    assert!(error.unwrap_err().to_string().contains("TextPipeline"));
    let file = "hf://org/sd3/vae/config.json".parse::<Address>().unwrap();
    let error = TextPipeline::open(&setting.client(), &file, &Default::default(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("leave it out"), "{error}");
}

#[test]
fn a_repository_of_something_else_is_refused() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("README.md"), "# nothing").unwrap();
    published(&setting, "org/sd3", folder.path());
    let error = open(&setting.client()).unwrap_err().to_string();
    assert!(error.contains("is no Stable Diffusion 3") && error.contains("README.md"), "{error}");
}

/// Z-Image's files, but another network: told before the large files are fetched.
#[test]
fn another_network_of_diffusers_is_refused_by_its_smallest_file() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let weights = "transformer/diffusion_pytorch_model.safetensors";
    let files = [
        ("model_index.json", r#"{ "_class_name": "QwenImagePipeline" }"#),
        ("text_encoder/model.safetensors", "large"),
        ("tokenizer/merges.txt", "a b"),
        ("transformer/config.json", r#"{ "_class_name": "QwenImageTransformer2DModel" }"#),
        (weights, "larger"),
        ("vae/config.json", "{}"),
    ];
    for (name, content) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    published(&setting, "org/sd3", folder.path());
    let error = open(&setting.client()).unwrap_err().to_string();
    let expected = "describes a QwenImageTransformer2DModel; expected SD3Transformer2DModel or MiniT2IMMJiTModel or \
                    FluxTransformer2DModel or ZImageTransformer2DModel";
    assert!(error.contains(expected), "{error}");
    assert!(!setting.server.asked("transformer/config.json").is_empty());
    for large in [weights, "text_encoder/model.safetensors"] {
        assert!(setting.server.asked(large).is_empty(), "{large}");
    }
}
