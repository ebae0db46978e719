//! What a plan says of memory is what a step takes.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use mixflow::train::{OptimizerConfig, TrainState};
use mixflow::{Batch, FlowMatching};
use mixflow_backbones::sit::SitConfig;
use mixflow_backbones::{Backbone, ClassLabels, Network, NetworkConfig, Precision};
use mixflow_schedules::Linear;

use crate::allocation::peak;

/// On the CPU, which rounds in `f32`: 16 bits save nothing here.
#[test]
fn a_step_takes_the_memory_that_is_planned() {
    const BATCH: usize = 16;
    let device = Device::default().autodiff();
    let sit = SitConfig {
        input_size: 32,
        patch: 4,
        channels: 4,
        width: 96,
        depth: 8,
        heads: 4,
        hidden: 384,
        classes: 10,
        ..SitConfig::small(4)
    };
    let config = NetworkConfig::Sit(sit);
    let gradients = 4 * config.parameters();
    // Run again, blocks have given up most of their inputs when all gradients are there: less than the sum of both.
    for (recompute, expected) in [(false, 0.85..1.15), (true, 0.8..1.0)] {
        let network: Network = config.init(0, &device);
        let network = if recompute { network.recomputing().expect("SiT runs its blocks again") } else { network };
        let images = Tensor::random([BATCH, 4, 32, 32], Distribution::Normal(0.0, 1.0), &device);
        let batch = Batch::new(images, ClassLabels::new(&[3; BATCH], 10, &device), 0);
        let step = |state: TrainState<Network>| {
            state.step(&FlowMatching::new(Linear), [batch.clone()], 0, &OptimizerConfig::default()).0
        };
        // With the first gradients come the moments.
        let state = step(TrainState::new(network));
        let (_, found) = peak(|| step(state));
        let planned = BATCH as u64 * config.activations().bytes(Precision::F32, recompute) + gradients;
        let ratio = found as f64 / planned as f64;
        assert!(expected.contains(&ratio), "recompute {recompute}: took {found}, planned {planned}: {ratio:.3}");
    }
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
