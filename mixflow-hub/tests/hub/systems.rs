//! Images of the systems with more than one network: REPA with Stable Diffusion's autoencoder, DiT^DH with RAE's.

use std::fs;
use std::path::Path;

use mixflow::Pipeline;
use mixflow::backbones::NetworkConfig;
use mixflow::backbones::autoencoder::{self, KlAutoencoderConfig};
use mixflow::backbones::encoder::EncoderConfig;
use mixflow::backbones::rae::{DecoderConfig, LatentStatistics};
use mixflow::backbones::repa::RepaConfig;
use mixflow::backbones::weights::Weights;
use mixflow::data::Classes;
use mixflow::evaluation::Generator;
use mixflow::recipe::{AutoencoderConfig, Recipe};
use mixflow::schedules::TimeGrid;
use mixflow_hub::FromHub;
use serde_json::{Value, json};

use crate::pipeline::published;
use crate::shared::Setting;

/// The files of a folder as a repository, and what opens it.
pub(crate) fn from_repository(setting: &Setting, folder: &Path) -> Pipeline {
    published(setting, "org/system", folder);
    Pipeline::open(&setting.client(), &"hf://org/system".parse().unwrap(), &Default::default(), |_| {}).unwrap()
}

/// Random latents have statistics of no use; these are not those that a fresh network has.
pub(crate) fn statistics(channels: usize, side: usize) -> LatentStatistics {
    let device = Default::default();
    let mut statistics = LatentStatistics::new([channels, side, side], &device);
    statistics.mean = statistics.mean.map(|mean| mean + 0.25);
    statistics.variance = statistics.variance.map(|variance| variance * 4.0);
    statistics
}

/// A recipe of small networks of RAE's kinds, with the files of its autoencoder beside it.
pub(crate) fn rae() -> Value {
    let mut recipe = Recipe::read("paper/dit-dh-xl-256", &[]).unwrap().to_value();
    recipe["network"] = json!({
        "kind": "dit-dh", "input_size": 2, "channels": 16, "classes": 3,
        "encoder": { "width": 16, "depth": 2, "heads": 2, "hidden": 32 },
        "head": { "width": 32, "depth": 1, "heads": 2, "hidden": 32 }
    });
    recipe["autoencoder"] = json!({
        "kind": "rae",
        "encoder": {
            "architecture": "dinov2", "channels": 3, "input_size": 28, "table_size": 28, "patch": 14, "width": 16, "depth": 1,
            "heads": 2, "hidden": 32, "registers": 4, "normalisation": "image-net"
        },
        "decoder": {
            "features": 16, "grid": 2, "patch": 4, "channels": 3, "width": 16, "depth": 1, "heads": 2, "hidden": 32
        },
        "encoder_weights": "encoder.safetensors", "decoder_weights": "decoder.pt", "statistics": "statistics.pt"
    });
    recipe["sampling"]["grid"]["steps"] = json!(2);
    recipe
}

#[test]
fn dit_dh_makes_images_through_the_decoder_of_rae() {
    let (setting, folder) = (Setting::new(), tempfile::tempdir().unwrap());
    let (device, path) = (Default::default(), |name: &str| folder.path().join(name));
    let recipe = rae();
    let encoder: EncoderConfig = serde_json::from_value(recipe["autoencoder"]["encoder"].clone()).unwrap();
    let decoder: DecoderConfig = serde_json::from_value(recipe["autoencoder"]["decoder"].clone()).unwrap();
    encoder.init(1, &device).weights().write(path("encoder.safetensors"), &[]).unwrap();
    decoder.init(2, &device).weights().write_pytorch(path("decoder.pt")).unwrap();
    statistics(16, 2).weights().write_pytorch(path("statistics.pt")).unwrap();
    fs::write(path("config.json"), recipe.to_string()).unwrap();
    let mut recipe = Recipe::from_value(recipe).unwrap();
    let network = recipe.network.init(3, &device);
    network.weights().write(path("model.safetensors"), &[]).unwrap();

    // The same by hand.
    let Some(AutoencoderConfig::Rae { encoder_weights, decoder_weights, statistics, .. }) = &mut recipe.autoencoder
    else {
        panic!("the recipe has RAE's autoencoder");
    };
    for file in [encoder_weights, decoder_weights, statistics] {
        *file = path(file.to_str().unwrap());
    }
    let autoencoder = recipe.autoencoder.as_ref().unwrap().load(folder.path(), &Default::default()).unwrap();
    let classes = Classes(recipe.network.classes());
    let generator = Generator { autoencoder: Some(&*autoencoder), ..recipe.generator(&network, &classes) };
    let expected = generator.images(&[2, 0], 5).unwrap();
    assert_eq!(expected.shape, [2, 3, 8, 8]);

    let pipeline = Pipeline::from_folder(folder.path(), &Default::default()).unwrap();
    assert_eq!((pipeline.image_channels(), pipeline.sources().len()), (3, 4));
    assert_eq!(pipeline.images(&[2, 0], 5).unwrap(), expected);
    assert_eq!(from_repository(&setting, folder.path()).images(&[2, 0], 5).unwrap(), expected);

    fs::remove_file(path("statistics.pt")).unwrap();
    let error = Pipeline::from_folder(folder.path(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("expected statistics.pt, which is not there"), "{error}");
}

#[test]
fn repa_is_known_by_its_tensors_and_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let repa = RepaConfig {
        input_size: 4,
        depth: 1,
        width: 384,
        heads: 6,
        hidden: 64,
        classes: 3,
        encoder_depth: 1,
        projectors: vec![24],
        projector_hidden: 32,
        ..RepaConfig::base(2)
    };
    let network = NetworkConfig::Repa(repa).init(1, &device);
    network.weights().write_pytorch(folder.path().join("last.pt")).unwrap();
    let kl = KlAutoencoderConfig { widths: vec![32, 32], depth: 1, ..KlAutoencoderConfig::stable_diffusion() };
    let decoder = kl.init(2, &device);
    let vae = folder.path().join("vae");
    fs::create_dir_all(&vae).unwrap();
    let weights = Weights::of(&decoder, autoencoder::official_key);
    weights.write(vae.join("diffusion_pytorch_model.safetensors"), &[]).unwrap();
    let config = json!({
        "_class_name": "AutoencoderKL", "block_out_channels": [32, 32], "latent_channels": 4, "layers_per_block": 1,
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"]
    });
    fs::write(vae.join("config.json"), config.to_string()).unwrap();

    let mut pipeline = Pipeline::from_folder(folder.path(), &Default::default()).unwrap();
    pipeline.recipe.sampling.sampler.grid = TimeGrid::new(2).unwrap();
    assert!(matches!(&pipeline.recipe.network, NetworkConfig::Repa(found) if found.projectors == [24]));
    let classes = Classes(pipeline.recipe.network.classes());
    let generator = Generator { autoencoder: Some(&decoder), ..pipeline.recipe.generator(&network, &classes) };
    let expected = generator.images(&[0, 2], 0).unwrap();
    assert_eq!(expected.shape, [2, 3, 8, 8]);
    assert_eq!(pipeline.images(&[0, 2], 0).unwrap(), expected);
}
