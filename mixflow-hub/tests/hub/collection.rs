//! RAE's own layout: `nyu-visionx/RAE-collections` has networks, decoders and statistics in folders of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use mixflow::Pipeline;
use mixflow::backbones::dit_dh::DitDhConfig;
use mixflow::backbones::encoder::EncoderConfig;
use mixflow::backbones::rae::DecoderConfig;
use mixflow::backbones::weights::Weights;
use mixflow::backbones::{Network, NetworkConfig};
use mixflow::recipe::{AutoencoderConfig, Recipe};
use serde_json::{Value, json};

use crate::shared::Setting;
use crate::systems::{from_repository, rae, statistics};

const NETWORK: &str = "DiTs/Dinov2/wReg_base/ImageNet256/DiTDH-XL/stage2_model.pt";
const DECODER: &str = "decoders/dinov2/wReg_base/ViTXL_n08/model.pt";
const STATISTICS: &str = "stats/dinov2/wReg_base/imagenet1k/stat.pt";

/// Weights of all that a recipe has: the network's, decoder's, statistics' and encoder's.
fn weights(recipe: &Recipe) -> (Network, [Weights; 4]) {
    let Some(AutoencoderConfig::Rae { encoder, decoder, .. }) = &recipe.autoencoder else {
        panic!("the recipe has RAE's autoencoder");
    };
    let device = Default::default();
    let (encoder, decoder): (&EncoderConfig, &DecoderConfig) = (encoder, decoder);
    let statistics = statistics(encoder.width, encoder.grid()).weights();
    let network = recipe.network.init(3, &device);
    let all = [network.weights(), decoder.init(2, &device).weights(), statistics, encoder.init(1, &device).weights()];
    (network, all)
}

/// The layout of ours.
fn write_ours(folder: &Path, recipe: &Value, [network, decoder, statistics, encoder]: &[Weights; 4]) {
    network.write(folder.join("model.safetensors"), &[]).unwrap();
    decoder.write_pytorch(folder.join("decoder.pt")).unwrap();
    statistics.write_pytorch(folder.join("statistics.pt")).unwrap();
    encoder.write(folder.join("encoder.safetensors"), &[]).unwrap();
    fs::write(folder.join("config.json"), recipe.to_string()).unwrap();
}

/// RAE's layout, and what else there is in the collection.
fn write_theirs(folder: &Path, [network, decoder, statistics, encoder]: &[Weights; 4]) {
    for (file, weights) in [(NETWORK, network), (DECODER, decoder), (STATISTICS, statistics)] {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        weights.write_pytorch(file).unwrap();
    }
    fs::create_dir_all(folder.join("encoder")).unwrap();
    encoder.write(folder.join("encoder/model.safetensors"), &[]).unwrap();
    for other in [
        "DiTs/Dinov2/wReg_base/ImageNet256/DiTDH-S_ep20/stage2_model.pt",
        "DiTs/Dinov2/wReg_base/ImageNet512/DiTDH-XL/stage2_model.pt",
        "decoders/mae/base_p16/ViTXL_n08/model.pt",
        "stats/mae/base_p16/imagenet1k/stat.pt",
    ] {
        let file = folder.join(other);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "not to be read").unwrap();
    }
}

fn bits(pipeline: &Pipeline, labels: &[usize]) -> Vec<u32> {
    pipeline.images(labels, 5).unwrap().pixels.iter().map(|pixel| pixel.to_bits()).collect()
}

#[test]
fn the_collection_of_rae_makes_the_images_of_our_layout() {
    let (setting, ours, theirs) = (Setting::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recipe = rae();
    let (_, weights) = weights(&Recipe::from_value(recipe.clone()).unwrap());
    write_ours(ours.path(), &recipe, &weights);
    write_theirs(theirs.path(), &weights);
    fs::write(theirs.path().join("config.json"), recipe.to_string()).unwrap();
    // The encoder is in a repository of its own.
    let encoder = fs::read(theirs.path().join("encoder/model.safetensors")).unwrap();
    let name = "facebook/dinov2-with-registers-base";
    setting.server.commit(name, "main", &[("model.safetensors", &encoder, true)]);

    let expected = bits(&Pipeline::from_folder(ours.path(), &Default::default()).unwrap(), &[2, 0]);
    let pipeline = Pipeline::from_folder(theirs.path(), &Default::default()).unwrap();
    assert_eq!(bits(&pipeline, &[2, 0]), expected);
    for file in [NETWORK, DECODER, STATISTICS] {
        let found = pipeline.sources().iter().filter(|source| source.ends_with(file)).count();
        assert_eq!(found, 1, "{file}: {:?}", pipeline.sources());
    }
    assert_eq!(bits(&from_repository(&setting, theirs.path()), &[2, 0]), expected);
    for other in ["DiTDH-S_ep20", "ImageNet512", "/mae/"] {
        assert!(setting.server.asked(other).is_empty(), "{other}");
    }

    // The training checkpoint of RAE's own program, of which the average counts.
    if let Some(part) = saved_by_torch(&theirs.path().join(NETWORK)) {
        let pipeline = Pipeline::from_folder(theirs.path(), &Default::default()).unwrap();
        assert!(pipeline.sources()[0].ends_with(&part), "{:?}", pipeline.sources());
        assert_eq!(bits(&pipeline, &[2, 0]), expected);
        assert_eq!(bits(&from_repository(&setting, theirs.path()), &[2, 0]), expected);
    }
    // A file in the middle that is missing is named.
    fs::remove_file(theirs.path().join(STATISTICS)).unwrap();
    fs::remove_dir_all(theirs.path().join("stats/mae")).unwrap();
    let error = Pipeline::from_folder(theirs.path(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("statistics.pt, which is not there"), "{error}");
}

/// Saves a file again as PyTorch does, the network as the average beside another; the part that it is then.
fn saved_by_torch(file: &Path) -> Option<String> {
    let python = std::env::var("MIXFLOW_PYTHON").unwrap_or("python3".into());
    let program = "import sys, torch\n\
                   network = torch.load(sys.argv[1], weights_only=True)\n\
                   other = {name: torch.zeros_like(value) for name, value in network.items()}\n\
                   torch.save({'step': 7, 'model': other, 'ema': network}, sys.argv[1])";
    let done = Command::new(python).args(["-c", program]).arg(file).output();
    if done.is_ok_and(|output| output.status.success()) {
        return Some("stage2_model.pt, part `ema`".into());
    }
    eprintln!("skipped: neither MIXFLOW_PYTHON nor python3 has torch");
    None
}

#[test]
#[ignore = "needs 12 GB of memory and two minutes"]
fn networks_of_published_sizes_are_known_by_their_tensors() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut recipe = Recipe::read("paper/dit-dh-xl-256", &[]).unwrap();
    recipe.network = NetworkConfig::DitDh(DitDhConfig::small());
    let (_, weights) = weights(&recipe);
    let mut value = recipe.to_value();
    for (key, file) in
        [("encoder_weights", "encoder.safetensors"), ("decoder_weights", "decoder.pt"), ("statistics", "statistics.pt")]
    {
        value["autoencoder"][key] = json!(file);
    }
    write_ours(ours.path(), &value, &weights);
    write_theirs(theirs.path(), &weights);
    drop(weights);
    let step = |mut pipeline: Pipeline| {
        assert_eq!(pipeline.recipe.network, recipe.network);
        pipeline.recipe.sampling.sampler.grid = mixflow::schedules::TimeGrid::new(1).unwrap();
        bits(&pipeline, &[207])
    };
    let expected = step(Pipeline::from_folder(ours.path(), &Default::default()).unwrap());
    assert!(expected.len() == 3 * 256 * 256);
    assert_eq!(step(Pipeline::from_folder(theirs.path(), &Default::default()).unwrap()), expected);
}
