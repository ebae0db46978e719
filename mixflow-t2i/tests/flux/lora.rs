//! Low-rank adapters of the transformer, as `diffusers`, `peft` and kohya have them.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use mixflow::backbones::Backbone;
use mixflow::backbones::embed::{patchify, unpatchify_planes};
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::Weights;
use mixflow_t2i::flux::{adapter, official_key};
use mixflow_t2i::{Flux, FluxConfig};
use mixflow_tests::{Fixture, adapted, assert_adapter_errs_like_bf16, assert_gradients, factor_key};

use crate::{CASES, config, network, text};

const CASE: &str = "lora/flux_lora";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lora/flux_lora_files").join(name)
}

fn base(device: &Device) -> Flux {
    network(&Fixture::read(CASES[0]), device)
}

/// The prediction in patches, as it was recorded: of 4 by 6 of them.
fn output(fixture: &Fixture, network: &Flux, device: &Device) -> Tensor<3> {
    let x = unpatchify_planes(fixture.tensor("in.x", device), [4, 6], 2);
    let time = fixture.tensor::<1>("in.timestep", device);
    patchify(network.forward(x, time, text(fixture, device)), 4, 2)
}

#[test]
fn an_adapter_beside_the_weights_has_the_official_output_and_gradients() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (network, _) = adapted(&fixture, base(&device), official_key);
    let found = output(&fixture, &network, &device);
    fixture.assert_close("out.forward_scale1", found.clone().into_data(), fixture.tolerance(None));
    let loss = (found - fixture.tensor("in.target", &device)).square().mean();
    fixture.assert_close("out.loss", loss.clone().into_data(), fixture.tolerance(None));
    let compared = assert_gradients(&fixture, &network, &mut loss.backward(), |path| factor_key(path, official_key));
    assert_eq!(compared, fixture.names("adapter.").len());
}

#[test]
fn beside_weights_of_16_bits_it_learns_as_weights_do() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (network, lora) = adapted(&fixture, base(&device), official_key);
    assert_adapter_errs_like_bf16(&network, &lora, |network| {
        (output(&fixture, network, &device) - fixture.tensor("in.target", &device)).square().mean()
    });
}

#[test]
fn files_of_diffusers_and_kohya_are_added_as_diffusers_adds_them() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    for (name, strength, expected) in [
        ("pytorch_lora_weights.safetensors", 1.0, "out.forward_scale1"),
        ("pytorch_lora_weights.safetensors", 0.5, "out.forward_scale0.5"),
        ("pytorch_lora_weights.safetensors", 0.0, "out.forward_base"),
        ("kohya.safetensors", 1.0, "out.kohya.forward"),
    ] {
        let read = adapter(Adapter::read(file(name)).expect("a file of an adapter")).expect("each layer once");
        let fused = read.fuse(base(&device), official_key, strength).expect("it fits");
        fixture.assert_close(expected, output(&fixture, &fused, &device).into_data(), fixture.tolerance(None));
    }
}

#[test]
fn a_folder_of_peft_is_added_as_diffusers_adds_it() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = r#"{"peft_type":"LORA","r":4,"lora_alpha":8}"#;
    std::fs::write(folder.path().join("adapter_config.json"), config).expect("room");
    for prefix in ["base_model.model.", "base_model.model.transformer."] {
        let weights = fixture.weights("adapter.").rename(|name| Some(format!("{prefix}{name}")));
        weights.write(folder.path().join("adapter_model.safetensors"), &[]).expect("room");
        let read = adapter(Adapter::read(folder.path()).expect("a folder of an adapter")).expect("each layer once");
        let fused = read.fuse(base(&device), official_key, 1.0).expect("it fits");
        let found = output(&fixture, &fused, &device).into_data();
        fixture.assert_close("out.forward_scale1", found, fixture.tolerance(None));
    }
}

/// The recorded tensors below `prefix` as a file, under other names.
fn written(fixture: &Fixture, prefix: &str, name: impl Fn(&str) -> String, folder: &Path) -> Adapter {
    let path = folder.join("adapter.safetensors");
    let weights = fixture.weights(prefix).rename(|old| Some(name(old)));
    weights.write(&path, &[]).expect("room");
    adapter(Adapter::read(&path).expect("a file of an adapter")).expect("each layer once")
}

#[test]
fn fused_layers_of_the_original_code_are_taken_apart() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |adapter: &Adapter, expected: &str| {
        let fused = adapter.fuse(base(&device), official_key, 1.0).expect("it fits");
        fixture.assert_close(expected, output(&fixture, &fused, &device).into_data(), fixture.tolerance(None));
    };
    let linear = written(&fixture, "kohya_linear1.", str::to_string, folder.path());
    check(&linear, "out.kohya_linear1.forward");
    let parts = ["attn.to_k", "attn.to_q", "attn.to_v", "proj_mlp"];
    let expected = parts.map(|part| format!("single_transformer_blocks.0.{part}"));
    assert_eq!(linear.layers().collect::<Vec<_>>(), expected);
    // The names of `peft` and `ComfyUI`: what stands before them, and dots.
    let dotted = |name: &str| {
        let name = name.replace("lora_unet_single_blocks_0_", "diffusion_model.single_blocks.0.");
        name.replace("lora_down", "lora_A").replace("lora_up", "lora_B")
    };
    check(&written(&fixture, "kohya_linear1.", dotted, folder.path()), "out.kohya_linear1.forward");
    // What diffusers made of kohya's file is the same; it puts the scale into the factors.
    let converted = written(&fixture, "out.kohya.converted.", str::to_string, folder.path());
    check(&converted, "out.kohya.forward");
}

/// Scale and shift of the last normalisation have changed places, as in its weights.
#[test]
fn halves_of_the_last_layer_change_places() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("adapter.safetensors");
    let factor = |values: Vec<f32>, shape: [usize; 2]| burn::tensor::TensorData::new(values, shape).into();
    let name = |half: &str| format!("lora_unet_final_layer_adaLN_modulation_1.lora_{half}.weight");
    let rows: Vec<f32> = (0..64).map(|row| row as f32).collect();
    let weights: Weights =
        [(name("down"), factor(vec![1.0; 32], [1, 32])), (name("up"), factor(rows, [64, 1]))].into_iter().collect();
    weights.write(&path, &[]).expect("room");
    let zeros = FluxConfig { ..config(&Fixture::read(CASES[0])) }.init(0, &device);
    let read = adapter(Adapter::read(&path).expect("a file of an adapter")).expect("each layer once");
    let fused = read.fuse(zeros, official_key, 1.0).expect("it fits");
    let first: Vec<f32> = fused.norm_out.linear.weight.val().narrow(1, 0, 1).into_data().iter().collect();
    let expected: Vec<f32> = (32..64).chain(0..32).map(|row| row as f32).collect();
    assert_eq!(first, expected);
}

#[test]
fn what_is_written_says_what_diffusers_writes() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (network, lora) = adapted(&fixture, base(&device), official_key);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("pytorch_lora_weights.safetensors");
    Adapter::of(&network, official_key, &lora).write(&path).expect("it can be written");
    let [ours, theirs] = [path.clone(), file("pytorch_lora_weights.safetensors")].map(|path| {
        let weights = Weights::read(path).expect("weights");
        weights.iter().map(|(name, tensor)| (name.to_string(), tensor.data().expect("values"))).collect::<Vec<_>>()
    });
    assert_eq!(ours, theirs);
    let fused = Adapter::read(&path).and_then(|adapter| adapter.fuse(base(&device), official_key, 1.0));
    let found = output(&fixture, &fused.expect("it fits"), &device);
    fixture.assert_close("out.forward_scale1", found.into_data(), fixture.tolerance(None));
}
