//! Runs that are stopped, killed, damaged or diverge end as if nothing had happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use mixflow::data::{self, Classes, Conditioner, Dataset, Example, index_at};
use mixflow::evaluation::ValidationImages;
use mixflow::random::{Stream, rng, uniform};
use mixflow::recipe::Recipe;
use mixflow::train::{Checkpoints, Event, Outcome, Run, Snapshot, TrainState, check_same_run, pictures};
use mixflow::{Batch, Error, Loss, Objective};
use mixflow_backbones::{Backbone, ClassLabels, Network};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BATCH: u64 = 4;

/// Twelve short steps on small digits, with everything that draws random numbers.
pub(crate) fn recipe(checkpoint_every: u64) -> Recipe {
    let set = [
        "data.size=8".into(),
        r#"network={"kind":"sit","input_size":8,"patch":4,"channels":1,"width":16,"depth":1,"heads":2,"hidden":32,"classes":10}"#
            .into(),
        r#"objective.timesteps={"kind":"mixflow","gamma":0.8}"#.into(),
        r#"validation={"every":3,"labels":["4","2"],"solver_steps":1}"#.into(),
        "training.steps=12".into(),
        format!("training.batch={BATCH}"),
        format!("training.checkpoint_every={checkpoint_every}"),
    ];
    Recipe::read("digits", &set).expect("the recipe is valid")
}

pub(crate) fn network(recipe: &Recipe) -> Network {
    recipe.network.init(recipe.seed, &Device::default())
}

pub(crate) fn train(
    recipe: &Recipe,
    folder: &Path,
    objective: &impl Objective<Network>,
    stop: &AtomicBool,
    tell: impl FnMut(Event),
) -> Result<Outcome<TrainState<Network>>, Error> {
    train_on(recipe, folder, objective, &[], stop, tell)
}

/// With devices beside the first.
pub(crate) fn train_on(
    recipe: &Recipe,
    folder: &Path,
    objective: &impl Objective<Network>,
    beside: &[Device],
    stop: &AtomicBool,
    tell: impl FnMut(Event),
) -> Result<Outcome<TrainState<Network>>, Error> {
    let run = Run {
        folder: folder.into(),
        recipe: recipe.to_value(),
        config: &recipe.training,
        seed: recipe.seed,
        data: recipe.data.open()?,
        conditioner: Arc::new(Classes(recipe.network.classes())) as Arc<dyn Conditioner<ClassLabels>>,
        flip: true,
        encoder: None,
        beside,
        stop,
    };
    let network = network(recipe);
    let labels = (run.data.classes(), &run.conditioner);
    let images =
        ValidationImages::of(recipe, &recipe.network, &network, labels, (None, None), folder, &mut |_| Ok(()))?;
    run.train_validated(network, objective, images.as_ref().map(ValidationImages::validation), tell)
}

/// Everything that a run leaves: its state, its last checkpoint, its log but for times, its pictures by their steps.
#[derive(Debug, PartialEq)]
pub(crate) struct Trace {
    pub(crate) state: Snapshot,
    pub(crate) log: String,
    pub(crate) pictures: Vec<(u64, Vec<u8>)>,
}

impl Trace {
    pub(crate) fn of(folder: &Path) -> Self {
        let found = Checkpoints::new(folder.join("checkpoints"), 2).latest().expect("the folder can be listed");
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
        Self {
            state: found.checkpoint.expect("a finished run has a checkpoint").snapshot,
            log: timeless(&fs::read_to_string(folder.join("metrics.jsonl")).expect("a finished run has a log")),
            pictures: pictures(folder)
                .expect("the folder can be listed")
                .into_iter()
                .map(|(steps, file)| (steps, fs::read(file).expect("it was listed")))
                .collect(),
        }
    }
}

/// A log without the times of its lines, which only grow.
fn timeless(log: &str) -> String {
    let mut last = 0.0;
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect("lines are JSON");
        let [runtime, _] = ["runtime", "wall_time"].map(|name| row[name].take().as_f64().expect("each line has times"));
        assert!(runtime >= last, "{runtime} s after {last}");
        last = runtime;
        format!("{row}\n")
    };
    log.lines().map(line).collect()
}

/// Trains until the end or an error, and returns the warnings.
pub(crate) fn finish(recipe: &Recipe, folder: &Path) -> Vec<String> {
    let mut warnings = vec![];
    let objective = recipe.objective.flow_matching();
    let outcome = train(recipe, folder, &objective, &AtomicBool::new(false), |event| {
        if let Event::Warning(warning) = event {
            warnings.push(warning);
        }
    });
    let Outcome::Finished(state) = outcome.expect("training succeeds") else { panic!("nobody asked to stop") };
    assert_eq!(state.snapshot(), Trace::of(folder).state);
    warnings
}

/// Stops after the step of this number.
pub(crate) fn interrupt(recipe: &Recipe, folder: &Path, after: u64) {
    let stop = AtomicBool::new(false);
    let outcome = train(recipe, folder, &recipe.objective.flow_matching(), &stop, |event| {
        if matches!(event, Event::Stepped(report) if report.step == after) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(outcome, Ok(Outcome::Interrupted { step }) if step == after + 1), "{outcome:?}");
}

/// Digits, of which one is a fault of whoever wrote the data set.
#[derive(Debug)]
struct Faulty(Arc<dyn Dataset>, u64);

impl Dataset for Faulty {
    fn len(&self) -> Option<u64> {
        self.0.len()
    }

    fn classes(&self) -> &[String] {
        self.0.classes()
    }

    fn shape(&self) -> [usize; 3] {
        self.0.shape()
    }

    fn example(&self, index: u64) -> Result<Example, data::Error> {
        assert_ne!(index, self.1, "no such row");
        self.0.example(index)
    }
}

#[test]
fn a_panic_of_the_data_is_none_of_the_device_and_what_was_learned_is_saved() {
    let (recipe, folder, stop) = (recipe(1000), temporary(), AtomicBool::new(false));
    let digits = recipe.data.open().expect("digits");
    let faulty = index_at(recipe.seed, 7 * BATCH + 1, digits.len());
    let run = Run {
        folder: folder.path().into(),
        recipe: recipe.to_value(),
        config: &recipe.training,
        seed: recipe.seed,
        data: Arc::new(Faulty(digits, faulty)),
        conditioner: Arc::new(Classes(recipe.network.classes())) as Arc<dyn Conditioner<ClassLabels>>,
        flip: true,
        encoder: None,
        beside: &[],
        stop: &stop,
    };
    let error = run.train(network(&recipe), &recipe.objective.flow_matching(), |_| {}).expect_err("a row is missing");
    let words = error.to_string();
    assert!(words.contains("the batch of step 7 panicked") && words.contains("no such row"), "{words}");
    assert!(!matches!(error, Error::DeviceFailed { .. }) && !words.contains("failed at step"), "{words}");
    assert_eq!(Trace::of(folder.path()).state.step, 7);
}

/// The run that nothing happened to.
pub(crate) fn undisturbed() -> Trace {
    let folder = temporary();
    assert_eq!(finish(&recipe(5), folder.path()), [""; 0]);
    let trace = Trace::of(folder.path());
    assert_eq!((trace.state.step, trace.state.updates, trace.log.lines().count()), (12, 12, 12));
    assert!(trace.pictures.iter().map(|(steps, _)| *steps).eq([3, 6, 9, 12]));
    trace
}

pub(crate) fn temporary() -> TempDir {
    tempfile::tempdir().expect("there is room for temporary files")
}

#[test]
fn a_stopped_run_ends_as_if_never_stopped() {
    let expected = undisturbed();
    for stops in [&[0][..], &[3, 4], &[1, 6, 10]] {
        let folder = temporary();
        for &after in stops {
            interrupt(&recipe(5), folder.path(), after);
        }
        finish(&recipe(5), folder.path());
        assert_eq!(Trace::of(folder.path()), expected, "stopped after {stops:?}");
    }
}

const FOLDER: &str = "MIXFLOW_KILLED_FOLDER";
const EVERY: &str = "MIXFLOW_KILLED_EVERY";

/// Five kills, or as many as `MIXFLOW_KILLS` says.
#[test]
fn a_killed_run_ends_as_if_never_killed() {
    let wanted = std::env::var("MIXFLOW_KILLS").map_or(5, |kills| kills.parse().expect("MIXFLOW_KILLS is a number"));
    let expected = undisturbed();
    let child = |folder: &Path, every: u64| {
        Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", "resume::child", "--ignored"])
            .env(FOLDER, folder)
            .env(EVERY, every.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("this program can be started")
    };
    let (mut kills, mut runs, mut started, mut torn) = (0, 0, 0, 0);
    while kills < wanted {
        let (folder, every) = (temporary(), 1 + runs % 3);
        // A whole run elsewhere says how long one takes, so that several kills fall anywhere in it.
        let (other, start) = (temporary(), Instant::now());
        assert!(child(other.path(), every).wait().expect("the child can be waited for").success());
        let length = start.elapsed().as_secs_f64();
        loop {
            let mut child = child(folder.path(), every);
            let delay = 0.5 * length * uniform(&mut rng(0, Stream::Metric, kills));
            if kills < wanted {
                std::thread::sleep(Duration::from_secs_f64(delay));
                // SIGKILL on Unix: the child cannot tidy up.
                child.kill().expect("the child can be killed");
            }
            let status = child.wait().expect("the child can be waited for");
            if status.success() {
                break;
            }
            assert_eq!(status.code(), None, "the child failed by itself");
            kills += 1;
            let left = fs::read_dir(folder.path().join("checkpoints")).into_iter().flatten().flatten();
            let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            started += u64::from(!left.is_empty());
            torn += u64::from(left.iter().any(|name| name.starts_with(".partial-")));
        }
        assert_eq!(Trace::of(folder.path()), expected, "run {runs}, after {kills} kills");
        runs += 1;
    }
    eprintln!("{kills} kills of {runs} runs: {started} after the first save began, {torn} in the middle of a save");
}

#[test]
#[ignore = "the process that the test above kills"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let every = std::env::var(EVERY).expect("the parent says how often").parse().expect("a number");
    finish(&recipe(every), &folder);
}

#[test]
fn a_damaged_checkpoint_gives_way_to_an_older_one() {
    let expected = undisturbed();
    for file in ["weights.safetensors", "average.safetensors", "optimizer.safetensors", "state.json", "manifest.json"] {
        let folder = temporary();
        interrupt(&recipe(5), folder.path(), 7);
        let newest = folder.path().join("checkpoints/step-00000008").join(file);
        let bytes = fs::read(&newest).expect("the checkpoint is there");
        fs::write(&newest, &bytes[..bytes.len() / 2]).expect("the checkpoint can be written");
        let warnings = finish(&recipe(5), folder.path());
        let [warning] = &*warnings else { panic!("{file}: {warnings:?}") };
        assert!(warning.contains("step-00000008") && warning.contains("damaged"), "{warning}");
        assert_eq!(Trace::of(folder.path()), expected, "{file}");
    }
}

#[test]
fn a_damaged_checkpoint_does_not_displace_whole_ones() {
    let folder = temporary();
    interrupt(&recipe(2), folder.path(), 9);
    let file = folder.path().join("checkpoints/step-00000010/manifest.json");
    fs::write(file, "{").expect("the checkpoint can be written");
    interrupt(&recipe(2), folder.path(), 8);
    let found = Checkpoints::new(folder.path().join("checkpoints"), 2).latest().expect("the folder can be listed");
    assert_eq!(found.damaged.len(), 1);
    assert_eq!(found.checkpoint.map(|checkpoint| checkpoint.snapshot.step), Some(9));
    assert!(folder.path().join("checkpoints/step-00000008").exists());
}

#[test]
fn a_run_whose_checkpoints_are_all_damaged_stops_and_changes_nothing() {
    let folder = temporary();
    interrupt(&recipe(2), folder.path(), 9);
    for step in [8, 10] {
        let file = folder.path().join(format!("checkpoints/step-{step:08}/manifest.json"));
        fs::write(file, "{").expect("the checkpoint can be written");
    }
    let log = || fs::read(folder.path().join("metrics.jsonl")).expect("there is a log");
    let before = log();
    let recipe = recipe(2);
    let objective = recipe.objective.flow_matching();
    let error = train(&recipe, folder.path(), &objective, &AtomicBool::new(false), |_| {}).expect_err("none is whole");
    assert!(error.to_string().contains("none of its 2 checkpoints is whole"), "{error}");
    assert_eq!(log(), before);
}

/// An objective that is not a number at some steps.
#[derive(Debug)]
struct Poisoned<O>(O, &'static [u64]);

impl<B: Backbone, O: Objective<B>> Objective<B> for Poisoned<O> {
    fn loss(&self, network: &B, batch: Batch<B::Condition>, seed: u64) -> Loss {
        let factor = if self.1.contains(&(batch.first / BATCH)) { f64::NAN } else { 1.0 };
        (self.0.loss(network, batch, seed).total * factor).into()
    }
}

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    let recipe = recipe(5);
    let device = Device::default().autodiff();
    let objective = Poisoned(recipe.objective.flow_matching(), &[1]);
    let mut state = TrainState::new(network(&recipe));
    for step in 0..3 {
        let before = state.snapshot();
        let images = Tensor::ones([BATCH as usize, 1, 8, 8], &device);
        let condition = ClassLabels::new(&[0, 1, 2, 3], 10, &device);
        let batch = Batch::new(images, condition, step * BATCH);
        let (next, report) = state.step(&objective, [batch], 0, &recipe.training.optimizer);
        state = next;
        assert_eq!(report.finite, step != 1);
        let untouched = Snapshot { step: step + 1, ..before } == state.snapshot();
        assert_eq!(untouched, step == 1, "step {step}");
    }
}

#[test]
fn steps_that_are_not_finite_are_skipped_and_counted() {
    let (recipe, folder) = (recipe(5), temporary());
    // Two in a row, then one at a step that a checkpoint is due after.
    let objective = Poisoned(recipe.objective.flow_matching(), &[2, 3, 9]);
    let (mut warnings, mut saved) = (vec![], vec![]);
    train(&recipe, folder.path(), &objective, &AtomicBool::new(false), |event| match event {
        Event::Warning(warning) => warnings.push(warning),
        Event::Saved(path) => saved.push(path),
        _ => {}
    })
    .expect("two failures in a row are borne");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    // It is made up for at the next step.
    assert_eq!(
        saved,
        ["step-00000005", "step-00000011", "step-00000012"].map(|name| folder.path().join("checkpoints").join(name))
    );
    let trace = Trace::of(folder.path());
    assert_eq!((trace.state.step, trace.state.updates), (12, 9));
    let skipped = trace.log.lines().map(|line| line.contains("\"skipped\":true"));
    assert_eq!(
        skipped.enumerate().filter(|(_, skipped)| *skipped).map(|(step, _)| step).collect::<Vec<_>>(),
        [2, 3, 9]
    );
}

#[test]
fn a_run_that_diverges_is_set_back() {
    let (recipe, folder) = (recipe(4), temporary());
    let objective = Poisoned(recipe.objective.flow_matching(), &[6, 7, 8]);
    let error = train(&recipe, folder.path(), &objective, &AtomicBool::new(false), |_| {}).expect_err("it diverges");
    assert!(matches!(error, Error::Diverged { step: 8, count: 3, back: 4, skipped: 3, .. }), "{error:?}");
    assert_eq!(Trace::of(folder.path()).state.step, 4);
    // Once the cause is gone, it goes on from there.
    finish(&recipe, folder.path());
    assert_eq!(Trace::of(folder.path()), undisturbed());
}

#[test]
fn a_checkpoint_of_another_recipe_is_refused() {
    let folder = temporary();
    interrupt(&recipe(5), folder.path(), 2);
    let mut other = recipe(5);
    other.training.optimizer.clip = Some(2.0);
    let objective = other.objective.flow_matching();
    let error = train(&other, folder.path(), &objective, &AtomicBool::new(false), |_| {}).expect_err("it is refused");
    assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("another `training.optimizer.clip`: 1.0, not 2.0; choose another folder"), "{message}");
    let file = folder.path().join("recipe.json");
    for (change, key) in [("data.size", 9), ("seed", 3)].map(|(key, value)| {
        let mut old = recipe(5).to_value();
        *old.pointer_mut(&format!("/{}", key.replace('.', "/"))).expect("the key is there") = value.into();
        (old, key)
    }) {
        fs::write(&file, change.to_string()).expect("there is room");
        let message = check_same_run(&file, &recipe(5).to_value(), &[]).expect_err("it is another run").to_string();
        assert!(message.contains(&format!("another `{key}`: ")) && message.contains(", not "), "{message}");
        assert!(check_same_run(&file, &recipe(5).to_value(), &[key.into()]).is_ok());
    }
    let mut alone = recipe(5);
    alone.post_training = None;
    fs::write(&file, alone.to_value().to_string()).expect("there is room");
    assert!(check_same_run(&file, &recipe(5).to_value(), &[]).is_err());
    assert!(check_same_run(&file, &alone.to_value(), &[]).is_ok());
    // How often to save does not change the result.
    finish(&recipe(1), folder.path());
    assert_eq!(Trace::of(folder.path()), undisturbed());
}

#[test]
fn a_run_of_more_steps_than_are_asked_for_stays_as_it_is() {
    let folder = temporary();
    interrupt(&recipe(5), folder.path(), 6);
    let before = Trace::of(folder.path());
    let mut short = recipe(5);
    short.training.steps = 6;
    let objective = short.objective.flow_matching();
    let error =
        train(&short, folder.path(), &objective, &AtomicBool::new(false), |_| {}).expect_err("steps were taken");
    assert!(error.to_string().contains("7 steps were taken, the recipe asks for 6"), "{error}");
    assert_eq!(Trace::of(folder.path()), before);
}
