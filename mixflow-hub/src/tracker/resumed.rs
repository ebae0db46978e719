//! What trackers lack when a run goes on.
//!
//! A process that is killed takes with it what its trackers had not written yet, while its checkpoint, `metrics.jsonl` and the
//! pictures in `validation/`, which are written before that, stay. From there the rows between come when the run goes on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Entry, Png, Tracker};
use crate::tracker::Error;

/// Tells a tracker that a run goes on at a step, and before that the rows that it lacks of earlier steps, from the run's log.
pub(super) fn go_on(tracker: &mut dyn Tracker, log: &Path, step: u64) -> Result<(), Error> {
    let kept = tracker.kept(step)?.min(step);
    // A row is told before its picture.
    let torn = kept > 0 && picture(log, kept).is_file() && !tracker.shows(kept - 1, VALIDATION)?;
    let from = kept - u64::from(torn);
    tracker.track(Entry::Started { step: from })?;
    if from == step {
        return Ok(());
    }
    rows(log, from..step, |step, values| {
        tracker.track(Entry::Scalars { step, values })?;
        tell_picture(&picture(log, step + 1), step + 1, |entry| tracker.track(entry)).unwrap_or(Ok(()))
    })
}

/// What trackers call pictures that are drawn during a training.
const VALIDATION: &str = "validation";

/// The picture that the run with this log has drawn after so many steps, if it has.
fn picture(log: &Path, steps: u64) -> PathBuf {
    log.with_file_name(VALIDATION).join(format!("step-{steps:08}.png"))
}

/// Tells a picture that was drawn after so many steps, if it is there.
pub(super) fn tell_picture<R>(file: &Path, steps: u64, tell: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
    let bytes = fs::read(file).ok()?;
    Some(tell(Entry::Image { step: steps.saturating_sub(1), name: VALIDATION, png: Png::new(&bytes)? }))
}

/// The rows of these steps in a log, in its order; one that is torn ends it.
fn rows(
    log: &Path,
    steps: Range<u64>,
    mut tell: impl FnMut(u64, &[(&str, f64)]) -> Result<(), Error>,
) -> Result<(), Error> {
    let lines = match File::open(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => BufReader::new(file.map_err(Error::io("read", log))?).lines(),
    };
    for line in lines {
        let line = line.map_err(Error::io("read", log))?;
        let Ok(row) = serde_json::from_str::<Map<String, Value>>(&line) else { return Ok(()) };
        let Some(step) = row.get("step").and_then(Value::as_u64).filter(|step| steps.contains(step)) else { continue };
        // What is no number in the log, such as the loss of a step that was skipped, is none here. Trackers have their own time.
        let own = |name: &str| ["step", "wall_time", "runtime"].contains(&name);
        let values = row.iter().filter(|(name, value)| !own(name) && (value.is_number() || value.is_null()));
        let values: Vec<_> = values.map(|(name, value)| (name.as_str(), value.as_f64().unwrap_or(f64::NAN))).collect();
        tell(step, &values)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::tracker::{TensorBoard, Wandb, WandbRun, tensorboard, wandb};

    /// Its signature and header: nobody here looks further.
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01";

    /// What has every row but the picture of the last one gets that row anew.
    #[test]
    fn a_picture_that_was_not_told_is_told_when_the_run_goes_on() {
        for flushed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let metrics = folder.path().join("metrics.jsonl");
            fs::write(&metrics, (0..9).map(|step| format!("{{\"step\":{step},\"loss\":0.5}}\n")).collect::<String>())
                .unwrap();
            fs::create_dir(folder.path().join(VALIDATION)).unwrap();
            fs::write(picture(&metrics, 7), PNG).unwrap();
            let board = || TensorBoard::open(&folder.path().join("board")).unwrap();
            let run = || Wandb::open(folder.path(), &WandbRun::new("killed")).unwrap();
            let (mut first, mut second) = (board(), run());
            for tracker in [&mut first as &mut dyn Tracker, &mut second] {
                (0..7).for_each(|step| tracker.track(Entry::Scalars { step, values: &[("loss", 0.5)] }).unwrap());
                tracker.track(Entry::Flush).unwrap();
                if flushed {
                    let png = Png::new(PNG).unwrap();
                    tracker.track(Entry::Image { step: 6, name: VALIDATION, png }).unwrap();
                    tracker.track(Entry::Flush).unwrap();
                }
                assert_eq!(tracker.shows(6, VALIDATION).unwrap(), flushed);
            }
            // Killed: nothing is written any more.
            std::mem::forget((first, second));
            let (mut first, mut second) = (board(), run());
            for tracker in [&mut first as &mut dyn Tracker, &mut second] {
                go_on(tracker, &metrics, 7).unwrap();
                tracker.track(Entry::Flush).unwrap();
            }
            assert_eq!(tensorboard::rows(&folder.path().join("board")).unwrap(), [(0..7).collect(), vec![6]]);
            let rows = wandb::rows(&log(&folder.path().join("wandb")));
            assert!(rows.iter().map(|(step, _, drawn)| (*step, *drawn)).eq((0..7).map(|step| (step, step == 6))));
        }
    }

    /// The log that has the rows: a process may have been killed before it had named its run.
    fn log(folder: &Path) -> PathBuf {
        let files =
            |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let logs = files(folder).into_iter().flat_map(|run| files(&run));
        let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "wandb"));
        logs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }
}
