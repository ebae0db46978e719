//! The losses of RAE's decoder against the official code, on tiny networks.

use std::collections::BTreeSet;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use mixflow::Loss;
use mixflow::autoencoder_training::{
    AdversarialConfig, DiffAugment, Discriminator, LastLayer, Losses, Opponent, Perceptual, hinge, in_eight_bits,
};
use mixflow::train::OptimizerConfig;
use mixflow_backbones::discriminator::{Dino, DiscriminatorConfig, Heads};
use mixflow_backbones::encoder::Normalisation;
use mixflow_backbones::lpips::{Lpips, official_key};
use mixflow_backbones::rae::{Decoder, DecoderConfig};
use mixflow_backbones::weights::Weights;
use mixflow_tests::{Fixture, Tolerance, assert_gradients};

fn scalar(tensor: Tensor<1>) -> f64 {
    tensor.inner().into_scalar::<f64>()
}

fn lpips(device: &Device) -> Lpips {
    let fixture = Fixture::read("rae_training/lpips");
    let widths = fixture.manifest["config"]["widths"].as_array().expect("five widths");
    let widths = std::array::from_fn(|depth| widths[depth].as_u64().expect("a number") as usize);
    Lpips::with_widths(widths, 0, device).load([fixture.weights("weights.")]).expect("the weights fit")
}

fn discriminator(device: &Device) -> (Dino, Heads) {
    let fixture = Fixture::read("rae_training/discriminator");
    let config = &fixture.manifest["config"];
    let number = |name: &str| config[name].as_u64().unwrap_or_else(|| panic!("no {name}")) as usize;
    let width = number("embed_dim");
    let ratio = config["mlp_ratio"].as_f64().expect("a number") as usize;
    let taps = config["key_depths"].as_array().expect("depths");
    let config = DiscriminatorConfig {
        input_size: number("input_size"),
        patch: number("patch_size"),
        width,
        depth: number("depth"),
        heads: number("num_heads"),
        hidden: ratio * width,
        taps: taps.iter().map(|depth| depth.as_u64().expect("a number") as usize).collect(),
        kernel: number("ks"),
    };
    let features = config.features(0, device).load(fixture.weights("weights.dino.")).expect("the features fit");
    let heads = config.heads(0, device).load(only(&fixture, "heads.")).expect("the heads fit");
    (features, heads)
}

#[test]
fn lpips_equals_the_package_with_its_gradients() {
    let fixture = Fixture::read("rae_training/lpips");
    let device = Device::default().autodiff();
    let network = lpips(&device).freeze();
    let a = fixture.tensor::<4>("in.a", &device);
    let b = fixture.tensor::<4>("in.b", &device).require_grad();
    let distance = network.forward(a, b.clone());
    fixture.assert_close("out.distance", distance.clone().into_data(), fixture.tolerance(None));
    let gradients = (distance * Tensor::from_data([1.0, -2.0], &device)).sum().backward();
    let gradient = b.grad(&gradients).expect("the distance depends on the image");
    fixture.assert_close("out.grad.b", gradient.into_data(), fixture.tolerance(Some("grads")));
}

#[test]
fn lpips_reads_both_kinds_of_files() {
    let fixture = Fixture::read("rae_training/lpips");
    let whole = lpips(&Device::default());
    let bytes = |lpips: &Lpips| lpips.weights().to_safetensors(&[]).expect("in memory");
    let expected = bytes(&whole);
    let fresh = || Lpips::with_widths([4, 6, 6, 8, 8], 1, &Device::default());
    let package = fresh().load([fixture.weights("package.")]).expect("the state dict of the package");
    assert!(bytes(&package) == expected);
    // One of the two files is not enough, and what is missing is named.
    let error = fresh().load([only(&fixture, "features.")]).expect_err("the heads are missing").to_string();
    assert!(error.contains("lin0.model.1.weight") && error.contains("lin4.model.1.weight"), "{error}");
    for files in [["features.", "lin"], ["lin", "features."]] {
        let both = fresh().load(files.map(|start| only(&fixture, start))).expect("both files together");
        assert!(bytes(&both) == expected);
    }
}

/// The recorded weights whose names begin with `start`.
fn only(fixture: &Fixture, start: &str) -> Weights {
    let bytes = fixture.weights(&format!("weights.{start}")).to_safetensors(&[]).expect("in memory");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("weights that were written can be read");
    let named = tensors.iter().map(|(name, view)| (format!("{start}{name}"), view));
    let bytes = safetensors::serialize(named, None).expect("tensors that were read can be written");
    Weights::from_safetensors(&bytes).expect("bytes that were written can be read")
}

#[test]
fn lpips_has_the_published_names_and_shapes() {
    let listed: BTreeSet<String> =
        include_str!("../fixtures/keys/lpips_vgg16.txt").lines().map(str::to_string).collect();
    let network = Lpips::new(&Device::default());
    let mut found = BTreeSet::new();
    for (name, data) in Weights::of(&network, official_key).iter() {
        found.insert(format!("{name}\t{:?}\tfloat32", data.shape().to_vec()));
    }
    assert_eq!(found, listed);
}

#[test]
fn the_discriminator_equals_the_official_one_with_its_gradients() {
    let fixture = Fixture::read("rae_training/discriminator");
    let device = Device::default().autodiff();
    let (features, heads) = discriminator(&device);
    let (features, heads) = (features.freeze(), heads.freeze());
    let images = fixture.tensor::<4>("in.images", &device).require_grad();
    let logits = heads.forward(features.forward(images.clone()));
    fixture.assert_close("out.logits", logits.clone().into_data(), fixture.tolerance(None));
    let gradients = logits.mean().backward();
    let gradient = images.grad(&gradients).expect("the logits depend on the images");
    fixture.assert_close("out.grad.images", gradient.into_data(), fixture.tolerance(Some("grads")));
}

/// A decoder whose last layer is the recorded one.
fn decoder(fixture: &Fixture, device: &Device) -> Decoder {
    let config =
        DecoderConfig { features: 4, grid: 4, patch: 8, channels: 3, width: 12, depth: 1, heads: 1, hidden: 4 };
    let mut decoder = config.init(0, device);
    decoder.pred.weight = Param::from_tensor(fixture.tensor("in.weight", device).require_grad());
    decoder.pred.bias = Some(Param::from_tensor(fixture.tensor("in.bias", device).require_grad()));
    decoder
}

fn augment(fixture: &Fixture, view: &str) -> DiffAugment {
    let numbers = fixture.values(&format!("in.numbers.{view}"));
    let batch = numbers.len() / 7;
    DiffAugment::new((0..batch).map(|image| std::array::from_fn(|number| numbers[number * batch + image])).collect())
}

fn adversarial() -> AdversarialConfig {
    serde_json::from_value(serde_json::json!({
        "weights": "", "start": 0, "discriminator_start": 0, "optimizer": OptimizerConfig::default()
    }))
    .expect("what is left out is RAE's")
}

#[test]
fn a_step_of_the_decoder_has_the_official_losses_and_gradients() {
    let fixture = Fixture::read("rae_training/step");
    let device = Device::default().autodiff();
    let (features, heads) = discriminator(&device);
    let (perceptual, discriminator) = (Perceptual::new(lpips(&device)), Discriminator::new(features));
    let (decoder, augment, config) = (decoder(&fixture, &device), augment(&fixture, "generator"), adversarial());
    let last = LastLayer { decoder: &decoder, normalisation: Normalisation::ImageNet };
    let hidden = fixture.tensor::<3>("in.hidden", &device).require_grad();
    let images = fixture.tensor::<4>("in.real", &device);

    let augmented = augment.apply(last.images(hidden.clone()));
    fixture.assert_close("out.augmented", augmented.into_data(), fixture.tolerance(None));

    let opponent = Opponent { discriminator: &discriminator, heads: &heads, augment: &augment, config: &config };
    let losses = Losses { perceptual: Some((&perceptual, 1.0)), opponent: Some(opponent) };
    let Loss { total: loss, terms } = losses.of(last, hidden.clone(), &images);
    let Tolerance { relative, absolute } = fixture.tolerance(None);
    let close = |name: &str, found: f64| {
        let expected = fixture.values(&format!("out.{name}"))[0];
        assert!((found - expected).abs() <= absolute + relative * expected.abs(), "{name}: {found}, not {expected}");
    };
    assert_eq!(terms.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["l1", "lpips", "gan", "adaptive_weight"]);
    terms.into_iter().for_each(|(name, term)| close(name, scalar(term)));
    close("total", scalar(loss.clone()));

    let gradients = loss.backward();
    let tolerance = fixture.tolerance(Some("grads"));
    let gradient = hidden.grad(&gradients).expect("the loss depends on the tokens");
    fixture.assert_close("out.grad.hidden", gradient.into_data(), tolerance);
    let gradient = decoder.pred.weight.val().grad(&gradients).expect("the loss depends on the last layer");
    fixture.assert_close("out.grad.weight", gradient.into_data(), tolerance);
    let bias = decoder.pred.bias.as_ref().expect("it has one");
    let gradient = bias.val().grad(&gradients).expect("the loss depends on the last layer");
    fixture.assert_close("out.grad.bias", gradient.into_data(), tolerance);
    assert!(heads.heads[0].last.weight.val().grad(&gradients).is_none(), "the heads are not to learn from it");
}

#[test]
fn a_step_of_the_discriminator_has_the_official_loss_gradients_and_vectors() {
    let fixture = Fixture::read("rae_training/step");
    let device = Device::default().autodiff();
    let (features, heads) = discriminator(&device);
    let discriminator = Discriminator::new(features);
    let decoder = decoder(&fixture, &device);
    let last = LastLayer { decoder: &decoder, normalisation: Normalisation::ImageNet };
    let found = in_eight_bits(last.images(fixture.tensor("in.hidden", &device)));
    let found = discriminator.features(found, &augment(&fixture, "fake"));
    let real = discriminator.features(fixture.tensor("in.real", &device), &augment(&fixture, "real"));

    let judge_of_found = heads.power_iteration();
    let judge_of_real = judge_of_found.clone().power_iteration();
    let (found, real) = (judge_of_found.forward(found), judge_of_real.forward(real));
    let right = real.clone().greater(found.clone()).float().mean().inner().into_scalar::<f64>();
    assert!((right - fixture.values("out.accuracy")[0]).abs() < 1e-6, "{right} of the patches");
    let loss = hinge(real, found);
    fixture.assert_close("out.discriminator", loss.clone().into_data(), fixture.tolerance(None));
    for (name, tensor) in
        judge_of_real.weights().iter().filter(|(name, _)| name.ends_with("_u") || name.ends_with("_v"))
    {
        fixture.assert_close(&format!("out.state.{name}"), tensor.data().expect("in memory"), fixture.tolerance(None));
    }
    let compared = assert_gradients(&fixture, &judge_of_real, &mut loss.backward(), Heads::official_key);
    // Three heads: kernel and bias of three convolutions, scale and shift of two normalisations.
    assert_eq!(compared, 3 * (2 * 3 + 2 * 2));
}
