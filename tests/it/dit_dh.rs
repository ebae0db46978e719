//! DiT^DH against the official code, on tiny networks.

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::sampling::{Flow, Guidance};
use mixflow_backbones::block::{NormKind, PerceptronKind};
use mixflow_backbones::dit_dh::{DitDh, DitDhConfig, Stack, official_key};
use mixflow_backbones::lightning_dit::LightningParts;
use mixflow_backbones::{Backbone, ClassLabels, Condition};
use mixflow_schedules::{Linear, Prediction, Reversed};
use mixflow_tests::{Fixture, assert_loss_and_gradients};
use serde_json::Value;

const CASES: [&str; 2] = ["rae_stage2/ddt_default", "rae_stage2/ddt_qknorm_gelu_layernorm_nopos"];

/// The network that a manifest's `shape` describes, with `all` for what `shape` leaves out, and its weights.
pub(crate) fn network(fixture: &Fixture, all: &Value, shape: &Value, prefix: &str, device: &Device) -> DitDh {
    config(all, shape).init(0, device).load(fixture.weights(prefix)).expect("the recorded weights fit")
}

/// The shape of that network.
pub(crate) fn config(all: &Value, shape: &Value) -> DitDhConfig {
    let number = |key: &str| all[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    let parts = parts(all);
    let stack = |k: usize| {
        let [width, depth, heads] =
            ["hidden_size", "depth", "num_heads"].map(|key| shape[key][k].as_u64().expect("a pair") as usize);
        Stack { width, depth, heads, hidden: hidden(all, parts, width) }
    };
    DitDhConfig {
        input_size: number("input_size"),
        channels: number("in_channels"),
        encoder: stack(0),
        head: stack(1),
        classes: number("num_classes"),
        null_class: true,
        position_table: all["use_pos_embed"].as_bool().unwrap_or(true),
        parts,
        trained_tables: true,
    }
}

/// The kinds of parts, by the official names; the published ones where a manifest does not say.
pub(crate) fn parts(config: &Value) -> LightningParts {
    let flag = |key: &str, default| config[key].as_bool().unwrap_or(default);
    LightningParts {
        norm: if flag("use_rmsnorm", true) { NormKind::Rms } else { NormKind::Layer },
        perceptron: if flag("use_swiglu", true) { PerceptronKind::SwiGlu } else { PerceptronKind::Gelu },
        qk_norm: flag("use_qknorm", false),
    }
}

/// Hidden width of a perceptron, rounded as the official code does.
pub(crate) fn hidden(config: &Value, parts: LightningParts, width: usize) -> usize {
    let hidden = (width as f64 * config["mlp_ratio"].as_f64().expect("mlp_ratio")) as usize;
    match parts.perceptron {
        PerceptronKind::SwiGlu => (2.0 / 3.0 * hidden as f64) as usize,
        PerceptronKind::Gelu => hidden,
    }
}

pub(crate) fn labels(fixture: &Fixture, name: &str, null: usize, device: &Device) -> ClassLabels {
    ClassLabels { labels: fixture.integers(name, device), null }
}

/// A network of a case with its null label.
fn case(fixture: &Fixture, device: &Device) -> (DitDh, usize) {
    let config = &fixture.manifest["config"];
    (network(fixture, config, config, "weights.", device), config["num_classes"].as_u64().expect("classes") as usize)
}

#[test]
fn every_activation_is_the_official_one() {
    let device = Device::default();
    for name in CASES {
        let fixture = Fixture::read(name);
        let (net, null) = case(&fixture, &device);
        let (x, t) = (fixture.tensor::<4>("in.x", &device), fixture.tensor::<1>("in.t", &device));
        let y = labels(&fixture, "in.y", null, &device);
        let check = |name: &str, found: TensorData| fixture.assert_close(name, found, fixture.tolerance(None));
        check("out.forward", net.forward(x.clone(), t.clone(), y.clone()).into_data());
        check("out.forward_given_s", net.decode(x.clone(), fixture.tensor("in.s", &device)).into_data());
        let time = net.t_embedder.forward(t.clone());
        check("out.t_emb", time.clone().into_data());
        let (encoder, head) = net.stacks();
        let (mut s, modulation) = (net.embed(x.clone()), net.modulation(time, y.clone()));
        for (k, block) in encoder.iter().enumerate() {
            s = block.forward(s, modulation.clone(), Some(&net.enc_feat_rope));
            check(&format!("out.block{k}"), s.clone().into_data());
        }
        let modulation = net.head_modulation(net.encode(x.clone(), t, y));
        let mut tokens = net.x_embedder.forward(x);
        for (k, block) in head.iter().enumerate() {
            tokens = block.forward(tokens, modulation.clone(), Some(&net.dec_feat_rope));
            check(&format!("out.block{}", encoder.len() + k), tokens.clone().into_data());
        }
        check("out.final_tokens", net.final_layer.forward(tokens, modulation).into_data());
        assert_eq!(fixture.names("out.block").len(), net.blocks.len());
    }
}

#[test]
fn gradients_are_the_official_ones() {
    let device = Device::default().autodiff();
    for name in CASES {
        let fixture = Fixture::read(name);
        let (net, null) = case(&fixture, &device);
        let (t, y) = (fixture.tensor("in.t", &device), labels(&fixture, "in.y", null, &device));
        assert_loss_and_gradients(&fixture, &net, official_key, |x| net.forward(x, t, y));
    }
}

/// The velocity of every row at its own time of the network.
fn velocities<'a>(x: &Tensor<4>, times: &[f64], flow: impl Fn(i64) -> Flow<'a>) -> Tensor<4> {
    let rows = x.clone().split(1, 0).into_iter().zip(times).zip(0..);
    Tensor::cat(rows.map(|((x, time), row)| flow(row).velocity(x, 1.0 - time)).collect(), 0)
}

/// Official functions guide a batch whose second half has the null label; the conditional images are its first half.
#[test]
fn guidance_is_the_official_one() {
    let device = Device::default();
    let reversed = Reversed(Linear);
    for name in CASES {
        let fixture = Fixture::read(name);
        let config = &fixture.manifest["config"];
        let (net, null) = case(&fixture, &device);
        let (x, y) = (fixture.tensor::<4>("in.cfg_x", &device), labels(&fixture, "in.cfg_y", null, &device));
        let times = fixture.values("in.cfg_t");
        let row = |k: i64| Tensor::from_data([k], &device);
        let flow = |net, k| Flow::of(&reversed, Prediction::Velocity, net, ClassLabels::select(y.clone(), row(k)));
        // Intervals are of the network's time, which runs from data to noise.
        let guidance = |scale, low: f64, high: f64| Guidance::new(scale)?.within(1.0 - high, 1.0 - low);
        let check = |name: &str, found: Tensor<4>| {
            fixture.assert_close(name, found.into_data(), fixture.tolerance(None));
        };

        let half = times.len() / 2;
        for (name, scale, low, high) in
            [("out.cfg_1.5_interval_0_1", 1.5, 0.0, 1.0), ("out.cfg_2.5_interval_0.3_0.5", 2.5, 0.3, 0.5)]
        {
            let guidance = guidance(scale, low, high).expect("valid");
            let guided = |k| {
                let weak = Flow::of(&reversed, Prediction::Velocity, &net, y.clone().null().select(row(k)));
                flow(&net, k).guided(weak, guidance)
            };
            let found = velocities(&x, &times[..half], guided);
            check(name, Tensor::cat(vec![found.clone(), found], 0));
        }
        if config["autoguidance_model"].is_null() {
            continue;
        }
        let weaker = network(&fixture, config, &config["autoguidance_model"], "weights_ag.", &device);
        for (name, low, high) in [("out.ag_1.42_interval_0_1", 0.0, 1.0), ("out.ag_1.42_interval_0.3_0.6", 0.3, 0.6)] {
            let guidance = guidance(1.42, low, high).expect("valid");
            check(name, velocities(&x, &times, |k| flow(&net, k).guided(flow(&weaker, k), guidance)));
        }
    }
}
