//! A training on several devices is the one on a single device.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use mixflow::recipe::Recipe;
use mixflow::train::{Checkpoints, Event, Outcome, Snapshot, StepReport};
use mixflow::{Batch, Loss, Objective};
use mixflow_backbones::{ClassLabels, Network, Precision};

use crate::resume::train_on;

/// Twelve examples a step, so that one, two, three and four devices have equal shares.
fn recipe(steps: u64) -> Recipe {
    let mut recipe = crate::resume::recipe(1000);
    (recipe.training.batch, recipe.training.steps, recipe.training.checkpoint_every) = (12, steps, steps);
    recipe
}

/// Trains until the end on so many devices, each the CPU; what was told, and the state.
fn train(recipe: &Recipe, folder: &Path, devices: usize) -> (Vec<StepReport>, Snapshot) {
    let mut reports = vec![];
    let tell = |event: Event| {
        if let Event::Stepped(report) = event {
            reports.push(report.clone());
        }
    };
    let beside = vec![Device::flex(); devices - 1];
    let objective = recipe.objective.flow_matching();
    train_on(recipe, folder, &objective, &beside, &AtomicBool::new(false), tell).expect("training succeeds");
    let latest = Checkpoints::new(folder.join("checkpoints"), 2).latest().expect("the folder can be listed");
    (reports, latest.checkpoint.expect("a finished run has a checkpoint").snapshot)
}

/// The largest difference of two states' weights and averages.
fn apart(a: &Snapshot, b: &Snapshot) -> f64 {
    let pairs = a.weights.iter().zip(&b.weights).chain(a.average.iter().zip(&b.average));
    let differences = pairs.flat_map(|((name, a), (other, b))| {
        assert_eq!(name, other);
        a.iter::<f64>().zip(b.iter::<f64>().collect::<Vec<_>>()).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>()
    });
    differences.fold(0.0, f64::max)
}

#[test]
fn weights_are_the_same_on_one_two_and_three_devices() {
    let recipe = recipe(20);
    let folder = || tempfile::tempdir().expect("a folder");
    let (alone, expected) = train(&recipe, folder().path(), 1);
    for devices in [2, 3] {
        let (reports, state) = train(&recipe, folder().path(), devices);
        assert!(apart(&state, &expected) < 1e-6, "{devices} devices: {:e}", apart(&state, &expected));
        assert_eq!(reports.len(), alone.len());
        for (report, alone) in reports.iter().zip(&alone) {
            assert!((report.loss - alone.loss).abs() < 1e-6, "{devices} devices: {report:?}, {alone:?}");
            assert!((report.gradient_norm / alone.gradient_norm - 1.0).abs() < 1e-5, "{report:?}, {alone:?}");
        }
    }
}

/// Who updates a parameter, and where, changes no bit; nor does another number of devices what a checkpoint has.
#[test]
fn a_state_that_devices_share_or_the_host_has_is_that_of_one_device() {
    let kept = |steps, shard, offload| {
        let mut recipe = recipe(steps);
        (recipe.training.shard, recipe.training.offload) = (shard, offload);
        recipe
    };
    let folder = || tempfile::tempdir().expect("a folder");
    for devices in [1, 2, 3] {
        let (reports, expected) = train(&kept(6, false, false), folder().path(), devices);
        for (shard, offload) in [(true, false), (false, true), (true, true)] {
            let (found, state) = train(&kept(6, shard, offload), folder().path(), devices);
            assert!(state == expected && found == reports, "{devices} devices, shard {shard}, offload {offload}");
        }
        // It goes on as either.
        let parts = folder();
        for (steps, shard) in [(2, true), (4, false), (6, true)] {
            train(&kept(steps, shard, shard), parts.path(), devices);
        }
        let last = Checkpoints::new(parts.path().join("checkpoints"), 2).latest().expect("the folder can be listed");
        assert!(last.checkpoint.expect("it is whole").snapshot == expected, "{devices} devices");
    }
    // Weights that are stored in 16 bits, of which those in 32 are remembered.
    let low = |shard, offload, accumulation| {
        let mut recipe = kept(6, shard, offload);
        (recipe.training.precision, recipe.training.accumulation) = (Precision::Bf16, accumulation);
        recipe
    };
    for (devices, accumulation) in [(1, 1), (2, 1), (3, 2)] {
        let (reports, expected) = train(&low(false, false, accumulation), folder().path(), devices);
        for (shard, offload) in [(true, false), (false, true), (true, true)] {
            let (found, state) = train(&low(shard, offload, accumulation), folder().path(), devices);
            assert!(state == expected && found == reports, "bf16, {devices} devices, shard {shard}, offload {offload}");
        }
    }
    // They are read again as they were, by a run that goes on or has ended.
    let (_, expected) = train(&low(false, false, 1), folder().path(), 1);
    for keys in [[(false, true), (false, false), (false, true)], [(false, false), (false, true), (false, true)]] {
        let parts = folder();
        for (steps, (shard, offload)) in [2, 4, 6, 6].into_iter().zip(keys.into_iter().chain([(false, true)])) {
            let mut recipe = low(shard, offload, 1);
            (recipe.training.steps, recipe.training.checkpoint_every) = (steps, 2);
            let objective = recipe.objective.flow_matching();
            let outcome = train_on(&recipe, parts.path(), &objective, &[], &AtomicBool::new(false), |_| {});
            let Outcome::Finished(state) = outcome.expect("training succeeds") else { panic!("it was not stopped") };
            assert!(steps < 6 || state.snapshot() == expected, "{keys:?}, step {steps}");
        }
    }
    let (_, expected) = train(&low(false, false, 1), folder().path(), 3);
    let parts = folder();
    for (steps, shard, offload) in [(2, true, false), (4, true, true), (6, true, false)] {
        let mut recipe = low(shard, offload, 1);
        (recipe.training.steps, recipe.training.checkpoint_every) = (steps, steps);
        let (_, state) = train(&recipe, parts.path(), 3);
        assert!(steps < 6 || state == expected, "bf16 on 3 devices, step {steps}");
    }
    let folder = folder();
    for (steps, devices) in [(2, 2), (4, 3)] {
        train(&kept(steps, true, false), folder.path(), devices);
    }
    let (_, state) = train(&kept(6, false, false), folder.path(), 1);
    let (_, expected) = train(&kept(6, false, false), tempfile::tempdir().expect("a folder").path(), 1);
    assert!(apart(&state, &expected) < 1e-6, "{:e}", apart(&state, &expected));
}

/// Parts of a device and devices multiply: two of each are four parts.
#[test]
fn devices_and_accumulation_multiply() {
    let mut recipe = recipe(6);
    let folder = || tempfile::tempdir().expect("a folder");
    let (_, expected) = train(&recipe, folder().path(), 1);
    recipe.training.accumulation = 2;
    assert!(apart(&train(&recipe, folder().path(), 2).1, &expected) < 1e-6);
}

#[test]
fn a_run_goes_on_with_another_number_of_devices() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, expected) = train(&recipe(12), tempfile::tempdir().expect("a folder").path(), 1);
    for (steps, devices) in [(4, 2), (8, 3)] {
        train(&recipe(steps), folder.path(), devices);
    }
    let (reports, state) = train(&recipe(12), folder.path(), 1);
    assert_eq!(reports.len(), 4, "it went on from step 8");
    assert!(apart(&state, &expected) < 1e-6, "{:e}", apart(&state, &expected));
}

#[test]
fn a_batch_that_cannot_be_shared_is_refused() {
    let (recipe, folder) = (recipe(2), tempfile::tempdir().expect("a folder"));
    let objective = recipe.objective.flow_matching();
    let beside = vec![Device::flex(); 4];
    let error = train_on(&recipe, folder.path(), &objective, &beside, &AtomicBool::new(false), |_| {});
    let error = error.expect_err("12 examples on 5 devices").to_string();
    assert!(error.ends_with("times the number of devices, found 12, 1 and 5"), "{error}");
}

/// Fails at the fifth step, at these places in its batch.
#[derive(Debug)]
struct Failing(Range<u64>);

impl Objective<Network> for Failing {
    fn loss(&self, network: &Network, batch: Batch<ClassLabels>, seed: u64) -> Loss {
        assert!(batch.first / 12 != 4 || !self.0.contains(&(batch.first % 12)), "out of\nmemory");
        recipe(1).objective.flow_matching().loss(network, batch, seed)
    }
}

#[test]
fn a_device_that_fails_ends_the_run_by_its_name_and_the_others_go_on() {
    let (mut recipe, folder) = (recipe(8), tempfile::tempdir().expect("a folder"));
    recipe.training.checkpoint_every = 2;
    let (_, expected) = train(&recipe, tempfile::tempdir().expect("a folder").path(), 1);
    let last = || Checkpoints::new(folder.path().join("checkpoints"), 2).latest().expect("the folder can be listed");
    for (failing, beside, name) in [(6..12, 1, "device 2 of 2 (flex (CPU))"), (0..12, 0, "flex (CPU)")] {
        let (stop, beside) = (AtomicBool::new(false), vec![Device::flex(); beside]);
        let run = train_on(&recipe, folder.path(), &Failing(failing), &beside, &stop, |_| {});
        let fault = run.expect_err("a device failed");
        assert!(fault.to_string().starts_with(&format!("{name} failed at step 4: out of memory; ")), "{fault}");
        let (step, damaged) = (last().checkpoint.expect("it is whole").snapshot.step, last().damaged);
        assert!(step == 4 && damaged.is_empty(), "{step}, {damaged:?}");
    }
    let (reports, state) = train(&recipe, folder.path(), 1);
    assert!(reports.len() == 4 && apart(&state, &expected) < 1e-6, "{}", apart(&state, &expected));
}
