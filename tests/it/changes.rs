//! Changes of the optimiser in the middle of a run.

use std::fs;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor, TensorData};
use mixflow::Batch;
use mixflow::data::{Loader, LoaderConfig};
use mixflow::recipe::Recipe;
use mixflow::train::{Change, LearningRate, Snapshot, TrainState, change_optimizer, changes};
use mixflow_backbones::ClassLabels;

use crate::resume::{BATCH, Trace, interrupt, network, recipe, temporary, train};

/// Steps one by one, with a rate that changes at a step.
fn with_rates(recipe: &Recipe, rates: [f64; 2], at: u64) -> Snapshot {
    let mut first = recipe.clone();
    first.training.optimizer.learning_rate = LearningRate::Constant { rate: rates[0], warmup: 100 };
    let mut second = recipe.clone();
    second.training.optimizer.learning_rate = LearningRate::Constant { rate: rates[1], warmup: 100 };
    let device = Device::default().autodiff();
    let mut state = TrainState::new(network(recipe));
    let order = LoaderConfig { seed: recipe.seed, batch: BATCH as usize, step: 0, flip: true, workers: 1 };
    let batches = Loader::new(recipe.data.open().expect("digits"), order).expect("a loader");
    for (step, batch) in batches.take(12).enumerate() {
        let batch = batch.expect("digits");
        let images = Tensor::from_data(TensorData::new(batch.pixels, [BATCH as usize, 1, 8, 8]), &device);
        let batch = Batch::new(images, ClassLabels::new(&batch.labels, 10, &device), batch.first);
        let config = if (step as u64) < at { &first } else { &second };
        let objective = recipe.objective.flow_matching();
        state = state.step(&objective, [batch], recipe.seed, &config.training.optimizer).0;
    }
    state.snapshot()
}

#[test]
fn an_optimizer_that_was_changed_by_name_takes_over_at_a_step_and_is_written_down() {
    let (old, folder) = (recipe(5), temporary());
    let mut new = old.clone();
    new.post_training = None;
    new.training.optimizer.learning_rate = LearningRate::Constant { rate: 0.01, warmup: 100 };
    let old = Recipe { post_training: None, ..old };
    interrupt(&old, folder.path(), 6);
    let objective = new.objective.flow_matching();
    let resume = || train(&new, folder.path(), &objective, &AtomicBool::new(false), |_| {});
    let refused = resume().expect_err("nobody asked for it").to_string();
    assert!(refused.contains("another `training.optimizer.learning_rate.rate`: 0.002, not 0.01"), "{refused}");

    let key = "training.optimizer.learning_rate.rate".to_string();
    let made =
        change_optimizer(folder.path(), &new.to_value(), std::slice::from_ref(&key)).expect("it is the optimiser's");
    let change = Change { step: 7, key: key.clone(), from: 0.002.into(), to: 0.01.into() };
    assert_eq!(made, std::slice::from_ref(&change));
    // It was allowed, not ordered: the old one may go on, and then nothing has changed.
    interrupt(&old, folder.path(), 7);
    assert_eq!(changes(folder.path()).expect("they can be read"), []);
    let made =
        change_optimizer(folder.path(), &new.to_value(), std::slice::from_ref(&key)).expect("it is the optimiser's");
    resume().expect("it was asked for");
    let rates = [0.002, 0.01];
    assert_eq!(Trace::of(folder.path()).state, with_rates(&old, rates, 8));
    assert_eq!((changes(folder.path()).expect("they can be read"), made[0].step), (made.clone(), 8));
    // What has changed is the run's own from then on.
    assert_eq!(change_optimizer(folder.path(), &new.to_value(), &[key]).expect("it is the optimiser's"), []);
    resume().expect("nothing is left to do");
    let error = change_optimizer(folder.path(), &new.to_value(), &["seed".into()]).expect_err("it is another run");
    assert!(error.to_string().contains("another optimiser at most"), "{error}");
}

#[test]
fn a_change_that_was_tried_and_given_up_binds_nobody() {
    let (old, folder) = (Recipe { post_training: None, ..recipe(5) }, temporary());
    interrupt(&old, folder.path(), 6);
    let (mut clipped, mut slower) = (old.clone(), old.clone());
    clipped.training.optimizer.clip = Some(0.5);
    slower.training.optimizer.learning_rate = LearningRate::Constant { rate: 0.0001, warmup: 100 };
    let change = |new: &Recipe, key: &str| {
        change_optimizer(folder.path(), &new.to_value(), &[key.into()]).expect("it is the optimiser's")
    };
    // Diverged before its first checkpoint, say.
    change(&clipped, "training.optimizer.clip");
    let made = change(&slower, "training.optimizer.learning_rate.rate");
    let objective = slower.objective.flow_matching();
    train(&slower, folder.path(), &objective, &AtomicBool::new(false), |_| {}).expect("the rate was asked for alone");
    assert_eq!(changes(folder.path()).expect("they can be read"), made);
}

#[test]
fn arms_of_a_comparison_that_have_begun_keep_their_optimizer() {
    let folder = temporary();
    fs::create_dir_all(folder.path().join("standard-0")).expect("there is room");
    let key = "training.optimizer.clip".to_string();
    let error = change_optimizer(folder.path(), &recipe(5).to_value(), &[key]).expect_err("arms are alike").to_string();
    assert!(error.contains("standard-0 has begun") && error.contains("pretraining"), "{error}");
}
