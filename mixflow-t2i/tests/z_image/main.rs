//! The transformer of Z-Image, its adapters, its training and its whole pipeline against the official code, on tiny networks.

mod folder;
mod lora;
mod network;
mod pipeline;
mod text;
mod training;
mod weights;

use burn::tensor::{Device, Tensor};
use mixflow_t2i::{TextEmbedding, ZImage, ZImageConfig};
use mixflow_tests::Fixture;

const TINY: &str = "qwen3/zimage_tiny";

/// The shape of the recorded network.
fn config(fixture: &Fixture) -> ZImageConfig {
    let config = &fixture.manifest["config"];
    let number = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    ZImageConfig {
        input_size: 8,
        channels: number("in_channels"),
        width: number("dim"),
        depth: number("n_layers"),
        refiners: number("n_refiner_layers"),
        heads: number("n_heads"),
        axes: serde_json::from_value(config["axes_dims"].clone()).expect("three axes"),
        context_width: number("cap_feat_dim"),
    }
}

/// The recorded network.
fn network(device: &Device) -> ZImage {
    let fixture = Fixture::read(TINY);
    config(&fixture).init(0, device).load(fixture.weights("weights.")).expect("the recorded weights fit")
}

/// Texts of other numbers of tokens, `[tokens, width]`, with none behind up to `length`.
fn texts(texts: &[Tensor<2>], length: usize) -> TextEmbedding {
    let rows = texts.iter().map(|text| {
        let [tokens, width] = text.dims();
        let none = Tensor::zeros([length - tokens, width], &text.device());
        Tensor::cat(vec![text.clone(), none], 0).unsqueeze_dim(0)
    });
    TextEmbedding::of_tokens(Tensor::cat(rows.collect(), 0))
}

/// Those of a recorded batch.
fn recorded_texts(fixture: &Fixture, device: &Device) -> TextEmbedding {
    texts(&[0, 1].map(|row| fixture.tensor(&format!("in.cap.{row}"), device)), 40)
}
