//! The training of a decoder from a recipe, with files of random weights in the published layouts.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use mixflow::autoencoder_training::RaeTraining;
use mixflow::data::DataConfig;
use mixflow::launch::{Preparation, decoder_run};
use mixflow::recipe::{AutoencoderConfig, DecoderRecipe, Recipe};
use mixflow::train::{Checkpoints, Event, LearningRate, Snapshot};
use mixflow_backbones::discriminator::DiscriminatorConfig;
use mixflow_backbones::lpips::Lpips;
use mixflow_backbones::weights::Weights;
use serde_json::{Value, json};

use crate::resume::temporary;

/// Writes every file that the recipe names, and the recipe.
fn write_recipe(folder: &Path) -> String {
    let device = Device::default();
    let path = |name: &str| folder.join(name).to_str().expect("the path is text").to_string();
    let recipe = json!({
        "kind": "rae-decoder",
        "name": "tiny",
        "data": {"kind": "shapes", "size": 32},
        "encoder": {
            "architecture": "dinov2", "channels": 3, "input_size": 28, "table_size": 28, "patch": 14, "width": 16, "depth": 1,
            "heads": 2, "hidden": 32, "registers": 4, "normalisation": "image-net"
        },
        "encoder_weights": path("encoder.safetensors"),
        "decoder": {"features": 16, "grid": 2, "patch": 16, "channels": 3, "width": 16, "depth": 1, "heads": 2, "hidden": 32},
        "training": {
            "steps": 6, "batch": 4, "parts": 2, "noise": 0.8, "seed": 1, "checkpoint_every": 4,
            "optimizer": {"learning_rate": {"kind": "constant", "rate": 0.001}, "average": 0.5},
            "perceptual": {"weights": [path("vgg16.safetensors"), path("heads.safetensors")], "widths": [4, 4, 6, 6, 6]},
            "adversarial": {
                "weights": path("dino.safetensors"), "start": 3, "discriminator_start": 1,
                "network": {
                    "input_size": 32, "patch": 8, "width": 16, "depth": 2, "heads": 2, "hidden": 32, "taps": [0], "kernel": 3
                },
                "optimizer": {"learning_rate": {"kind": "constant", "rate": 0.001}, "average": 0.0}
            }
        }
    });
    let config: DiscriminatorConfig =
        serde_json::from_value(recipe["training"]["adversarial"]["network"].clone()).expect("a discriminator");
    let lpips = Lpips::with_widths([4, 4, 6, 6, 6], 5, &device).weights();
    for (file, prefix) in [("vgg16", "features."), ("heads", "lin")] {
        let part = lpips.iter().filter(|(name, _)| name.starts_with(prefix));
        let part: Vec<_> = part.map(|(name, tensor)| (name, tensor.data().expect("in memory"))).collect();
        let views = part.iter().map(|(name, data)| {
            let view =
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, data.shape().to_vec(), data.as_bytes());
            (*name, view.expect("a tensor's bytes fill its shape"))
        });
        let bytes = safetensors::serialize(views, None).expect("names are unique");
        fs::write(folder.join(format!("{file}.safetensors")), bytes).expect("there is room");
    }
    config.features(6, &device).weights().write(folder.join("dino.safetensors"), &[]).expect("there is room");
    let text = recipe.to_string();
    let encoder: mixflow_backbones::encoder::EncoderConfig =
        serde_json::from_value(recipe["encoder"].clone()).expect("an encoder");
    encoder.init(7, &device).weights().write(folder.join("encoder.safetensors"), &[]).expect("there is room");
    fs::write(folder.join("recipe.json"), text).expect("there is room");
    path("recipe.json")
}

fn read(path: &str, changes: &[&str]) -> DecoderRecipe {
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    DecoderRecipe::read(path, &changes).expect("the recipe is valid").expect("it is one of a decoder")
}

/// Trains until the end, or stops after the step of this number.
fn train(recipe: &DecoderRecipe, folder: &Path, after: Option<u64>) -> Option<Vec<u8>> {
    let stop = AtomicBool::new(false);
    let run = decoder_run(recipe, folder, recipe.open().expect("the data fit"), &Device::default(), &stop)
        .expect("the files fit");
    let (encoder, decoder) = recipe.networks(&Device::default()).expect("the encoder fits");
    let decoder = run.train_decoder(&encoder, decoder, |event| {
        if matches!(event, Event::Stepped(report) if Some(report.step) == after) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    decoder.expect("training succeeds").map(|decoder| decoder.weights().to_safetensors(&[]).expect("in memory"))
}

fn snapshot(folder: &Path) -> Snapshot {
    let found = Checkpoints::new(folder.join("checkpoints"), 2).latest().expect("the folder can be listed");
    found.checkpoint.expect("a finished run has a checkpoint").snapshot
}

#[test]
fn a_decoder_is_trained_by_three_losses_and_resumes_to_the_bit() {
    let folder = temporary();
    let recipe = read(&write_recipe(folder.path()), &[]);
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    let expected = train(&recipe, &whole, None).expect("nobody asked it to stop");
    for after in [0, 2, 4] {
        assert!(train(&recipe, &stopped, Some(after)).is_none(), "stopped after step {after}");
    }
    assert!(train(&recipe, &stopped, None).expect("nobody asked it to stop") == expected);
    assert_eq!(snapshot(&stopped), snapshot(&whole));

    let log = fs::read_to_string(whole.join("metrics.jsonl")).expect("a finished run has a log");
    let last: Value = serde_json::from_str(log.lines().last().expect("six lines")).expect("lines are JSON");
    for term in ["l1", "lpips", "gan", "adaptive_weight", "discriminator"] {
        assert!(last[term].is_number(), "{term} of {last}");
    }
    // What comes out is what a recipe of a generator reads.
    let weights = Weights::from_safetensors(&expected).expect("bytes that were written can be read");
    recipe.decoder.init(0, &Device::default()).load(weights).expect("a decoder's weights");
}

#[test]
fn what_is_wrong_with_a_decoders_recipe_is_named() {
    let folder = temporary();
    let path = write_recipe(folder.path());
    for (change, words) in [
        ("training.stepz=7", "stepz"),
        ("training.parts=3", "--set training.parts=3: training.batch must be divisible"),
        ("training.perceptual.weights=[]", "training.perceptual.weights must name"),
        ("training.adversarial.limit=0", "training.adversarial.limit must be above 0"),
        ("decoder.grid=3", "decoder.features must be 16, and decoder.grid 2: the encoder gives 16 features"),
        ("data={\"kind\":\"latents\",\"path\":\"a\"}", "images, not latents"),
        ("data={\"kind\":\"folder\",\"path\":\"a\",\"size\":32,\"mask\":\"alpha\"}", "data.mask is for flow matching"),
        (
            "data={\"kind\":\"folder\",\"path\":\"a\",\"size\":32,\"flip\":true}",
            "data.flip mirrors images, which the training of a decoder does not",
        ),
        ("name=../up", "name"),
    ] {
        let error = DecoderRecipe::read(&path, &[change.into()]).expect_err("it is refused").to_string();
        assert!(error.contains(words), "{change}: {error}");
    }
    let error = read(&path, &["data.size=16"]).open().expect_err("the images are too small").to_string();
    assert!(error.contains("3 x 32 x 32") && error.contains("change data.size"), "{error}");
    let stop = AtomicBool::new(false);
    let recipe = read(&path, &["training.perceptual.weights=[\"absent.pth\"]"]);
    let error = decoder_run(&recipe, folder.path(), recipe.open().expect("the data fit"), &Device::default(), &stop)
        .expect_err("no file")
        .to_string();
    assert!(error.contains("absent.pth"), "{error}");
    // Other commands say what they cannot do with it, and `train` leaves other recipes alone.
    let error = Recipe::read(&path, &[]).expect_err("it trains no generator").to_string();
    assert!(error.contains("decoder"), "{error}");
    assert_eq!(DecoderRecipe::read("digits", &[]).expect("another reader's task"), None);
    assert_eq!(DecoderRecipe::read("no-such-file.json", &[]).expect("another reader's task"), None);
}

#[test]
fn the_papers_decoder_has_the_published_size_and_epochs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../mixflow/recipes/paper/rae-decoder-xl.json");
    let recipe = read(path, &[]);
    assert_eq!(DecoderRecipe::from_value(recipe.to_value()), Ok(recipe.clone()));
    assert_eq!(recipe.decoder.parameters(), 415_352_704);
    let RaeTraining { steps, batch, ref perceptual, ref adversarial, ref optimizer, .. } = recipe.training;
    let (perceptual, adversarial) = (perceptual.as_ref().expect("LPIPS"), adversarial.as_ref().expect("GAN"));
    let epoch = 1_281_167 / batch as u64; // images of ImageNet; what fills no batch is dropped
    assert_eq!(
        [steps, adversarial.start, adversarial.discriminator_start, perceptual.start],
        [16, 8, 6, 0].map(|e| e * epoch)
    );
    let rate = LearningRate::Cosine { rate: 2e-4, last: 2e-5, start: epoch, end: 16 * epoch, from_zero: true };
    assert_eq!((optimizer.learning_rate, adversarial.optimizer.learning_rate), (rate, rate));
    assert_eq!(adversarial.network, DiscriminatorConfig::default());
    assert_eq!((adversarial.weight, adversarial.limit, adversarial.augment, perceptual.weight), (0.75, 1e4, 1.0, 1.0));
    assert!(matches!(recipe.data, DataConfig::Folder { size: 256, random_crop: Some(384), flip: false, .. }));
}

#[test]
fn an_autoencoder_of_a_run_is_stopped_and_resumed() {
    let recipe = Recipe::read("rae", &["autoencoder.training.steps=6".into(), "autoencoder.training.batch=8".into()])
        .expect("the recipe is valid");
    let Some(config @ AutoencoderConfig::TrainedRae(_)) = recipe.encoding() else { panic!("it trains an autoencoder") };
    let data = recipe.data.open().expect("digits come along");
    let prepare = |folder: &Path, after: Option<u64>| {
        let stop = AtomicBool::new(false);
        let value = recipe.to_value();
        let preparation = Preparation { folder, recipe: &value, data: &data, device: &Device::default(), stop: &stop };
        let prepared = preparation.autoencoder(config, |event| {
            if matches!(event, Event::Stepped(report) if Some(report.step) == after) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        prepared.expect("training succeeds").is_some()
    };
    let (whole, stopped) = (temporary(), temporary());
    assert!(prepare(whole.path(), None));
    assert!(!prepare(stopped.path(), Some(2)) && !stopped.path().join("autoencoder.safetensors").exists());
    assert!(prepare(stopped.path(), None));
    let file = |folder: &Path| fs::read(folder.join("autoencoder.safetensors")).expect("it was trained");
    assert!(file(whole.path()) == file(stopped.path()));
}

#[test]
fn an_autoencoder_of_a_run_goes_on_with_the_networks_of_its_losses() {
    let (files, folder) = (temporary(), temporary());
    let adversarial = read(&write_recipe(files.path()), &[]).training.adversarial.expect("it has one");
    let dino = files.path().join("dino.safetensors");
    let loss = json!(adversarial);
    let set = ["steps=6".into(), "batch=8".into(), format!("adversarial={loss}")];
    let recipe = Recipe::read("rae", &set.map(|change| format!("autoencoder.training.{change}"))).expect("it is valid");
    let config = recipe.encoding().expect("it trains an autoencoder");
    let data = recipe.data.open().expect("digits come along");
    let prepare = |after: Option<u64>| {
        let (stop, value) = (AtomicBool::new(false), recipe.to_value());
        let device = &Device::default();
        let preparation = Preparation { folder: folder.path(), recipe: &value, data: &data, device, stop: &stop };
        let prepared = preparation.autoencoder(config, |event| {
            if matches!(event, Event::Stepped(report) if Some(report.step) == after) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        prepared.map(|autoencoder| autoencoder.is_some()).map_err(|error| error.to_string())
    };
    assert_eq!(prepare(Some(2)), Ok(false));
    let its = fs::read(&dino).expect("it was written");
    adversarial.network.features(9, &Device::default()).weights().write(&dino, &[]).expect("there is room");
    let error = prepare(None).expect_err("it is another network");
    assert!(error.contains("the run began with dino.safetensors of SHA-256"), "{error}");
    fs::write(&dino, its).expect("there is room");
    assert_eq!(prepare(None), Ok(true));
}
