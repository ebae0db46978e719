//! The encoders on tiny networks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mixflow::backbones::Precision;
use mixflow_t2i::text::{ClipConfig, ClipTextModel, T5, T5Config};
use mixflow_tests::Fixture;

fn clip(fixture: &Fixture, device: &Device) -> ClipTextModel {
    let config: ClipConfig = serde_json::from_value(fixture.manifest["config"].clone()).expect("a configuration");
    config.init(device).load(fixture.weights("weights.")).expect("the weights of this network")
}

fn t5(fixture: &Fixture, device: &Device) -> T5 {
    let config: T5Config = serde_json::from_value(fixture.manifest["config"].clone()).expect("a configuration");
    config.init(device).load(fixture.weights("weights.")).expect("the weights of this network")
}

#[test]
fn clip_is_the_official_one() {
    for case in ["clip_l_quickgelu", "clip_bigg_gelu", "clip_new_eos"] {
        let (fixture, device) = (Fixture::read(&format!("text/{case}")), Device::default());
        let (network, tolerance) = (clip(&fixture, &device), fixture.tolerance(None));
        let mut states = vec![];
        let ids = fixture.integers("in.input_ids", &device);
        let output = network.forward_with(ids, None, |number, state| states.push((number, state.to_data())));
        assert_eq!(states.len(), fixture.names("out.hidden_states.").len());
        let penultimate = (states.len() - 2, output.penultimate.to_data());
        for (number, state) in states.into_iter().chain([penultimate]) {
            fixture.assert_close(&format!("out.hidden_states.{number}"), state, tolerance);
        }
        fixture.assert_close("out.last_hidden_state", output.last.into_data(), tolerance);
        fixture.assert_close("out.pooled", output.pooled.into_data(), tolerance);
        fixture.assert_close("out.text_embeds", output.projected.into_data(), tolerance);
    }
}

#[test]
fn clip_that_does_not_see_padding_is_the_official_one() {
    let (fixture, device) = (Fixture::read("text/clip_masked"), Device::default());
    let network = clip(&Fixture::read("text/clip_new_eos"), &device);
    let [ids, mask] = ["in.input_ids", "in.attention_mask"].map(|name| fixture.integers(name, &device));
    let output = network.forward_with(ids, Some(mask), |_, _| {});
    let tolerance = fixture.tolerance(None);
    fixture.assert_close("out.penultimate", output.penultimate.into_data(), tolerance);
    fixture.assert_close("out.last_hidden_state", output.last.into_data(), tolerance);
    fixture.assert_close("out.text_embeds", output.projected.into_data(), tolerance);
}

#[test]
fn t5_that_does_not_see_padding_is_the_official_one() {
    let (fixture, device) = (Fixture::read("text/t5_encoder"), Device::default());
    let [ids, mask] = ["in.input_ids", "in.attention_mask"].map(|name| fixture.integers(name, &device));
    let output = t5(&fixture, &device).forward_masked(ids.clone(), Some(mask.clone()));
    fixture.assert_close("out.last_hidden_state_masked", output.into_data(), fixture.tolerance(None));
    let config: T5Config = serde_json::from_value(fixture.manifest["config"].clone()).expect("a configuration");
    let weights = fixture.weights("weights.");
    let output =
        config.init(&device).stream(weights, ids, Some(mask), 2, Precision::F32).expect("the weights of this network");
    fixture.assert_close("out.last_hidden_state_masked", output.into_data(), fixture.tolerance(None));
}

#[test]
fn t5_block_after_block_is_t5() {
    let (fixture, device) = (Fixture::read("text/t5_encoder"), Device::default());
    let config: T5Config = serde_json::from_value(fixture.manifest["config"].clone()).expect("a configuration");
    let ids = fixture.integers("in.input_ids", &device);
    let output = config
        .init(&device)
        .stream(fixture.weights("weights."), ids, None, 2, Precision::F32)
        .expect("the weights of this network");
    fixture.assert_close("out.last_hidden_state", output.into_data(), fixture.tolerance(None));
}

#[test]
fn t5_is_the_official_one() {
    let (fixture, device) = (Fixture::read("text/t5_encoder"), Device::default());
    let output = t5(&fixture, &device).forward(fixture.integers("in.input_ids", &device));
    fixture.assert_close("out.last_hidden_state", output.into_data(), fixture.tolerance(None));
}

/// A branch multiplies twice one after the other. A product rounds both factors and its result by 2⁻⁹ at most, so that what a
/// block adds errs by 12 · 2⁻⁹ of its size, and what comes out of a few blocks by less than that of each together.
fn assert_rounded(name: &str, depth: usize, found: Tensor<3>, expected: Tensor<3>) {
    let norm = |x: Tensor<3>| x.square().sum().sqrt().into_scalar::<f32>();
    let error = norm(found - expected.clone()) / norm(expected);
    let bound = depth as f32 * 12.0 / 512.0;
    assert!(0.0 < error && error < bound, "{name}: {error} of {bound}");
}

#[test]
fn encoders_in_bf16_are_those_in_f32_but_for_rounding() {
    let device = Device::default();
    for case in ["clip_l_quickgelu", "clip_bigg_gelu", "clip_new_eos"] {
        let fixture = Fixture::read(&format!("text/{case}"));
        let (full, ids) = (clip(&fixture, &device), fixture.integers("in.input_ids", &device));
        let low = Precision::Bf16.of_blocks(full.clone()).materialize();
        let [found, expected] = [&low, &full].map(|network| network.forward(ids.clone()).penultimate);
        assert_rounded(case, full.blocks.len(), found, expected);
    }
    let fixture = Fixture::read("text/t5_encoder");
    let config: T5Config = serde_json::from_value(fixture.manifest["config"].clone()).expect("a configuration");
    let (full, ids) = (t5(&fixture, &device), fixture.integers("in.input_ids", &device));
    let weights = || fixture.weights("weights.");
    let low = config.init(&device).load_in(weights(), Precision::Bf16).expect("the weights of this network");
    let found = low.forward(ids.clone());
    assert_rounded("t5", full.blocks.len(), found.clone(), full.forward(ids.clone()));
    // Block after block, all at a time: the same.
    let batch = ids.dims()[0];
    let streamed = config.init(&device).stream(weights(), ids, None, batch, Precision::Bf16);
    assert_eq!(streamed.expect("the weights of this network").into_data(), found.into_data());
    // Its layers take half the memory.
    let bytes = |network: &T5| network.blocks[0].gate.weight.val().into_data().as_bytes().len();
    assert_eq!(2 * bytes(&low), bytes(&full));
}
