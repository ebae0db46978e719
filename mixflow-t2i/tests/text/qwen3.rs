//! The decoder of Qwen3 on a tiny network.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mixflow::backbones::Precision;
use mixflow_t2i::text::{Qwen3, Qwen3Config, qwen3_key};
use mixflow_tests::{Fixture, close};
use serde_json::{Value, json};

const CASE: &str = "qwen3/qwen3_model";

fn config(fixture: &Fixture) -> Qwen3Config {
    serde_json::from_value(fixture.manifest["config"].clone()).expect("a configuration")
}

fn network(fixture: &Fixture, device: &Device) -> Qwen3 {
    config(fixture).init(device).load(fixture.weights("weights.")).expect("the weights of this network")
}

/// Compares where there are tokens: what padding says depends on the implementation.
fn assert_seen(fixture: &Fixture, name: &str, found: &TensorData, mask: &Tensor<2, Int>) {
    let expected = fixture.data(name);
    assert_eq!(found.shape(), expected.shape(), "{name}");
    let seen: Vec<bool> = mask.to_data().iter::<i64>().map(|seen| seen == 1).collect();
    let width = found.shape()[2];
    let of_tokens = |data: &TensorData| -> Vec<f64> {
        data.iter::<f64>().enumerate().filter(|(i, _)| seen[i / width]).map(|(_, value)| value).collect()
    };
    close(name, &of_tokens(found), &of_tokens(&expected), fixture.tolerance(None));
}

/// States after each block, the last but one by another name, and the last, which is normalised.
const STATES: [(usize, &str); 5] = [
    (1, "hidden_states.1"),
    (2, "hidden_states.2"),
    (3, "hidden_states.3"),
    (3, "hidden_states.minus2"),
    (4, "last_hidden_state"),
];

#[test]
fn every_state_is_the_official_one_wherever_padding_is() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    let network = network(&fixture, &device);
    let ids: Tensor<2, Int> = fixture.integers("in.input_ids", &device);
    for side in ["left", "right", "none"] {
        let mask = (side != "none").then(|| fixture.integers(&format!("in.mask_{side}"), &device));
        let seen = mask.clone().unwrap_or_else(|| ids.ones_like());
        for (number, name) in STATES {
            let found = network.hidden_state(number, ids.clone(), mask.clone()).into_data();
            assert_seen(&fixture, &format!("out.{side}.{name}"), &found, &seen);
        }
    }
    let embedded = network.hidden_state(0, ids.clone(), None);
    let first = ids.into_data().iter::<i64>().next().expect("a token") as usize;
    let row: Vec<f32> = network.table.val().narrow(0, first, 1).into_data().iter().collect();
    assert_eq!(embedded.narrow(0, 0, 1).narrow(1, 0, 1).into_data().iter::<f32>().collect::<Vec<_>>(), row);
}

#[test]
fn block_after_block_is_the_same_and_needs_no_more_than_are_read() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    let [ids, mask] = ["in.input_ids", "in.mask_right"].map(|name| fixture.integers(name, &device));
    let stream = |weights, number, precision| {
        let config = config(&fixture).init(&device);
        config.stream(weights, number, [ids.clone(), mask.clone()], 2, precision).expect("the weights of this network")
    };
    for (number, name) in STATES {
        // As the file of a model that says the next token has them.
        let weights = fixture.weights("weights.").rename(|name| Some(format!("model.{name}")));
        let found = stream(weights, number, Precision::F32).into_data();
        assert_seen(&fixture, &format!("out.right.{name}"), &found, &mask);
    }
    let full = stream(fixture.weights("weights."), 3, Precision::F32);
    let low = stream(fixture.weights("weights."), 3, Precision::Bf16);
    let norm = |x: Tensor<3>| x.square().sum().sqrt().into_scalar::<f32>();
    // Both factors of a product and its result round by 2⁻⁹: three products one after the other in attention, two in a perceptron.
    let error = norm(low.clone() - full.clone()) / norm(full);
    assert!(error > 0.0 && error < 3.0 * 15.0 / 512.0, "{error}");
    let held = config(&fixture).init(&device).load_in(fixture.weights("weights."), Precision::Bf16).expect("they fit");
    // Products of other numbers of rows round alike.
    assert_eq!(held.hidden_state(3, ids.clone(), Some(mask.clone())).into_data(), low.into_data());
    let bytes = |network: &Qwen3| network.blocks[0].mlp.w1.weight.val().into_data().as_bytes().len();
    assert_eq!(2 * bytes(&held), bytes(&network(&fixture, &device)));
}

/// Qwen3-4B as it is published has 4,022,468,096 parameters, its table also being its last layer.
#[test]
fn the_published_size_has_its_parameters() {
    let config: Qwen3Config = serde_json::from_value(published(json!({}))).expect("a configuration");
    assert_eq!(config.init(&Device::flex()).num_params(), 4_022_468_096);
    assert_eq!(qwen3_key("blocks.35.attn.k_norm.weight"), "model.layers.35.self_attn.k_norm.weight");
}

/// `config.json` of `Qwen/Qwen3-4B`, as far as it is read.
fn published(changes: Value) -> Value {
    let mut config = json!({
        "attention_bias": false, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 9728,
        "max_position_embeddings": 40960, "model_type": "qwen3", "num_attention_heads": 32, "num_hidden_layers": 36,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1000000,
        "use_sliding_window": false, "vocab_size": 151936
    });
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

#[test]
fn other_networks_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config.json");
    for (changes, words) in [
        (json!({ "model_type": "qwen2" }), "model_type: not that of a Qwen3"),
        (json!({ "hidden_act": "gelu" }), "hidden_act: not that of a Qwen3"),
        (json!({ "attention_bias": true }), "attention_bias: not that of a Qwen3"),
        (json!({ "use_sliding_window": true }), "use_sliding_window: not that of a Qwen3"),
        (json!({ "rope_scaling": { "rope_type": "yarn" } }), "rope_scaling: not that of a Qwen3"),
        (json!({ "rope_parameters": { "rope_type": "yarn", "rope_theta": 1e6 } }), "rope_parameters: not that"),
        (json!({ "rope_theta": null }), "rope_theta: is missing"),
        (json!({ "num_key_value_heads": 5 }), "num_key_value_heads: expected a divisor of num_attention_heads 32"),
        (json!({ "head_dim": 127 }), "head_dim: expected an even number, found 127"),
        (json!({ "num_hidden_layers": 0 }), "num_hidden_layers: expected 1 to 1024, found 0"),
    ] {
        std::fs::write(&path, published(changes).to_string()).expect("room");
        let error = Qwen3Config::read(&path).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    std::fs::write(&path, published(json!({})).to_string()).expect("room");
    assert_eq!(Qwen3Config::read(&path).expect("it is published").rope_theta, 1e6);
}
