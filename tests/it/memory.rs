//! What a plan says of memory is what a step takes.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use mixflow::plan::{Machine, Plan};
use mixflow::recipe::Recipe;
use mixflow::train::{OptimizerConfig, TrainState};
use mixflow::{Batch, FlowMatching};
use mixflow_backbones::dit_dh::{DitDhConfig, Stack};
use mixflow_backbones::lightning_dit::LightningDitConfig;
use mixflow_backbones::sit::SitConfig;
use mixflow_backbones::{Backbone, ClassLabels, Network, NetworkConfig, Precision};
use mixflow_schedules::Linear;
use mixflow_tests::train_from;

use crate::allocation::peak;

const BATCH: usize = 16;

/// What the step of a training takes beside what stays, in bytes, and what is planned of it.
fn step(config: &NetworkConfig, precision: Precision, recompute: bool) -> [f64; 2] {
    let device = Device::default().autodiff();
    let [channels, height, width] = config.shape();
    let network: Network = config.init(0, &device);
    let network = if recompute { network.recomputing().expect("it runs its blocks again") } else { network };
    let network = network.in_precision(precision).expect("it multiplies in 16 bits");
    let images = Tensor::random([BATCH, channels, height, width], Distribution::Normal(0.0, 1.0), &device);
    let batch = Batch::new(images, ClassLabels::new(&[3; BATCH], 10, &device), 0);
    let step = |state: TrainState<Network>| {
        state.step(&FlowMatching::new(Linear), [batch.clone()], 0, &OptimizerConfig::default()).0
    };
    // With the first gradients come the moments.
    let state = step(TrainState::new(network));
    let (_, found) = peak(|| step(state));
    let rounded = if precision.is_full() { 0 } else { 2 * config.parameters() };
    let planned = BATCH as u64 * config.activations().bytes(precision, recompute) + 4 * config.parameters() + rounded;
    [found as f64, planned as f64]
}

fn sit() -> NetworkConfig {
    NetworkConfig::Sit(SitConfig {
        input_size: 32,
        patch: 4,
        channels: 4,
        width: 96,
        depth: 8,
        heads: 4,
        hidden: 384,
        classes: 10,
        ..SitConfig::small(4)
    })
}

/// Every kind of block: GELU, `SwiGLU` with normalised and turned queries and keys, and one condition for each token.
#[test]
fn a_step_takes_the_memory_that_is_planned() {
    let stack = |width, depth| Stack { width, depth, heads: 4, hidden: 8 * width / 3 };
    let lightning = LightningDitConfig {
        input_size: 8,
        channels: 4,
        width: 96,
        depth: 8,
        heads: 4,
        hidden: 256,
        classes: 10,
        ..LightningDitConfig::extra_large()
    };
    let dit_dh = DitDhConfig {
        input_size: 8,
        channels: 4,
        encoder: stack(96, 5),
        head: stack(144, 2),
        classes: 10,
        ..DitDhConfig::small()
    };
    for config in [sit(), NetworkConfig::LightningDit(lightning), NetworkConfig::DitDh(dit_dh)] {
        for precision in [Precision::F32, Precision::Bf16] {
            for recompute in [false, true] {
                // On one thread, which is where all that a step takes is counted.
                let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
                let [found, planned] = alone.install(|| step(&config, precision, recompute));
                let ratio = found / planned;
                // Run again, blocks have given up most of their inputs when all gradients are there, and hold the rounded
                // weights of one alone.
                let least = match (recompute, precision.is_full()) {
                    (false, _) => 0.85,
                    (true, true) => 0.8,
                    (true, false) => 0.75,
                };
                assert!(
                    (least..1.15).contains(&ratio),
                    "{config:?} in {precision}, recompute {recompute}: took {found}, planned {planned}: {ratio:.3}"
                );
            }
        }
    }
}

/// A whole run, from the file of the weights to that of what was learned: what is frozen is never there in 32 bits. What a layer
/// needs while it computes is not planned; with many layers it is little.
#[test]
fn an_adapter_beside_weights_of_16_bits_takes_the_memory_that_is_planned() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let network = r#"network={"kind":"sit","input_size":32,"patch":4,"channels":1,"width":192,"depth":16,"heads":4,"hidden":768,
        "classes":10}"#;
    let recipe = |changes: &[&str]| {
        let changes =
            [&[network, "post_training=null", "training.steps=2", "training.checkpoint_every=1"][..], changes];
        Recipe::read("digits", &changes.concat().into_iter().map(String::from).collect::<Vec<_>>()).expect("a recipe")
    };
    let from = root.path().join("start.safetensors");
    let start = recipe(&[]).network.init(0, &Device::default());
    start.weights().write(&from, &[]).expect("room");
    drop(start);
    let adapter = r#"adapter={"kind":"lora","rank":8}"#;
    for (number, [precision, recompute]) in
        [["f32", "false"], ["bf16", "false"], ["bf16", "true"]].into_iter().enumerate()
    {
        let [precision, recompute] =
            [format!("training.precision={precision}"), format!("training.recompute={recompute}")];
        let recipe = recipe(&[adapter, &precision, &recompute, "training.batch=4"]);
        let folder = root.path().join(number.to_string());
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        let ((), found) = alone.install(|| peak(|| train_from(&recipe, &from, &folder)));
        let plan = Plan::new(&recipe, Machine::named("rtx-3090").expect("it is known")).expect("a plan");
        let (found, planned) = (found as f64, plan.total_memory() as f64);
        let ratio = found / planned;
        assert!((0.85..1.15).contains(&ratio), "{precision}, {recompute}: took {found}, planned {planned}: {ratio:.3}");
    }
}

/// What blocks keep of their inputs is little beside the weights here: each copy of these is a tenth of all.
#[test]
fn a_training_whose_blocks_are_run_again_holds_no_other_weights() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let from = root.path().join("start.safetensors");
    let found = ["false", "true"].map(|recompute| {
        let changes = [
            r#"network={"kind":"sit","input_size":32,"patch":8,"channels":1,"width":192,"depth":4,"heads":4,"hidden":768,
                "classes":10}"#,
            "post_training=null",
            "training.batch=2",
            "training.steps=2",
            &format!("training.recompute={recompute}"),
        ];
        let recipe = Recipe::read("digits", &changes.map(String::from)).expect("a recipe");
        recipe.network.init(0, &Device::default()).weights().write(&from, &[]).expect("room");
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        alone.install(|| peak(|| train_from(&recipe, &from, &root.path().join(recompute)))).1 as f64
    });
    let [kept, again] = found;
    assert!(again < 1.03 * kept, "took {again}, {kept} of blocks that are not run again");
}

/// Of SiT the table of places is frozen, here four fifths of all numbers.
#[test]
fn what_is_frozen_has_no_moments_and_no_average_of_its_own() {
    let device = Device::default().autodiff();
    let sit =
        SitConfig { input_size: 128, width: 64, depth: 1, heads: 2, hidden: 64, classes: 3, ..SitConfig::small(2) };
    let config = NetworkConfig::Sit(sit);
    let table = 4 * 64 * 64 * 64;
    let state = TrainState::new(config.init(0, &device));
    let (_, new) = peak(|| TrainState::new(state.backbone().clone()));
    assert!(new < table / 10, "a new state took {new} bytes beside its network");
    let snapshot = state.snapshot();
    assert_eq!(snapshot.first_moment.len(), snapshot.weights.len(), "a checkpoint has zeros for the others");
    let restored = TrainState::restore(state.backbone().valid(), snapshot.clone()).expect("it fits");
    assert!(restored.snapshot() == snapshot);
}
