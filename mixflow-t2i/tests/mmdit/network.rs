//! The network itself.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::{Backbone, ops, testing};
use mixflow::schedules::{Linear, MixFlow, Reversed};
use mixflow::train::{LearningRate, OptimizerConfig, TrainState};
use mixflow::{Batch, FlowMatching, Objective};
use mixflow_t2i::mmdit::official_key;
use mixflow_t2i::{MmDit, MmDitConfig, TextEmbedding};
use mixflow_tests::{Fixture, assert_loss_and_gradients, assert_official_names};

use crate::{CASES, config, network, text};

/// Latents, times and text of the recorded forward pass.
fn inputs(fixture: &Fixture, device: &Device) -> (Tensor<4>, Tensor<1>, TextEmbedding) {
    let time = fixture.tensor::<1>("in.timestep", device) / 1000.0;
    (fixture.tensor("in.x", device), time, text(fixture, ["in.encoder_hidden_states", "in.pooled_projections"], device))
}

#[test]
fn every_activation_is_the_official_one() {
    let device = Device::default();
    for case in CASES {
        let fixture = Fixture::read(case);
        let net = network(&fixture, &device);
        let (x, time, text) = inputs(&fixture, &device);
        let check = |name: &str, found: TensorData| fixture.assert_close(name, found, fixture.tolerance(None));
        check("out.forward", net.forward(x.clone(), time.clone(), text.clone()).into_data());
        let vector = net.time_text_embed(time, text.pooled);
        check("out.time_text_embed", vector.clone().into_data());
        let (mut image, mut context) = (net.embed(x), net.context_embedder.forward(text.tokens));
        check("out.tokens", image.clone().into_data());
        check("out.context", context.clone().into_data());
        let mut compared = 0;
        for (k, block) in net.transformer_blocks.iter().enumerate() {
            (image, context) = block.forward(image, context, ops::silu(vector.clone()), None);
            check(&format!("out.block{k}.x"), image.clone().into_data());
            compared += 1;
            if k + 1 < net.transformer_blocks.len() {
                check(&format!("out.block{k}.context"), context.clone().into_data());
                compared += 1;
            }
        }
        assert_eq!(fixture.names("out.block").len(), compared);
    }
}

#[test]
fn gradients_are_the_official_ones() {
    let device = Device::default().autodiff();
    for case in CASES {
        let fixture = Fixture::read(case);
        let net = network(&fixture, &device);
        let (_, time, text) = inputs(&fixture, &device);
        assert_loss_and_gradients(&fixture, &net, official_key, |x| net.forward(x, time, text));
    }
}

/// Counts from `README.md` of the recorded cases.
#[test]
fn published_sizes_have_the_official_names_and_shapes() {
    for (config, keys, parameters, places) in [
        (MmDitConfig::stable_diffusion_3_5_medium(), "sd35_medium_diffusers", 2_243_171_520, 226_492_416),
        (MmDitConfig::stable_diffusion_3_5_large(), "sd35_large_diffusers", 8_056_627_520, 89_653_248),
    ] {
        let network = config.init(0, &Device::default());
        assert_official_names(&network, official_key, keys);
        assert_eq!(config.parameters(), parameters);
        assert_eq!(network.num_params() as u64, parameters + places);
    }
    // Of the model card: 2 billion parameters.
    assert_eq!(MmDitConfig::stable_diffusion_3_medium().parameters() / 100_000_000, 20);
    // Half of what `torch.utils.flop_counter` 2.15 counts of `SD3Transformer2DModel` of diffusers 0.42.1 at 1024 pixels.
    for (config, expected) in [
        (MmDitConfig::stable_diffusion_3_medium(), 4_452_168_769_536),
        (MmDitConfig::stable_diffusion_3_5_medium(), 5_624_786_853_888),
    ] {
        assert_eq!(config.multiply_adds(77 + 256), expected);
    }
}

/// Small enough to train here, with everything that a network can have.
fn tiny() -> MmDitConfig {
    MmDitConfig {
        input_size: 4,
        channels: 4,
        width: 16,
        depth: 3,
        heads: 2,
        context_width: 6,
        pooled_width: 5,
        table: 3,
        dual_attention: vec![0],
        ..MmDitConfig::stable_diffusion_3_5_medium()
    }
}

/// Numbers in [-1, 1] that depend on their place alone.
fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 1.7).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn tiny_text(batch: usize, device: &Device) -> TextEmbedding {
    TextEmbedding::new(numbers([batch, 3, 6], device), numbers([batch, 5], device))
}

#[test]
fn it_passes_the_conformance_checks() {
    let device = Device::default().autodiff();
    for config in [tiny(), MmDitConfig { qk_norm: false, dual_attention: vec![], ..tiny() }] {
        testing::check(&config.init(0, &device), [3, 4, 4, 6], tiny_text(3, &device));
    }
}

#[test]
fn a_new_network_predicts_zero_and_is_one_of_its_seed() {
    let device = Device::default();
    let time = Tensor::from_data([0.1f32, 0.9], &device);
    let output = tiny().init(5, &device).forward(numbers([2, 4, 4, 4], &device), time, tiny_text(2, &device));
    assert!(output.into_data().iter::<f32>().all(|v| v == 0.0));
    let weight = |seed| tiny().init(seed, &device).context_embedder.weight.val().into_data();
    assert_eq!(weight(1), weight(1));
    assert_ne!(weight(1), weight(2));
}

/// `README.md` of the recorded cases: positions are divided by `table / (input_size / patch)`, and the recorded tables are
/// those that the official class computes.
#[test]
fn places_are_the_official_ones() {
    for case in CASES {
        let fixture = Fixture::read(case);
        let places = config(&fixture).init(0, &Device::default()).pos_embed.val().into_data();
        fixture.assert_close("weights.pos_embed.pos_embed", places, fixture.tolerance(None));
    }
}

#[test]
#[should_panic(expected = "latents of 2 x 4 tokens: the network has places for 3 x 3")]
fn latents_that_are_too_large_are_refused() {
    let device = Device::default();
    tiny().init(0, &device).embed(numbers([1, 4, 4, 8], &device));
}

/// On the same draws, before and after.
#[test]
fn mixflow_training_lowers_the_loss() {
    let device = Device::default().autodiff();
    let objective = FlowMatching { condition_dropout: 0.1, ..FlowMatching::new(Reversed(Linear)) };
    let objective = objective.timesteps(MixFlow::new(0.8));
    let batch = |first| Batch::new(numbers([8, 4, 4, 4], &device) * 0.5, tiny_text(8, &device), first);
    let loss = |network: &MmDit| objective.loss(network, batch(1 << 20), 3).total.into_scalar::<f64>();
    let mut state = TrainState::new(tiny().init(0, &device));
    let before = loss(state.backbone());
    let rate = LearningRate::Constant { rate: 3e-3, warmup: 0 };
    let config = OptimizerConfig { learning_rate: rate, ..OptimizerConfig::default() };
    for step in 0..40 {
        state = state.step(&objective, [batch(8 * step)], 3, &config).0;
    }
    let after = loss(state.backbone());
    assert!(after < 0.8 * before, "{before} became {after}");
}

#[test]
fn left_out_blocks_share_the_weights_of_the_others() {
    let device = Device::default();
    let network = tiny().init(0, &device);
    let rest = network.without_blocks(&[0, 2]).expect("it has three");
    assert_eq!(rest.transformer_blocks.len(), 1);
    let ids = |network: &MmDit, block: usize| network.transformer_blocks[block].norm1.linear.weight.id;
    assert_eq!(ids(&rest, 0), ids(&network, 1));
}

#[test]
fn only_blocks_that_are_there_can_be_left_out() {
    let fault = tiny().init(0, &Device::default()).without_blocks(&[0, 3]).expect_err("it has three").to_string();
    assert_eq!(fault, "blocks must be 0 to 2, found 3");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (config, words) in [
        (MmDitConfig { depth: 0, ..tiny() }, "depth must be from 1 to 65536, found 0"),
        (MmDitConfig { table: 1 << 40, ..tiny() }, "table must be from 1"),
        (MmDitConfig { input_size: 3, ..tiny() }, "input_size must be divisible by patch"),
        (MmDitConfig { heads: 3, ..tiny() }, "3 heads"),
        (MmDitConfig { table: 1, ..tiny() }, "table must hold latents of input_size, 2 tokens a side, found 1"),
        (MmDitConfig { dual_attention: vec![1, 3], ..tiny() }, "numbers of blocks, 0 to 2, found 3"),
    ] {
        let fault = config.check().expect_err("it makes no sense").to_string();
        assert!(fault.contains(words), "{fault}");
    }
}
