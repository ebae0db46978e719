//! Weights and configurations of published files.

use burn::tensor::{Device, TensorData};
use mixflow::backbones::keys::renamed;
use mixflow::backbones::weights::Weights;
use mixflow_t2i::z_image::official_key;
use mixflow_t2i::{ZImage, ZImageConfig};
use mixflow_tests::Fixture;
use serde_json::{Value, json};

use crate::{TINY, config, network};

/// The recorded network as the official code has it: queries, keys and values one behind the other.
fn original(prefix: &str) -> Weights {
    let weights = Fixture::read(TINY).weights("weights.");
    let values = |name: &str| {
        let data = weights.get(name).expect("it is recorded").data().expect("in memory");
        (data.shape()[1], data.iter::<f32>().collect::<Vec<_>>())
    };
    const NAMES: [(&str, &str); 5] = [
        ("all_x_embedder.2-1.", "x_embedder."),
        ("all_final_layer.2-1.", "final_layer."),
        (".norm_q.", ".q_norm."),
        (".norm_k.", ".k_norm."),
        (".to_out.0.", ".out."),
    ];
    let own = weights.clone().flat_map(|name, tensor| {
        if name.contains(".to_k.") || name.contains(".to_v.") {
            return vec![];
        }
        if !name.contains(".to_q.") {
            return vec![(format!("{prefix}{}", renamed(&name, &NAMES)), tensor)];
        }
        let [(width, q), (_, k), (_, v)] = ["to_q", "to_k", "to_v"].map(|part| values(&name.replace("to_q", part)));
        let all = TensorData::new([q, k, v].concat(), [3 * width, width]);
        vec![(format!("{prefix}{}", name.replace("to_q", "qkv")), all.into())]
    });
    // Which nobody uses.
    let unused: Weights =
        [(format!("{prefix}norm_final.weight"), TensorData::from([1.0f32; 32]).into())].into_iter().collect();
    own.iter().chain(unused.iter()).map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
}

#[test]
fn the_original_names_hold_the_same_network() {
    let device = Device::default();
    let bytes = |net: &ZImage| Weights::of(net, official_key).to_safetensors(&[]).expect("in memory");
    let expected = bytes(&network(&device));
    let fixture = Fixture::read(TINY);
    for prefix in ["", "model.diffusion_model."] {
        let loaded = config(&fixture).init(1, &device).load(original(prefix)).expect("the same network");
        assert!(bytes(&loaded) == expected, "other weights came back");
    }
}

fn read(changes: Value) -> Result<ZImageConfig, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.json");
    // `transformer/config.json` of `Tongyi-MAI/Z-Image-Turbo`.
    let mut config = json!({
        "_class_name": "ZImageTransformer2DModel", "_diffusers_version": "0.36.0.dev0", "all_f_patch_size": [1],
        "all_patch_size": [2], "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "cap_feat_dim": 2560, "dim": 3840,
        "in_channels": 16, "n_heads": 30, "n_kv_heads": 30, "n_layers": 30, "n_refiner_layers": 2, "norm_eps": 1e-5,
        "qk_norm": true, "rope_theta": 256.0, "t_scale": 1000.0
    });
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    std::fs::write(&file, config.to_string()).expect("room");
    ZImageConfig::from_diffusers(&file).map_err(|error| error.to_string())
}

#[test]
fn published_configurations_are_those_that_are_known() {
    let published = ZImageConfig::published();
    assert_eq!(read(json!({})), Ok(published.clone()));
    assert_eq!(read(json!({ "rope_theta": 256, "t_scale": 1000 })), Ok(published.clone()));
    assert_eq!(read(published.to_diffusers()), Ok(published));
    let fixture = Fixture::read(TINY);
    assert_eq!(read(fixture.manifest["config"].clone()), Ok(ZImageConfig { input_size: 128, ..config(&fixture) }));
    for (changes, words) in [
        (json!({ "_class_name": "FluxTransformer2DModel" }), "describes a FluxTransformer2DModel; expected ZImage"),
        (json!({ "all_patch_size": [2, 4] }), "all_patch_size must be [2], found [2,4]"),
        (json!({ "siglip_feat_dim": 1152 }), "siglip_feat_dim must be null, found 1152"),
        (json!({ "n_kv_heads": 10 }), "n_kv_heads must be 30, found 10"),
        (json!({ "norm_eps": 1e-6 }), "norm_eps must be 0.00001, found 1e-6"),
        (json!({ "qk_norm": false }), "qk_norm must be true, found false"),
        (json!({ "rope_theta": 10000 }), "rope_theta must be 256.0, found 10000"),
        (json!({ "t_scale": 1 }), "t_scale must be 1000.0, found 1"),
        (json!({ "axes_dims": [31, 49, 48] }), "axes must be even and together 128"),
        (json!({ "n_heads": 7 }), "width must be divisible by heads, found width 3840 and 7 heads"),
        (json!({ "n_layers": 0 }), "depth must be from 1 to 65536, found 0"),
    ] {
        let fault = read(changes).expect_err(words);
        assert!(fault.contains(words), "{fault}");
    }
}
