//! Weights and configurations of published files.

use std::fs::{self, File};
use std::path::Path;

use burn::tensor::{Device, TensorData};
use mixflow::backbones::weights::Weights;
use mixflow_t2i::flux::official_key;
use mixflow_t2i::{Flux, FluxConfig};
use mixflow_tests::{Fixture, official_names};
use serde_json::{Value, json};

use crate::{CASES, config, network};

/// The recorded network under the names of Black Forest Labs, by the recorded map: tensors of `diffusers` one behind the other,
/// or the halves of one in the other order.
fn original(fixture: &Fixture, prefix: &str) -> Weights {
    let weights = fixture.weights("weights.");
    let map = fixture.manifest["key_map_bfl"].as_object().expect("a map");
    let mut used = 0;
    let tensors: Weights = (map.iter())
        .map(|(name, sources)| {
            let sources: Vec<&str> = sources.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
            let swapped = sources.last() == Some(&"SWAP_HALVES");
            let sources = &sources[..sources.len() - usize::from(swapped)];
            let tensors: Vec<_> = sources.iter().map(|name| weights.get(name).expect("it is recorded")).collect();
            let rows: usize = tensors.iter().map(|tensor| tensor.shape()[0]).sum();
            let shape = [&[rows], &tensors[0].shape()[1..]].concat();
            let data = tensors.iter().map(|tensor| tensor.data().expect("in memory"));
            let mut values: Vec<f32> = data.flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect();
            if swapped {
                let half = values.len() / 2;
                values.rotate_left(half);
            }
            used += tensors.len();
            (format!("{prefix}{name}"), TensorData::new(values, shape).into())
        })
        .collect();
    assert_eq!(used, weights.iter().len(), "the map covers the network");
    tensors
}

#[test]
fn the_original_names_hold_the_same_network() {
    let device = Device::default();
    let bytes = |net: &Flux| Weights::of(net, official_key).to_safetensors(&[]).expect("in memory");
    for case in CASES {
        let fixture = Fixture::read(case);
        let expected = bytes(&network(&fixture, &device));
        for prefix in ["", "model.diffusion_model."] {
            let loaded = config(&fixture).init(1, &device).load(original(&fixture, prefix));
            assert!(bytes(&loaded.expect("the same network")) == expected, "other weights came back");
        }
    }
}

/// A file with these names and shapes in 16 bits, of which nothing but its header lies on the disk.
fn sparse(path: &Path, list: &str) {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for line in official_names(list) {
        let mut parts = line.split('\t');
        let (name, shape) = (parts.next().expect("a name"), parts.next().expect("a shape"));
        let shape: Vec<u64> = serde_json::from_str(shape).expect("a list");
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(name.into(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }));
    }
    let header = Value::from(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    fs::write(path, &bytes).expect("room");
    let file = File::options().write(true).open(path).expect("just written");
    file.set_len(bytes.len() as u64 + end).expect("a file with holes");
}

#[test]
fn published_lists_of_both_namings_are_the_network() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (config, name) in [(FluxConfig::dev(), "dev"), (FluxConfig::schnell(), "schnell")] {
        let network = config.init(0, &Device::default());
        for naming in ["diffusers", "bfl"] {
            let path = folder.path().join("model.safetensors");
            sparse(&path, &format!("flux1_{name}_{naming}"));
            let weights = Flux::select_weights(Weights::read(&path).expect("a whole file")).expect("one network");
            weights.check(&network, official_key).expect("all names and shapes");
            // Of another file some are missing.
            let other = FluxConfig { guidance: if name == "dev" { None } else { Some(1.0) }, ..config.clone() };
            weights
                .check(&other.init(0, &Device::default()), official_key)
                .expect_err("it has a guidance, or has none");
        }
    }
}

fn read(changes: Value) -> Result<FluxConfig, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.json");
    // `transformer/config.json` of `black-forest-labs/FLUX.1-dev`.
    let mut config = json!({
        "_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.30.0.dev0", "attention_head_dim": 128,
        "guidance_embeds": true, "in_channels": 64, "joint_attention_dim": 4096, "num_attention_heads": 24,
        "num_layers": 19, "num_single_layers": 38, "patch_size": 1, "pooled_projection_dim": 768
    });
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    fs::write(&file, config.to_string()).expect("room");
    FluxConfig::from_diffusers(&file).map_err(|error| error.to_string())
}

#[test]
fn published_configurations_are_those_that_are_known() {
    assert_eq!(read(json!({})), Ok(FluxConfig::dev()));
    assert_eq!(read(json!({ "guidance_embeds": false })), Ok(FluxConfig::schnell()));
    assert_eq!(read(FluxConfig::dev().to_diffusers()), Ok(FluxConfig::dev()));
    for case in CASES {
        let fixture = Fixture::read(case);
        let found = read(fixture.manifest["config"].clone());
        assert_eq!(found, Ok(FluxConfig { input_size: 128, ..config(&fixture) }));
    }
    for (changes, words) in [
        (json!({ "_class_name": "SD3Transformer2DModel" }), "describes a SD3Transformer2DModel; expected Flux"),
        (json!({ "patch_size": 2 }), "patch_size must be 1 and in_channels divisible by 4, found 2 and 64"),
        (json!({ "in_channels": 66 }), "patch_size must be 1 and in_channels divisible by 4, found 1 and 66"),
        (json!({ "out_channels": 32 }), "out_channels must be in_channels, found 32 and 64"),
        (
            json!({ "attention_head_dim": 64 }),
            "axes must be even and together 64, the width of a head, found [16, 56, 56]",
        ),
        (json!({ "num_layers": 0 }), "depth must be from 1 to 65536, found 0"),
        (json!({ "axes_dims_rope": [15, 57, 56] }), "axes must be even and together 128"),
    ] {
        let fault = read(changes).expect_err(words);
        assert!(fault.contains(words), "{fault}");
    }
}
