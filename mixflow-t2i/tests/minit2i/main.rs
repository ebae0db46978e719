//! The transformer of MiniT2I, its losses, its sampling and its text encoder against the official code, on tiny networks.

mod lora;
mod network;
mod sampling;
mod text;

use burn::tensor::{Device, Tensor};
use mixflow_t2i::{MmJit, MmJitConfig, TextEmbedding};
use mixflow_tests::Fixture;

const CASE: &str = "minit2i/mmjit_tiny";

/// The shape of the recorded network.
fn config(fixture: &Fixture) -> MmJitConfig {
    let config = &fixture.manifest["config"];
    let number = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    let ratio = config["mlp_ratio"].as_f64().expect("a number");
    MmJitConfig {
        input_size: number("image_size"),
        patch: number("patch_size"),
        channels: number("in_channels"),
        width: number("hidden_size"),
        depth: number("depth_double"),
        preamble: number("txt_preamble_depth"),
        heads: number("num_heads"),
        hidden: ((number("hidden_size") as f64 * ratio) as usize).next_multiple_of(8),
        bottleneck: number("pca_channels"),
        context_width: number("txt_input_size"),
        context_length: number("prompt_length"),
    }
}

/// The recorded network.
fn network(device: &Device) -> MmJit {
    let fixture = Fixture::read(CASE);
    config(&fixture).init(0, device).load(fixture.weights("weights.")).expect("the recorded weights fit")
}

/// A recorded text, of which tokens that `mask` hides are none.
fn text(fixture: &Fixture, [tokens, mask]: [&str; 2], device: &Device) -> TextEmbedding {
    let tokens: Tensor<3> = fixture.tensor(tokens, device);
    let mask: Tensor<2> = fixture.tensor(mask, device);
    TextEmbedding::of_tokens(tokens * mask.unsqueeze_dim(2))
}
