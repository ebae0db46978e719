//! Numbers and initial values of the published networks.

use burn::tensor::Device;

use super::{DitDhConfig, Stack, official_key};
use crate::init::laws::{Law, assert_laws};
use crate::lightning_dit::tests::count;
use crate::weights::Weights;

fn config() -> DitDhConfig {
    DitDhConfig {
        input_size: 4,
        channels: 64,
        encoder: Stack { width: 64, depth: 2, heads: 4, hidden: 96 },
        head: Stack { width: 128, depth: 1, heads: 4, hidden: 64 },
        classes: 99,
        ..DitDhConfig::small()
    }
}

/// `README.md` of the recorded cases: counts of the instantiated official classes, tables included; and without the
/// tables.
#[test]
fn parameter_counts_are_the_published_ones() {
    for (config, total, without_tables) in [
        (DitDhConfig::small(), 196_455_764, Some(196_357_204)),
        (DitDhConfig::base(), 294_295_892, Some(294_099_028)),
        (DitDhConfig::large(), 621_744_436, Some(621_482_036)),
        (DitDhConfig::extra_large(), 838_675_796, Some(838_380_628)),
        (DitDhConfig::extra_large().at_512_px(), 839_560_532, None),
    ] {
        assert_eq!(config.parameters(), total, "{config:?}");
        let [all, trained] = count(&config.init(0, &Device::default()));
        assert_eq!(all, total, "{config:?}");
        assert!(without_tables.is_none_or(|expected| trained == expected), "{config:?}");
    }
}

#[test]
fn every_parameter_has_the_published_moments() {
    assert_laws(&config().init(5, &Device::default()), |name, shape| match name {
        "pos_embed" => None,
        "t_embedder.W" => Some(Law::Normal(1.0)),
        _ if name.contains("rope") => None,
        _ if name.contains("norm") => Some(Law::One),
        _ if name.contains("adaLN") || name.starts_with("final_layer.linear") => Some(Law::Zero),
        "x_embedder.proj.bias" | "s_embedder.proj.bias" => Some(Law::Zero),
        "y_embedder.embedding_table.weight" | "t_embedder.mlp.0.weight" | "t_embedder.mlp.2.weight" => {
            Some(Law::Normal(0.02))
        }
        "x_embedder.proj.weight" | "s_embedder.proj.weight" => Some(Law::xavier(shape)),
        _ if name.ends_with("weight") => Some(Law::Uniform((shape[1] as f64).powf(-0.5))),
        // A bias is drawn as wide as the weight beside it.
        "t_embedder.mlp.0.bias" => Some(Law::Uniform(512f64.powf(-0.5))),
        _ if name.ends_with("w3.bias") => {
            Some(Law::Uniform(if name.contains(".2.") { 64f64 } else { 96f64 }.powf(-0.5)))
        }
        _ => Some(Law::Uniform(if name.starts_with("blocks.2.") { 128f64 } else { 64f64 }.powf(-0.5))),
    });
}

#[test]
fn weights_survive_a_file_under_official_names_and_rotary_tables_may_be_missing() {
    let device = Device::default();
    let bytes = Weights::of(&config().init(5, &device), official_key).to_safetensors(&[]).expect("in memory");
    let mut weights = Weights::from_safetensors(&bytes).expect("a file of ours");
    for name in ["enc_feat_rope.freqs_cos", "enc_feat_rope.freqs_sin", "dec_feat_rope.freqs_cos"] {
        assert!(weights.remove(name), "{name} is stored");
    }
    let loaded = config().init(6, &device).load(weights).expect("the rest is there");
    assert_eq!(Weights::of(&loaded, official_key).to_safetensors(&[]).expect("in memory"), bytes);
}

#[test]
fn configurations_that_make_no_sense_are_refused_in_words() {
    let fault = |change: fn(&mut DitDhConfig)| {
        let mut config = config();
        change(&mut config);
        config.check().expect_err("a fault").to_string()
    };
    assert_eq!(fault(|c| c.classes = 0), "classes must be at least 1, found 0");
    assert_eq!(fault(|c| c.encoder.depth = 0), "encoder.depth must be at least 1, found 0");
    assert_eq!(
        fault(|c| c.head.heads = 5),
        "head.width must be divisible by 4 times heads, found width 128 and 5 heads"
    );
}

/// By hand, in matrix products of 256 tokens: blocks of `4 w² + 3 w h` a token, 512 a token and width for attention, and
/// `6 w²` an image for the encoder's modulation or a token for the head's; then the ends.
#[test]
fn multiply_adds_are_those_of_its_matrices() {
    let block =
        |w: f64, h: f64, modulated: f64| 256.0 * (4.0 * w * w + 3.0 * w * h + 512.0 * w) + modulated * 6.0 * w * w;
    let (encoder, head) = (28.0 * block(1152.0, 3072.0, 1.0), 2.0 * block(2048.0, 5461.0, 256.0));
    let ends = 768.0 * 1152.0 + 2.0 * 768.0 * 2048.0 + 1152.0 * 2048.0 + 2.0 * 2048.0 * 2048.0;
    let expected = encoder + head + 256.0 * ends + (512.0 + 1152.0) * 1152.0;
    assert_eq!(DitDhConfig::extra_large().multiply_adds() as f64, expected);
}
