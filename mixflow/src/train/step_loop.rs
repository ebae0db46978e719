//! The loop of every training that is kept in a folder.

use std::convert::identity;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use serde_json::Value;

use super::aside::put_aside;
use super::change;
use super::difference::moved;
use super::fault::guarded;
use super::validation::{forget_after, keep, picture};
use super::{Checkpoints, MetricsLog, Snapshot, StepReport, TrainState, Validation};
use crate::Error;
use crate::data::{Fingerprint, check_same_data};

/// What a run tells while it goes.
#[derive(Clone, Debug)]
pub enum Event {
    /// It starts at this step, from a checkpoint or (0) from the start.
    Started {
        /// The next step.
        step: u64,
    },
    /// A step was taken.
    Stepped(StepReport),
    /// Images were drawn.
    Drawn {
        /// How many steps were taken before.
        steps: u64,
        /// The picture of them.
        file: PathBuf,
        /// How long the drawing took, in seconds.
        seconds: f64,
    },
    /// A checkpoint was written.
    Saved(PathBuf),
    /// All of its steps are taken.
    Finished,
    /// Something that the user should know and that did not stop the run.
    Warning(String),
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<S> {
    /// All steps are done; the state that they led to.
    Finished(S),
    /// It was asked to stop; a checkpoint is written.
    Interrupted {
        /// The next step.
        step: u64,
    },
}

/// What a [`StepLoop`] steps and saves.
pub(crate) trait Trainee: Sized {
    /// The next step's number.
    fn step_number(&self) -> u64;
    /// Everything that a step changes, for a checkpoint.
    fn snapshot(&self) -> Snapshot;
    /// The trainee of the snapshot in the checkpoint at `path`; `self` gives the shapes.
    fn restored(self, snapshot: Snapshot, path: &Path) -> Result<Self, Error>;
}

impl<B: burn::module::Module> Trainee for TrainState<B> {
    fn step_number(&self) -> u64 {
        self.step_number()
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot()
    }

    fn restored(self, snapshot: Snapshot, path: &Path) -> Result<Self, Error> {
        self.restored(snapshot).map_err(|source| Error::Tensors { path: path.into(), source })
    }
}

/// A step that was taken.
pub(crate) struct Stepped<S> {
    pub(crate) state: S,
    pub(crate) report: StepReport,
}

/// A step that was not taken since its batch could not be read: the state before it.
pub(crate) struct Unread<S> {
    pub(crate) state: S,
    pub(crate) error: Error,
}

/// Steps, logs and saves in a folder until all steps are done or it is asked to stop.
pub(crate) struct StepLoop<'a> {
    /// Where `metrics.jsonl` and `checkpoints/` are.
    pub(crate) folder: &'a Path,
    /// Stored with every checkpoint.
    pub(crate) recipe: &'a Value,
    /// What is learned, for `data.json`; checkpoints of other data are refused.
    pub(crate) data: Fingerprint,
    /// Steps in all.
    pub(crate) steps: u64,
    /// Steps between checkpoints.
    pub(crate) checkpoint_every: u64,
    /// The devices that steps are computed on.
    pub(crate) devices: &'a [Device],
    /// Set from elsewhere, it ends the loop after the step in progress.
    pub(crate) stop: &'a AtomicBool,
}

/// Steps in a row that may be not finite before the run is set back and stopped.
const PATIENCE: u32 = 3;

impl StepLoop<'_> {
    /// The state of the folder's newest whole checkpoint, or `new` if there is none.
    pub(crate) fn resume<S: Trainee>(
        &self,
        new: impl FnOnce() -> S,
        progress: &mut impl FnMut(Event),
    ) -> Result<S, Error> {
        let mut found = self.checkpoints().latest()?;
        let Some(checkpoint) = found.checkpoint else {
            return match found.damaged.pop() {
                None => guarded(self.devices, 0, new),
                Some(oldest) => {
                    let (count, folder) = (found.damaged.len() + 1, self.folder.join("checkpoints"));
                    let reason = format!(
                        "none of its {count} checkpoints is whole, and nothing was changed: bring one back, or remove \
                         this folder to train from the start ({oldest})"
                    );
                    Err(Error::Damaged { path: folder, reason })
                }
            };
        };
        for damage in found.damaged {
            progress(Event::Warning(format!("{damage}; using an older one")));
        }
        if checkpoint.snapshot.step > self.steps {
            let (path, taken) = (checkpoint.path, checkpoint.snapshot.step);
            return Err(Error::TooFewSteps { path, taken, wanted: self.steps });
        }
        check_same_data(self.folder, &self.data)?;
        let old = moved(self.folder, &checkpoint.recipe, self.recipe)?;
        let changes = change::accepted(self.folder, checkpoint.snapshot.step, &old, self.recipe)?;
        let changes = changes.map_err(|difference| {
            let hint = difference.hint();
            let reason =
                format!("it was written by a recipe with {difference}; choose another folder or the old recipe{hint}");
            Error::Mismatch { path: checkpoint.path.clone(), reason }
        })?;
        let step = checkpoint.snapshot.step;
        let state = guarded(self.devices, step, || new().restored(checkpoint.snapshot, &checkpoint.path))??;
        change::keep(self.folder, &changes)?;
        Ok(state)
    }

    /// Goes on from `state`; `step` takes one step, `validation` draws what it came to. What was learned until a batch cannot be
    /// read is saved.
    pub(crate) fn run<S: Trainee>(
        &self,
        mut state: S,
        mut step: impl FnMut(S) -> Result<Stepped<S>, Box<Unread<S>>>,
        validation: Option<&Validation<'_, S>>,
        progress: &mut impl FnMut(Event),
    ) -> Result<Outcome<S>, Error> {
        let mut log = MetricsLog::open(&self.folder.join("metrics.jsonl"), state.step_number())?;
        forget_after(self.folder, state.step_number())?;
        progress(Event::Started { step: state.step_number() });
        let (mut failures, mut skipped, mut saved) = (0, 0, state.step_number());
        // Also of a checkpoint that is damaged by now.
        let mut ended = self.checkpoints().newest_step()?;
        while state.step_number() < self.steps {
            let number = state.step_number();
            let report = match guarded(self.devices, number, || step(state))? {
                Ok(stepped) => {
                    state = stepped.state;
                    stepped.report
                }
                Err(unread) => {
                    let Unread { state, error } = *unread;
                    if failures == 0 && saved < number {
                        self.save(&state, &mut ended, &mut log, progress)?;
                    }
                    return Err(error);
                }
            };
            log.step(&report)?;
            progress(Event::Stepped(report.clone()));

            failures = if report.finite { 0 } else { failures + 1 };
            skipped += u64::from(!report.finite);
            if failures == PATIENCE {
                log.flush()?;
                let back = self.checkpoints().latest()?.checkpoint.map_or(0, |checkpoint| checkpoint.snapshot.step);
                let (folder, step, rate) = (self.folder.into(), report.step, report.learning_rate);
                return Err(Error::Diverged { folder, step, count: PATIENCE, back, skipped, rate });
            }
            if !report.finite {
                let step = report.step;
                progress(Event::Warning(format!("loss or gradient of step {step} is not finite: skipped")));
            }
            // Before the checkpoint: from there on nobody comes back to this step.
            if let Some(validation) = validation {
                self.draw(&state, validation, progress)?;
            }
            let stop = self.stop.load(Ordering::Relaxed);
            let due = state.step_number() / self.checkpoint_every > saved / self.checkpoint_every;
            // While steps fail the last good checkpoint stays the newest.
            if failures == 0 && due || stop || state.step_number() == self.steps {
                self.save(&state, &mut ended, &mut log, progress)?;
                saved = state.step_number();
            }
            if stop && state.step_number() < self.steps {
                return Ok(Outcome::Interrupted { step: state.step_number() });
            }
        }
        progress(Event::Finished);
        Ok(Outcome::Finished(state))
    }

    /// Writes a checkpoint, and before it what belongs to it; what the training came to when it had `ended` before is put aside.
    fn save<S: Trainee>(
        &self,
        state: &S,
        ended: &mut Option<u64>,
        log: &mut MetricsLog,
        progress: &mut impl FnMut(Event),
    ) -> Result<(), Error> {
        log.flush()?;
        if Fingerprint::read(self.folder)?.as_ref() != Some(&self.data) {
            self.data.write(self.folder)?;
        }
        let snapshot = guarded(self.devices, state.step_number(), || state.snapshot())?;
        let saved = self.checkpoints().save(&snapshot, self.recipe)?;
        if let Some(step) = ended.take() {
            put_aside(self.folder, step)?;
        }
        progress(Event::Saved(saved));
        Ok(())
    }

    /// Draws images where they are due. An error in that is a warning, and does not stop the training.
    fn draw<S: Trainee>(
        &self,
        state: &S,
        validation: &Validation<'_, S>,
        progress: &mut impl FnMut(Event),
    ) -> Result<(), Error> {
        let steps = state.step_number();
        if !steps.is_multiple_of(validation.every) && steps != self.steps {
            return Ok(());
        }
        let (begun, file) = (Instant::now(), picture(self.folder, steps));
        // A device that is gone is told by what comes next.
        let drawn = guarded(self.devices, steps, || (validation.draw)(state)).and_then(identity);
        match drawn.and_then(|png| keep(&file, &png)) {
            Ok(()) => progress(Event::Drawn { steps, file, seconds: begun.elapsed().as_secs_f64() }),
            Err(error) => progress(Event::Warning(format!("there are no images of step {steps}: {error}"))),
        }
        Ok(())
    }

    fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.folder.join("checkpoints"), 2)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mixflow_backbones::Linear;
    use mixflow_backbones::init::Initializer;

    use super::*;

    /// So many steps in a folder, with a checkpoint every so many.
    fn step_loop<'a>(folder: &'a Path, devices: &'a [Device], [steps, checkpoint_every]: [u64; 2]) -> StepLoop<'a> {
        static STOP: AtomicBool = AtomicBool::new(false);
        let data = Fingerprint {
            examples: None,
            classes: vec![],
            class_examples: vec![],
            names: None,
            sizes: None,
            content: None,
        };
        StepLoop { folder, recipe: &Value::Null, data, steps, checkpoint_every, devices, stop: &STOP }
    }

    /// Fits its device, but not what it is restored from.
    struct Small;

    impl Trainee for Small {
        fn step_number(&self) -> u64 {
            0
        }

        fn snapshot(&self) -> Snapshot {
            unreachable!("nothing is saved")
        }

        fn restored(self, _: Snapshot, _: &Path) -> Result<Self, Error> {
            panic!("out of memory")
        }
    }

    #[test]
    fn a_device_that_fails_before_the_first_step_is_named() {
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let steps = step_loop(folder.path(), std::slice::from_ref(&device), [8, 1]);
        let fails = |new: fn() -> Small, step: u64| {
            let fault = steps.resume(new, &mut |_| {}).err().unwrap().to_string();
            assert!(fault.starts_with(&format!("flex (CPU) failed at step {step}: out of memory; ")), "{fault}");
        };
        fails(|| panic!("out of\nmemory"), 0);
        assert!(steps.resume(|| Small, &mut |_| {}).is_ok(), "there is nothing to restore");
        let layer: Linear = Initializer::new(0, &device).pytorch_linear(2, 2);
        let snapshot = Snapshot { step: 3, ..TrainState::new(layer).snapshot() };
        steps.checkpoints().save(&snapshot, &Value::Null).unwrap();
        fails(|| Small, 3);
        fails(|| panic!("out of memory"), 3);
    }

    /// Takes steps and nothing else.
    struct Counted(u64);

    impl Trainee for Counted {
        fn step_number(&self) -> u64 {
            self.0
        }

        fn snapshot(&self) -> Snapshot {
            let layer: Linear = Initializer::new(0, &Device::flex()).pytorch_linear(2, 2);
            Snapshot { step: self.0, ..TrainState::new(layer).snapshot() }
        }

        fn restored(self, _: Snapshot, _: &Path) -> Result<Self, Error> {
            unreachable!("nothing is restored")
        }
    }

    #[test]
    fn a_device_that_fails_while_it_draws_does_not_end_the_training() {
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let steps = step_loop(folder.path(), std::slice::from_ref(&device), [4, 2]);
        let step = |Counted(step): Counted| Ok(Stepped { state: Counted(step + 1), report: report(step, true) });
        let validation = Validation { every: 2, draw: Box::new(|_: &Counted| panic!("out of memory")) };
        let mut warnings = vec![];
        let outcome = steps.run(Counted(0), step, Some(&validation), &mut |event| {
            if let Event::Warning(words) = event {
                warnings.push(words);
            }
        });
        assert!(matches!(outcome.unwrap(), Outcome::Finished(Counted(4))));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("there are no images of step 2: ") && warnings[0].contains("out of memory"));
        assert_eq!(steps.checkpoints().latest().unwrap().checkpoint.unwrap().snapshot.step, 4);
    }
    fn report(step: u64, finite: bool) -> StepReport {
        StepReport { step, loss: 1.0, terms: vec![], gradient_norm: 1.0, learning_rate: 0.1, finite }
    }

    #[test]
    fn what_was_learned_is_saved_where_a_batch_cannot_be_read() {
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let steps = step_loop(folder.path(), std::slice::from_ref(&device), [200, 100]);
        let step = |Counted(step): Counted| match step {
            7 => Err(Box::new(Unread { state: Counted(7), error: Error::unfit("cat.png", "cannot be read") })),
            _ => Ok(Stepped { state: Counted(step + 1), report: report(step, true) }),
        };
        // What the training came to at an earlier end keeps its number, and what has that name stays.
        steps.checkpoints().save(&Counted(5).snapshot(), &Value::Null).unwrap();
        for (name, text) in
            [("model.safetensors", "5 steps"), ("eval.json", "of it"), ("eval-step-00000005.json", "mine")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let error = steps.run(Counted(5), step, None, &mut |_| {}).err().unwrap().to_string();
        assert!(error.contains("cat.png"), "{error}");
        assert_eq!(steps.checkpoints().latest().unwrap().checkpoint.unwrap().snapshot.step, 7);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("model-step-00000005.safetensors").as_deref(), Some("5 steps"));
        assert_eq!([read("model.safetensors"), read("eval.json")], [None, None]);
        let named = ["eval-step-00000005.json", "eval-step-00000005-2.json"].map(|name| read(name).unwrap());
        assert_eq!(named, ["mine", "of it"]);
    }

    #[test]
    fn a_checkpoint_that_a_skipped_step_was_due_at_is_made_up_for() {
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let steps = step_loop(folder.path(), std::slice::from_ref(&device), [9, 4]);
        let step = |Counted(step): Counted| Ok(Stepped { state: Counted(step + 1), report: report(step, step != 3) });
        let mut saved = vec![];
        let outcome = steps.run(Counted(0), step, None, &mut |event| {
            if let Event::Saved(path) = event {
                saved.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        });
        assert!(matches!(outcome.unwrap(), Outcome::Finished(_)));
        assert_eq!(saved, ["step-00000005", "step-00000008", "step-00000009"]);
    }
}
