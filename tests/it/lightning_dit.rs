//! `LightningDiT` against the official code, on tiny networks.

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::sampling::{Flow, Guidance};
use mixflow_backbones::lightning_dit::{LightningDit, LightningDitConfig, official_key};
use mixflow_backbones::{Backbone, ClassLabels, Condition};
use mixflow_schedules::{Linear, Prediction, Reversed};
use mixflow_tests::{Fixture, assert_loss_and_gradients};
use serde_json::Value;

use crate::dit_dh::{hidden, labels, parts};

const CASES: [&str; 2] = ["rae_stage2/lightningdit_default", "rae_stage2/lightningdit_p2_learnsigma_qknorm"];

/// The network that a manifest's `shape` describes, with the case's configuration for the rest, and its weights.
fn network(fixture: &Fixture, shape: &Value, prefix: &str, device: &Device) -> LightningDit {
    let all = &fixture.manifest["config"];
    let number = |of: &Value, key: &str| of[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    let (parts, width) = (parts(all), number(shape, "hidden_size"));
    let config = LightningDitConfig {
        input_size: number(all, "input_size"),
        patch: number(all, "patch_size"),
        channels: number(all, "in_channels"),
        width,
        depth: number(shape, "depth"),
        heads: number(shape, "num_heads"),
        hidden: hidden(all, parts, width),
        classes: number(all, "num_classes"),
        null_class: true,
        learn_sigma: all["learn_sigma"].as_bool().expect("learn_sigma"),
        rotary: all["use_rope"].as_bool().expect("use_rope"),
        parts,
        trained_tables: true,
    };
    config.init(0, device).load(fixture.weights(prefix)).expect("the recorded weights fit")
}

fn case(fixture: &Fixture, device: &Device) -> (LightningDit, usize) {
    let config = &fixture.manifest["config"];
    (network(fixture, config, "weights.", device), config["num_classes"].as_u64().expect("num_classes") as usize)
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
        check("out.t_emb", net.t_embedder.forward(t.clone()).into_data());
        let (mut tokens, modulation) = (net.embed(x), net.modulation(t, y));
        for (k, block) in net.blocks.iter().enumerate() {
            tokens = block.forward(tokens, modulation.clone(), net.feat_rope.as_ref());
            check(&format!("out.block{k}"), tokens.clone().into_data());
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

fn within(scale: f64, start: f64, end: f64) -> Guidance {
    Guidance::new(scale).and_then(|guidance| guidance.within(start, end)).expect("the interval is valid")
}

/// Guidance that is off in `[low, high)` of the network's time: on before and after it.
fn outside<'a>(strong: Flow<'a>, weak: impl Fn() -> Flow<'a>, scale: f64, low: f64, high: f64) -> Flow<'a> {
    strong.guided(weak(), within(scale, 0.0, 1.0 - high)).guided(weak(), within(scale, 1.0 - low, 1.0))
}

/// The recorded calls are at one time, 0.5, inside `[0.3, 0.6)` and outside `[0.3, 0.4)`, where guidance is off.
#[test]
fn guidance_is_the_official_one_outside_its_interval() {
    const T: f64 = 0.5;
    let device = Device::default();
    let reversed = Reversed(Linear);
    for name in CASES {
        let fixture = Fixture::read(name);
        let (net, null) = case(&fixture, &device);
        let (x, y) = (fixture.tensor::<4>("in.cfg_x", &device), labels(&fixture, "in.cfg_y", null, &device));
        let half = x.dims()[0] / 2;
        let x = x.slice([..half]);
        let y = ClassLabels { labels: y.labels.slice([..half]), null };
        let flow = |net, y: &ClassLabels| Flow::of(&reversed, Prediction::Velocity, net, y.clone());
        let check = |name: &str, flow: Flow<'_>| {
            let found = flow.velocity(x.clone(), 1.0 - T);
            fixture.assert_close(name, Tensor::cat(vec![found.clone(), found], 0).into_data(), fixture.tolerance(None));
        };
        let strong = || flow(&net, &y);
        let null = || flow(&net, &y.clone().null());
        check("out.cfg_1.5_interval_0.3_0.4_t0.5", outside(strong(), null, 1.5, 0.3, 0.4));
        check("out.cfg_1.5_interval_0.3_0.6_t0.5", outside(strong(), null, 1.5, 0.3, 0.6));
        let inside = within(2.0, 1.0 - 0.6, 1.0 - 0.3);
        check("out.cfg_1.5_interval_0.3_0.6_icfg2_t0.5", outside(strong(), null, 1.5, 0.3, 0.6).guided(null(), inside));

        let weaker = &fixture.manifest["config"]["autoguidance_model"];
        if !weaker.is_null() {
            let weaker = network(&fixture, weaker, "weights_ag.", &device);
            let weak = || flow(&weaker, &y);
            check("out.ag_1.42_interval_0.3_0.4_t0.5", outside(strong(), weak, 1.42, 0.3, 0.4));
            check("out.ag_1.42_interval_0.3_0.6_t0.5", outside(strong(), weak, 1.42, 0.3, 0.6));
        }
    }
}
