//! Low-rank adapters of the transformer, as `diffusers` and kohya have them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::backbones::Backbone;
use mixflow::backbones::lora::Adapter;
use mixflow::backbones::weights::Weights;
use mixflow::objective::AdapterDropout;
use mixflow::schedules::Linear;
use mixflow::train::{LearningRate, OptimizerConfig, TrainState};
use mixflow::{Batch, FlowMatching};
use mixflow_t2i::z_image::{adapter, official_key};
use mixflow_t2i::{TextEmbedding, Transformer, ZImage};
use mixflow_tests::{Fixture, adapted, assert_adapter_errs_like_bf16, assert_gradients, factor_key};

use crate::{TINY, config, network, recorded_texts, texts};

const CASE: &str = "z_image/lora";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/z_image/lora_files").join(name)
}

fn output(fixture: &Fixture, network: &ZImage, device: &Device) -> Tensor<4> {
    network.forward(fixture.tensor("in.x", device), fixture.tensor("in.t", device), recorded_texts(fixture, device))
}

#[test]
fn an_adapter_beside_the_weights_has_the_official_output_and_gradients() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (network, _) = adapted(&fixture, network(&device), official_key);
    let found = output(&fixture, &network, &device);
    fixture.assert_close("out.forward_scale1", found.clone().into_data(), fixture.tolerance(None));
    let loss = (found - fixture.tensor("in.target", &device)).square().mean();
    fixture.assert_close("out.loss", loss.clone().into_data(), fixture.tolerance(None));
    let compared = assert_gradients(&fixture, &network, &mut loss.backward(), |path| factor_key(path, official_key));
    assert_eq!(compared, fixture.names("adapter.").len());
}

/// Prompts of 32 and of 64 tokens, filled up, in turn.
fn told(rows: Range<usize>, device: &Device) -> Batch<TextEmbedding> {
    let config = config(&Fixture::read(TINY));
    let (channels, width) = (config.channels, config.context_width);
    let wave = |start: usize, count: usize| {
        let values: Vec<f32> = (start..start + count).map(|i| (i as f32 * 0.7).sin()).collect();
        Tensor::<1>::from_data(values.as_slice(), device)
    };
    let prompts: Vec<_> = rows
        .clone()
        .map(|row| [3, 40, 5, 33][row])
        .map(|tokens| wave(tokens, tokens * width).reshape([tokens, width]))
        .collect();
    let images = wave(rows.start * channels * 64, rows.len() * channels * 64).reshape([rows.len(), channels, 8, 8]);
    Batch::new(images, texts(&prompts, 40), rows.start as u64)
}

#[test]
fn what_an_adapter_drops_does_not_depend_on_what_is_run_together() {
    let (fixture, device) = (Fixture::read(CASE), Device::flex().autodiff());
    let (network, _) = adapted(&fixture, network(&device), official_key);
    let network = Transformer::from(network);
    let output = |rows: Range<usize>, first: u64| -> Vec<f32> {
        let Batch { images, condition, .. } = told(rows.clone(), &device);
        let time = Tensor::full([rows.len()], 0.3, &device);
        network.dropping(0.5, 7, first).forward(images, time, condition).into_data().iter::<f32>().collect()
    };
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let whole = output(0..4, 100);
    for (row, found) in whole.chunks(whole.len() / 4).enumerate() {
        let alone = output(row..row + 1, 100 + row as u64);
        // Outputs of order 1 in f32.
        assert!(apart(found, &alone) < 1e-5, "row {row}: {}", apart(found, &alone));
        // Not those of the first of its length.
        assert!(row == 0 || apart(found, &output(row..row + 1, 100)) > 1e-3, "row {row} has the masks of the first");
    }

    // With a large epsilon an update is as continuous as its gradient.
    let rate = LearningRate::Constant { rate: 0.1, warmup: 0 };
    let config = OptimizerConfig { learning_rate: rate, epsilon: 1.0, ..OptimizerConfig::default() };
    let plain = FlowMatching::new(Linear);
    let step = |parts: usize, rate: f64| -> Vec<f32> {
        let rows = 4 / parts;
        let batches = (0..parts).map(|part| told(part * rows..(part + 1) * rows, &device));
        let objective = AdapterDropout { objective: &plain, rate };
        let (state, _) = TrainState::new(network.clone()).step(&objective, batches, 3, &config);
        state.snapshot().weights.values().flat_map(|tensor| tensor.iter::<f32>().collect::<Vec<_>>()).collect()
    };
    let (one, halves) = (step(1, 0.5), step(2, 0.5));
    // Updates of 0.1 at most, of gradients in f32.
    assert!(apart(&one, &halves) < 1e-6, "{}", apart(&one, &halves));
    assert!(apart(&one, &step(1, 0.0)) > 1e-5, "nothing is dropped");
}

#[test]
fn beside_weights_of_16_bits_it_learns_as_weights_do() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (network, lora) = adapted(&fixture, network(&device), official_key);
    assert_adapter_errs_like_bf16(&network, &lora, |network| {
        (output(&fixture, network, &device) - fixture.tensor("in.target", &device)).square().mean()
    });
}

#[test]
fn files_of_diffusers_and_kohya_are_added_as_diffusers_adds_them() {
    let (fixture, device) = (Fixture::read(CASE), Device::default());
    for (name, expected) in
        [("pytorch_lora_weights.safetensors", "out.forward_scale1"), ("kohya.safetensors", "out.kohya.forward")]
    {
        let read = adapter(Adapter::read(file(name)).expect("a file of an adapter")).expect("each layer once");
        let fused = read.fuse(network(&device), official_key, 1.0).expect("it fits");
        fixture.assert_close(expected, output(&fixture, &fused, &device).into_data(), fixture.tolerance(None));
    }
}

/// Queries, keys and values have one `A`, and each its third of `B`.
#[test]
fn layers_of_the_official_code_are_those_of_diffusers() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("adapter.safetensors");
    for (qkv, out) in [
        ("diffusion_model.layers.1.attention.qkv", "diffusion_model.layers.1.attention.out"),
        ("lora_unet_layers_1_attention_qkv", "lora_unet_layers_1_attention_out"),
    ] {
        let factor = |first: f32, shape: [usize; 2]| {
            let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| first + 0.01 * i as f32).collect();
            TensorData::new(values, shape).into()
        };
        let weights: Weights = [
            (format!("{qkv}.lora_down.weight"), factor(0.1, [1, 32])),
            (format!("{qkv}.lora_up.weight"), factor(0.2, [96, 1])),
            (format!("{out}.lora_down.weight"), factor(0.3, [1, 32])),
            (format!("{out}.lora_up.weight"), factor(0.4, [32, 1])),
        ]
        .into_iter()
        .collect();
        weights.write(&path, &[]).expect("room");
        let read = adapter(Adapter::read(&path).expect("a file of an adapter")).expect("each layer once");
        let (base, fused) = (network(&device), read.fuse(network(&device), official_key, 1.0).expect("it fits"));
        let corner = |network: &ZImage| {
            let attention = &network.layers[1].attention;
            let [q, k, v] = [&attention.qkv.query, &attention.qkv.key, &attention.qkv.value];
            [q, k, v, &attention.proj]
                .map(|layer| layer.weight.val().narrow(0, 0, 1).narrow(1, 0, 1).into_scalar::<f32>())
        };
        let added = corner(&fused).into_iter().zip(corner(&base)).map(|(fused, base)| fused - base);
        for (added, expected) in added.zip([0.1 * 0.2, 0.1 * 0.52, 0.1 * 0.84, 0.3 * 0.4]) {
            assert!((added - expected).abs() < 1e-6, "{added}, expected {expected}");
        }
    }
}

#[test]
fn what_is_written_says_what_diffusers_writes() {
    let (fixture, device) = (Fixture::read(CASE), Device::default().autodiff());
    let (network, lora) = adapted(&fixture, network(&device), official_key);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("pytorch_lora_weights.safetensors");
    Adapter::of(&network, official_key, &lora).write(&path).expect("it can be written");
    let [ours, theirs] = [path, file("pytorch_lora_weights.safetensors")].map(|path| {
        let weights = Weights::read(path).expect("weights");
        weights.iter().map(|(name, tensor)| (name.to_string(), tensor.data().expect("values"))).collect::<Vec<_>>()
    });
    assert_eq!(ours, theirs);
}
