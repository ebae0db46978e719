//! The encoders on tiny networks.

use burn::tensor::Device;
use mixflow_t2i::text::{Clip, ClipConfig, T5, T5Config};
use mixflow_tests::Fixture;

fn clip(fixture: &Fixture, device: &Device) -> Clip {
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
        let output = clip(&fixture, &device).forward(fixture.integers("in.input_ids", &device));
        let tolerance = fixture.tolerance(None);
        let layers = fixture.names("out.hidden_states.").len();
        let penultimate = format!("out.hidden_states.{}", layers - 2);
        fixture.assert_close(&penultimate, output.penultimate.into_data(), tolerance);
        fixture.assert_close("out.last_hidden_state", output.last.into_data(), tolerance);
        fixture.assert_close("out.pooled", output.pooled.into_data(), tolerance);
        fixture.assert_close("out.text_embeds", output.projected.into_data(), tolerance);
    }
}

#[test]
fn t5_block_after_block_is_t5() {
    let (fixture, device) = (Fixture::read("text/t5_encoder"), Device::default());
    let config: T5Config = serde_json::from_value(fixture.manifest["config"].clone()).expect("a configuration");
    let ids = fixture.integers("in.input_ids", &device);
    let output = config.init(&device).stream(fixture.weights("weights."), ids, 2).expect("the weights of this network");
    fixture.assert_close("out.last_hidden_state", output.into_data(), fixture.tolerance(None));
}

#[test]
fn t5_is_the_official_one() {
    let (fixture, device) = (Fixture::read("text/t5_encoder"), Device::default());
    let output = t5(&fixture, &device).forward(fixture.integers("in.input_ids", &device));
    fixture.assert_close("out.last_hidden_state", output.into_data(), fixture.tolerance(None));
}
