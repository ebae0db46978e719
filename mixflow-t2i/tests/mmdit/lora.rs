//! Low-rank adapters of the transformer, as `diffusers` and `peft` have them.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::Backbone;
use mixflow::backbones::lora::{Adapter, LoraConfig};
use mixflow::backbones::weights::{LazyTensor, Weights};
use mixflow_t2i::MmDit;
use mixflow_t2i::mmdit::{adapter, official_key};
use mixflow_tests::{Fixture, adapted, assert_adapter_errs_like_bf16, assert_gradients, factor_key};

use crate::{config, network, text};

const CASE: &str = "lora/sd3_lora_attn_text";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lora/sd3_lora_attn_text_files").join(name)
}

fn output(fixture: &Fixture, network: &MmDit, device: &Device) -> Tensor<4> {
    let time = fixture.tensor::<1>("in.timestep", device) / 1000.0;
    let text = text(fixture, ["in.encoder_hidden_states", "in.pooled_projections"], device);
    network.forward(fixture.tensor("in.x", device), time, text)
}

/// That of the recorded case, with the recorded factors.
fn attached(fixture: &Fixture, device: &Device) -> (MmDit, LoraConfig) {
    adapted(fixture, network(fixture, device), official_key)
}

#[test]
fn an_adapter_beside_the_weights_has_the_official_output_and_gradients() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (adapted, _) = attached(&fixture, &device);
    let found = output(&fixture, &adapted, &device);
    fixture.assert_close("out.forward_scale1", found.clone().into_data(), fixture.tolerance(None));
    let loss = (found - fixture.tensor("in.target", &device)).square().mean();
    fixture.assert_close("out.loss", loss.clone().into_data(), fixture.tolerance(None));
    let compared = assert_gradients(&fixture, &adapted, &mut loss.backward(), |path| factor_key(path, official_key));
    assert_eq!(compared, fixture.names("adapter.").len());
}

#[test]
fn beside_weights_of_16_bits_it_learns_as_weights_do() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (adapted, lora) = attached(&fixture, &device);
    assert_adapter_errs_like_bf16(&adapted, &lora, |network| {
        (output(&fixture, network, &device) - fixture.tensor("in.target", &device)).square().mean()
    });
}

#[test]
fn files_of_diffusers_and_peft_are_added_as_they_add_them() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    for (name, strength, expected) in [
        ("pytorch_lora_weights.safetensors", 1.0, "out.forward_scale1"),
        ("pytorch_lora_weights.safetensors", 0.5, "out.forward_scale0.5"),
        ("pytorch_lora_weights.safetensors", 0.0, "out.forward_base"),
        // Alpha is twice the rank, and only the metadata says so.
        ("pytorch_lora_weights_without_metadata.safetensors", 1.0, "out.forward_scale0.5"),
        ("peft", 1.0, "out.forward_scale1"),
    ] {
        let adapter = Adapter::read(file(name)).expect("a file of an adapter");
        let fused = adapter.fuse(network(&fixture, &device), official_key, strength).expect("it fits");
        fixture.assert_close(expected, output(&fixture, &fused, &device).into_data(), fixture.tolerance(None));
    }
}

/// As `ComfyUI` and kohya have them: layers that are one there are taken apart, halves change places.
#[test]
fn names_of_the_stability_code_are_known() {
    let (fixture, device, folder) = (Fixture::read(CASE), Device::default(), tempfile::tempdir().expect("a folder"));
    let (base, depth) = (network(&fixture, &device), config(&fixture).depth);
    let (weights, last) = (Weights::of(&base, official_key), format!("transformer_blocks.{}", depth - 1));
    let in_last = |name: &str| format!("{last}.{name}");
    let block = |names: &[&str]| names.iter().map(|name| format!("transformer_blocks.0.{name}")).collect::<Vec<_>>();
    let layers = [
        ("joint_blocks.0.x_block.attn.qkv".into(), block(&["attn.to_q", "attn.to_k", "attn.to_v"]), false),
        (
            "joint_blocks.0.context_block.attn.qkv".into(),
            block(&["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
            false,
        ),
        ("joint_blocks.0.context_block.mlp.fc1".into(), block(&["ff_context.net.0.proj"]), false),
        (
            format!("joint_blocks.{}.context_block.adaLN_modulation.1", depth - 1),
            vec![in_last("norm1_context.linear")],
            true,
        ),
        ("final_layer.adaLN_modulation.1".into(), vec!["norm_out.linear".into()], true),
        ("y_embedder.mlp.2".into(), vec!["time_text_embed.text_embedder.linear_2".into()], false),
    ];
    let wave =
        |count: usize, phase: f32| (0..count).map(|place| (place as f32 * 0.7 + phase).sin()).collect::<Vec<_>>();
    let factor = |values: Vec<f32>, shape: [usize; 2]| LazyTensor::from(TensorData::new(values, shape));
    let (mut official, mut dotted, mut underscored) = (vec![], vec![], vec![]);
    for (number, (theirs, ours, swapped)) in layers.into_iter().enumerate() {
        let sides = |name: &String| weights.get(&format!("{name}.weight")).expect(name).shape().to_vec();
        let inputs = sides(&ours[0])[1];
        let a = wave(2 * inputs, number as f32);
        let mut together = vec![];
        for name in &ours {
            let rows = sides(name)[0];
            let b = wave(2 * rows, 3.0 + together.len() as f32);
            together.extend(if swapped { [&b[rows..], &b[..rows]].concat() } else { b.clone() });
            official.push((format!("transformer.{name}.lora_A.weight"), factor(a.clone(), [2, inputs])));
            official.push((format!("transformer.{name}.lora_B.weight"), factor(b, [rows, 2])));
        }
        let rows = together.len() / 2;
        let kohya = format!("lora_unet_{}", theirs.replace('.', "_"));
        for (ends, values, shape) in [(["A", "down"], a, [2, inputs]), (["B", "up"], together, [rows, 2])] {
            dotted.push((format!("diffusion_model.{theirs}.lora_{}.weight", ends[0]), factor(values.clone(), shape)));
            underscored.push((format!("{kohya}.lora_{}.weight", ends[1]), factor(values, shape)));
        }
    }
    let fused = |name: &str, tensors: Vec<(String, LazyTensor)>| {
        let path = folder.path().join(name);
        tensors.into_iter().collect::<Weights>().write(&path, &[]).expect("room");
        let read = adapter(Adapter::read(path).expect("a file of an adapter"), depth).expect("each layer once");
        let fused = read.fuse(base.clone(), official_key, 1.0).expect("it fits");
        Weights::of(&fused, official_key).to_safetensors(&[]).expect("values")
    };
    let expected = fused("official", official);
    assert!(expected != weights.to_safetensors(&[]).expect("values"));
    assert!(fused("dotted", dotted) == expected);
    assert!(fused("underscored", underscored) == expected);
}

#[test]
fn what_is_written_says_what_diffusers_writes() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (adapted, lora) = attached(&fixture, &device);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("pytorch_lora_weights.safetensors");
    Adapter::of(&adapted, official_key, &lora).write(&path).expect("it can be written");
    let theirs = file("pytorch_lora_weights.safetensors");
    let [ours, expected] = [&path, &theirs].map(|path| Weights::read(path).expect("weights"));
    assert_eq!(ours.iter().len(), expected.iter().len());
    for (name, tensor) in expected.iter() {
        assert_eq!(ours.get(name).expect(name).data().expect("values"), tensor.data().expect("values"), "{name}");
    }
    let config = |path: &Path| -> serde_json::Value {
        let bytes = std::fs::read(path).expect("a file");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
        let text = &header.metadata().as_ref().expect("metadata")["lora_adapter_metadata"];
        serde_json::from_str(text).expect("JSON")
    };
    let [ours, expected] = [config(&path), config(&theirs)];
    for (key, value) in ours.as_object().expect("an object") {
        // Theirs are ends of names, ours whole ones.
        if key != "transformer.target_modules" {
            assert_eq!(value, &expected[key], "{key}");
        }
    }
    assert_eq!(ours["transformer.r"], 4);
}
