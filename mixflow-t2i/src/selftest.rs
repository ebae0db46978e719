//! The networks of this crate in a [`Selftest`] of a device.

use burn::tensor::{Device, Int, Tensor};
use mixflow::backbones::block::Gelu;
use mixflow::objective::{Batch, FlowMatching, noise};
use mixflow::random::Stream;
use mixflow::schedules::{Linear, MixFlow, Prediction, Reversed, Scaled, Weighting};
use mixflow::selftest::{Selftest, Subject};

use crate::text::{ClipConfig, FeedForwardKind, Qwen3Config, T5Config};
use crate::{FluxConfig, MmDitConfig, MmJitConfig, TextEmbedding, ZImageConfig};

/// Prompts of a batch.
const BATCH: usize = 4;
/// Tokens of a prompt.
const TOKENS: usize = 16;
/// Words that text encoders know.
const WORDS: usize = 64;

/// Compares the transformers of Stable Diffusion 3.5, FLUX.1, Z-Image and MiniT2I as [`Selftest::network`] does, and what their text
/// encoders make, all small.
pub fn compare(test: &mut Selftest<'_>) {
    let config = MmDitConfig {
        input_size: 8,
        channels: 4,
        width: 64,
        depth: 2,
        heads: 2,
        context_width: 48,
        pooled_width: 32,
        table: 6,
        dual_attention: vec![0],
        ..MmDitConfig::stable_diffusion_3_5_medium()
    };
    let objective = || {
        let objective = FlowMatching { condition_dropout: 0.25, ..FlowMatching::new(Reversed(Linear)) };
        objective.timesteps(MixFlow::new(0.8))
    };
    let batch = |device: &Device| {
        let normal = |shape, first| noise(0, Stream::Sample, first, shape, device);
        let tokens = normal([1, BATCH, TOKENS, config.context_width], 4).squeeze_dim(0);
        let pooled = normal([1, 1, BATCH, config.pooled_width], 5).reshape([BATCH, config.pooled_width]);
        Batch::new(normal([BATCH, 4, 8, 8], 0), TextEmbedding::new(tokens, pooled), 0)
    };
    test.network(&Subject::new("MMDiT", config.init(0, &Device::flex()), objective(), batch));
    let flux = FluxConfig {
        input_size: 8,
        channels: 4,
        width: 64,
        depth: 1,
        single_depth: 1,
        heads: 2,
        axes: [4, 12, 16],
        context_width: config.context_width,
        pooled_width: config.pooled_width,
        guidance: Some(1.0),
    };
    test.network(&Subject::new("FLUX.1", flux.init(0, &Device::flex()), objective(), batch));
    let z_image = ZImageConfig {
        input_size: 8,
        channels: 4,
        width: 64,
        depth: 1,
        refiners: 1,
        heads: 2,
        axes: [4, 12, 16],
        context_width: config.context_width,
    };
    let linear = FlowMatching { condition_dropout: 0.25, ..FlowMatching::new(Linear) };
    let linear = linear.timesteps(MixFlow::new(0.8));
    test.network(&Subject::new("Z-Image", z_image.init(0, &Device::flex()), linear, batch));
    let config = MmJitConfig {
        input_size: 16,
        patch: 4,
        width: 64,
        depth: 2,
        preamble: 1,
        heads: 2,
        hidden: 128,
        bottleneck: 32,
        context_width: 48,
        ..MmJitConfig::base()
    };
    let objective = FlowMatching {
        prediction: Prediction::Data,
        weighting: Weighting::Velocity,
        floor: 0.05,
        condition_dropout: 0.25,
        ..FlowMatching::new(Scaled { path: Linear, noise: 2.0 })
    };
    let objective = objective.timesteps(MixFlow::new(0.8));
    let batch = |device: &Device| {
        let normal = |shape, first| noise(0, Stream::Sample, first, shape, device);
        let tokens: Tensor<3> = normal([1, BATCH, TOKENS, config.context_width], 4).squeeze_dim(0);
        // The last half of each prompt is none.
        let prompt = tokens.slice_fill([0..BATCH, TOKENS / 2..TOKENS], 0.0);
        Batch::new(normal([BATCH, 3, 16, 16], 0), TextEmbedding::of_tokens(prompt), 0)
    };
    test.network(&Subject::new("MM-JiT", config.init(0, &Device::flex()), objective, batch));
    test.output("CLIP", |device| {
        let output = clip().init(device).forward(prompts(device));
        let [tokens, pooled] = [output.penultimate.into_data(), output.projected.into_data()];
        [("tokens".into(), tokens), ("pooled".into(), pooled)].into()
    });
    test.output("Qwen3", |device| {
        let states = qwen3().init(device).hidden_state(1, prompts(device), None);
        [("tokens".into(), states.into_data())].into()
    });
    test.output("T5", |device| [("tokens".into(), t5().init(device).forward(prompts(device)).into_data())].into());
}

/// Numbers of words.
fn prompts(device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = (0..BATCH * TOKENS).map(|place| (place * 29 % WORDS) as i64).collect();
    Tensor::<1, Int>::from_data(ids.as_slice(), device).reshape([BATCH, TOKENS])
}

fn clip() -> ClipConfig {
    ClipConfig {
        vocab_size: WORDS,
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        max_position_embeddings: TOKENS,
        projection_dim: 32,
        hidden_act: Gelu::Quick,
        eos_token_id: WORDS - 1,
        layer_norm_eps: 1e-5,
    }
}

fn qwen3() -> Qwen3Config {
    Qwen3Config {
        vocab_size: WORDS,
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
    }
}

fn t5() -> T5Config {
    T5Config {
        vocab_size: WORDS,
        d_model: 64,
        d_kv: 32,
        d_ff: 128,
        num_layers: 2,
        num_heads: 2,
        relative_attention_num_buckets: 32,
        relative_attention_max_distance: 128,
        feed_forward_proj: FeedForwardKind::GatedGelu,
        layer_norm_epsilon: 1e-6,
    }
}

#[cfg(test)]
mod tests {
    use mixflow::selftest::Verdict;

    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_on_text() {
        let mut findings = vec![];
        let mut tell = |finding| findings.push(finding);
        compare(&mut Selftest::new(&Device::flex(), &mut tell));
        for finding in &findings {
            assert_eq!(finding.verdict, Verdict::Agrees, "{finding:?}");
            // What is compared with itself on the same device rounds otherwise.
            let itself = finding.what.contains("bf16") || finding.what.contains("recomputed");
            assert!(itself || finding.difference == 0.0, "{finding:?}");
        }
        // The device's own 2, and of each transformer all 7.
        assert_eq!(findings.len(), 2 + 4 * 7 + 3, "{findings:?}");
    }
}
