//! SiT against the official code, on tiny networks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mixflow::sampling::{Flow, Guidance};
use mixflow_backbones::embed::{sin_cos_2d, sinusoidal, unpatchify};
use mixflow_backbones::encoder::{Encoder, EncoderConfig};
use mixflow_backbones::sit::{Sit, SitConfig, official_key};
use mixflow_backbones::{Backbone, ClassLabels, Condition};
use mixflow_schedules::{Linear, Prediction};
use mixflow_tests::{Fixture, Tolerance, assert_loss_and_gradients, close};

const CASES: [&str; 3] = ["sit/sit_p2_learnsigma", "sit/sit_p4_nosigma", "sit/sit_p2_nodropout"];

/// Those with a null label.
const WITH_NULL: [&str; 2] = ["sit/sit_p2_learnsigma", "sit/sit_p4_nosigma"];

/// The shape that a fixture says, of SiT or DiT, whose perceptrons are four times as wide.
pub(crate) fn shape(fixture: &Fixture) -> SitConfig {
    let config = &fixture.manifest["config"];
    let number = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as usize;
    let width = number("hidden_size");
    SitConfig {
        input_size: number("input_size"),
        patch: number("patch_size"),
        channels: number("in_channels"),
        width,
        depth: number("depth"),
        heads: number("num_heads"),
        hidden: 4 * width,
        classes: number("num_classes"),
        null_class: true,
        learn_sigma: config["learn_sigma"].as_bool().expect("learn_sigma"),
    }
}

/// The network of a fixture, with its weights.
pub(crate) fn network(fixture: &Fixture, device: &Device) -> Sit {
    let (shape, config) = (shape(fixture), &fixture.manifest["config"]);
    let config = SitConfig {
        hidden: (shape.width as f64 * config["mlp_ratio"].as_f64().expect("mlp_ratio")) as usize,
        null_class: config["class_dropout_prob"].as_f64().expect("class_dropout_prob") > 0.0,
        ..shape
    };
    config.init(0, device).load(fixture.weights("weights.")).expect("the recorded weights fit")
}

fn labels(fixture: &Fixture, name: &str, device: &Device) -> ClassLabels {
    let null = fixture.manifest["config"]["num_classes"].as_u64().expect("num_classes") as usize;
    ClassLabels { labels: fixture.integers(name, device), null }
}

#[test]
fn every_activation_is_the_official_one() {
    let device = Device::default();
    for case in CASES {
        let fixture = Fixture::read(case);
        let sit = network(&fixture, &device);
        let (x, t, y) =
            (fixture.tensor::<4>("in.x", &device), fixture.tensor("in.t", &device), labels(&fixture, "in.y", &device));
        let check = |name: &str, found: burn::tensor::TensorData| {
            if fixture.has(name) {
                fixture.assert_close(name, found, fixture.tolerance(None));
            }
        };
        check("out.forward", sit.forward(x.clone(), t.clone(), y.clone()).into_data());
        check("out.t_emb", sit.t_embedder.forward(t.clone()).into_data());
        check("out.x_tokens", sit.x_embedder.forward(x.clone()).into_data());
        let modulation = sit.modulation(t, y);
        let mut tokens = sit.embed(x.clone());
        for (k, block) in sit.blocks.iter().enumerate() {
            tokens = block.forward(tokens, modulation.clone(), None);
            check(&format!("out.block{k}"), tokens.clone().into_data());
        }
        let patches = sit.final_layer.forward(tokens, modulation);
        check("out.final_tokens", patches.clone().into_data());
        let [_, _, height, width] = x.dims();
        let patch = sit.x_embedder.proj.weight.val().dims()[2];
        check("out.unpatchified_full", unpatchify(patches, [height / patch, width / patch], patch).into_data());
    }
}

#[test]
fn gradients_are_the_official_ones() {
    let device = Device::default().autodiff();
    for case in CASES {
        let fixture = Fixture::read(case);
        let sit = network(&fixture, &device);
        let (t, y) = (fixture.tensor("in.t", &device), labels(&fixture, "in.y", &device));
        assert_loss_and_gradients(&fixture, &sit, official_key, |x| sit.forward(x, t, y));
    }
}

#[test]
fn dropped_labels_are_the_null_label() {
    let device = Device::default();
    for case in WITH_NULL {
        let fixture = Fixture::read(case);
        let mask = fixture.integers::<1>("in.force_drop_ids", &device).equal_elem(1);
        let dropped = labels(&fixture, "in.y", &device).mask(mask);
        assert_eq!(
            dropped.labels.into_data().iter::<i64>().collect::<Vec<_>>(),
            fixture.data("out.labels_after_forced_drop").iter::<i64>().collect::<Vec<_>>()
        );
    }
}

/// The official batch holds every image twice. Its second half has the channels that are guided, and the others as the
/// null label gives them.
#[test]
fn guidance_is_the_official_one() {
    let device = Device::default();
    for case in WITH_NULL {
        let fixture = Fixture::read(case);
        let sit = network(&fixture, &device);
        let (x, times) = (fixture.tensor::<4>("in.cfg_x", &device), fixture.values("in.cfg_t"));
        let given = labels(&fixture, "in.cfg_y", &device);
        let images = times.len() / 2;
        for (name, scale, channels) in
            [("cfg_scale_1.5", 1.5, 3), ("cfg_scale_4.0", 4.0, 3), ("cfg_all_channels_scale_1.5", 1.5, 4)]
        {
            let guidance = Guidance::new(scale).and_then(|guidance| guidance.first_channels(channels));
            let guidance = guidance.expect("the scale is valid");
            let (mut first, mut second) = (vec![], vec![]);
            // Flows have one time for all images, the record has one for each.
            for (image, &t) in times[..images].iter().enumerate() {
                let x = x.clone().slice(image..image + 1);
                let label = ClassLabels { labels: given.labels.clone().slice(image..image + 1), null: given.null };
                let flow = |label| Flow::of(&Linear, Prediction::Velocity, &sit, label);
                let weak = flow(label.clone().null());
                let rest = weak.velocity(x.clone(), t).slice([0..1, 3..4]);
                let guided = flow(label).guided(weak, guidance).velocity(x, t);
                let shared = guided.clone().slice([0..1, 0..channels]);
                second.push(if channels == 4 { shared } else { Tensor::cat(vec![shared, rest], 1) });
                first.push(guided);
            }
            first.extend(second);
            fixture.assert_close(&format!("out.{name}"), Tensor::cat(first, 0).into_data(), fixture.tolerance(None));
        }
    }
}

#[test]
fn embeddings_are_the_official_ones() {
    let fixture = Fixture::read("sit/embeddings");
    let tolerance = fixture.tolerance(None);
    let t = fixture.tensor::<1>("in.t", &Device::default());
    for width in [256, 17] {
        let found = sinusoidal(t.clone(), width).into_data();
        fixture.assert_close(&format!("out.timestep_embedding_{width}"), found, tolerance);
    }
    for (width, side) in [(32, 4), (48, 8), (16, 3)] {
        let found: Vec<f64> = sin_cos_2d([side, side], width).into_iter().map(f64::from).collect();
        close("position", &found, &fixture.values(&format!("out.pos_embed_{width}_{side}")), tolerance);
    }
    // With a class token: the table that masked autoencoders start from.
    let config = EncoderConfig { width: 16, heads: 2, depth: 1, table_size: 48, ..EncoderConfig::mae_base() };
    let Encoder::Mae(network) = config.init(0, &Device::default()) else { panic!("MAE was asked for") };
    let found: Vec<f64> = network.position_embeddings.val().into_data().iter::<f64>().collect();
    close("position", &found, &fixture.values("out.pos_embed_cls_16_3"), tolerance);
}

/// `README.md` of the recorded cases: counts of the instantiated official classes, frozen tables included.
#[test]
fn parameter_counts_are_the_published_ones() {
    let published = [
        (SitConfig::small(2), 32_963_360, 32_957_200),
        (SitConfig::base(2), 130_512_416, 130_500_112),
        (SitConfig::large(2), 458_102_816, 458_086_416),
        (SitConfig::extra_large(2), 675_129_632, 675_111_184),
        (SitConfig { input_size: 64, ..SitConfig::extra_large(2) }, 676_014_368, 675_995_920),
    ];
    for (config, with_sigma, without) in published {
        for (learn_sigma, expected) in [(true, with_sigma), (false, without)] {
            let network = SitConfig { learn_sigma, ..config.clone() }.init(0, &Device::default());
            assert_eq!(network.num_params(), expected, "{config:?}");
        }
    }
}

#[test]
fn a_tolerance_can_fail() {
    let strict = Tolerance { relative: 0.0, absolute: 0.0 };
    assert!(std::panic::catch_unwind(|| close("one", &[1.0], &[1.1], strict)).is_err());
    assert!(std::panic::catch_unwind(|| close("nan", &[f64::NAN], &[1.0], strict)).is_err());
}
