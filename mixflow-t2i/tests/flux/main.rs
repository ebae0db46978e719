//! The transformer of FLUX.1, its adapters, its sampling and its text encoders against the official code, on tiny networks.

mod lora;
mod network;
mod sampling;
mod training;
mod weights;

use burn::tensor::{Device, Tensor};
use mixflow_t2i::{Flux, FluxConfig, TextEmbedding};
use mixflow_tests::Fixture;

/// Told no guidance, and told one.
const CASES: [&str; 2] = ["flux/flux_schnell", "flux/flux_dev_guidance"];

/// The shape of a recorded network.
fn config(fixture: &Fixture) -> FluxConfig {
    let config = &fixture.manifest["config"];
    let number = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    let axes: Vec<usize> = serde_json::from_value(config["axes_dims_rope"].clone()).expect("a list");
    FluxConfig {
        input_size: 8,
        channels: number("in_channels") / 4,
        width: number("num_attention_heads") * number("attention_head_dim"),
        depth: number("num_layers"),
        single_depth: number("num_single_layers"),
        heads: number("num_attention_heads"),
        axes: axes.try_into().expect("three axes"),
        context_width: number("joint_attention_dim"),
        pooled_width: number("pooled_projection_dim"),
        guidance: config["guidance_embeds"].as_bool().expect("yes or no").then_some(1.0),
    }
}

/// The recorded network.
fn network(fixture: &Fixture, device: &Device) -> Flux {
    config(fixture).init(0, device).load(fixture.weights("weights.")).expect("the recorded weights fit")
}

/// The recorded text.
fn text(fixture: &Fixture, device: &Device) -> TextEmbedding {
    let pooled: Tensor<2> = fixture.tensor("in.pooled_projections", device);
    TextEmbedding::new(fixture.tensor("in.encoder_hidden_states", device), pooled)
}
