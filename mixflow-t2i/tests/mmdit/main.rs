//! The transformer of Stable Diffusion 3 and its sampling against the official code, on tiny networks.

#[path = "../../../tests/it/allocation.rs"]
mod allocation;
mod lora;
mod memory;
mod network;
mod pipeline;
mod precision;
mod sampling;
mod weights;

use burn::tensor::Device;
use mixflow_t2i::{MmDit, MmDitConfig, TextEmbedding};
use mixflow_tests::Fixture;

/// Without and with normalised queries and keys and a second attention.
const CASES: [&str; 2] = ["mmdit/sd3_plain", "mmdit/sd3_qknorm_dual"];

/// The shape of a fixture's network.
fn config(fixture: &Fixture) -> MmDitConfig {
    let config = &fixture.manifest["config"];
    let config = config.get("model").unwrap_or(config);
    let number = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    let layers = config["dual_attention_layers"].as_array().expect("a list");
    MmDitConfig {
        input_size: number("sample_size"),
        patch: number("patch_size"),
        channels: number("in_channels"),
        width: number("caption_projection_dim"),
        depth: number("num_layers"),
        heads: number("num_attention_heads"),
        context_width: number("joint_attention_dim"),
        pooled_width: number("pooled_projection_dim"),
        table: number("pos_embed_max_size"),
        qk_norm: config["qk_norm"].is_string(),
        dual_attention: layers.iter().map(|layer| layer.as_u64().expect("a number") as usize).collect(),
    }
}

/// The network of a fixture, with its weights.
fn network(fixture: &Fixture, device: &Device) -> MmDit {
    config(fixture).init(0, device).load(fixture.weights("weights.")).expect("the recorded weights fit")
}

/// A recorded text.
fn text(fixture: &Fixture, [tokens, pooled]: [&str; 2], device: &Device) -> TextEmbedding {
    TextEmbedding::new(fixture.tensor(tokens, device), fixture.tensor(pooled, device))
}
