//! All trackers of a run.

use std::fmt;

use super::{Entry, Tracker};
use crate::Error;

/// All trackers of a run. One that fails is left out from then on, which is said once; the run never notices.
#[derive(Default)]
pub struct Trackers {
    trackers: Vec<Box<dyn Tracker + Send>>,
    warnings: Vec<String>,
}

impl Trackers {
    /// Adds a tracker; one that could not be opened becomes a warning.
    pub fn add(&mut self, tracker: Result<impl Tracker + Send + 'static, Error>) {
        match tracker {
            Ok(tracker) => self.trackers.push(Box::new(tracker)),
            Err(error) => self.warn(&error),
        }
    }

    /// Tells all of them.
    pub fn track(&mut self, entry: Entry<'_>) {
        for mut tracker in std::mem::take(&mut self.trackers) {
            match tracker.track(entry) {
                Ok(()) => self.trackers.push(tracker),
                Err(error) => self.warn(&error),
            }
        }
    }

    /// What went wrong since the last call, for the user.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn warn(&mut self, error: &Error) {
        self.warnings.push(format!("{error}; the run goes on without this tracker"));
    }
}

impl fmt::Debug for Trackers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trackers").field("trackers", &self.trackers.len()).field("warnings", &self.warnings).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::tracker::{Png, TensorBoard, Wandb, WandbRun};

    fn trackers(folder: &Path) -> Trackers {
        let mut trackers = Trackers::default();
        trackers.add(TensorBoard::open(&folder.join("board")));
        trackers.add(Wandb::open(folder, &WandbRun::new("digits")));
        trackers
    }

    fn files(folder: &Path) -> [std::path::PathBuf; 2] {
        let only = |folder: &Path, name: &str| {
            let mut entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.find(|path| path.to_str().unwrap().contains(name)).unwrap()
        };
        let run = only(&folder.join("wandb"), "offline-run-");
        [only(&folder.join("board"), "tfevents"), only(&run, ".wandb")]
    }

    #[test]
    fn one_that_cannot_be_opened_is_reported_and_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("board"), "in the way").unwrap();
        let mut trackers = trackers(folder.path());
        let warnings = trackers.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("board"), "{warnings:?}");
        assert!(warnings[0].ends_with("the run goes on without this tracker"), "{warnings:?}");
        trackers.track(Entry::Scalars { step: 0, values: &[("loss", 1.0)] });
        assert!(trackers.warnings().is_empty() && trackers.trackers.len() == 1);
    }

    #[test]
    fn one_that_fails_is_reported_once_and_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut trackers = trackers(folder.path());
        let run = files(folder.path())[1].parent().unwrap().to_owned();
        fs::write(run.join("files/media"), "in the way").unwrap();
        let picture = [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &[0; 8][..]].concat();
        for step in 0..3 {
            trackers.track(Entry::Image { step, name: "samples", png: Png::new(&picture).unwrap() });
        }
        let warnings = trackers.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("media"), "{warnings:?}");
        assert!(trackers.trackers.len() == 1 && Png::new(b"GIF89a").is_none());
    }

    /// Runs itself again as a process whose files may have 128 KiB and no more.
    #[cfg(unix)]
    #[test]
    fn a_full_disk_stops_no_run_and_leaves_whole_records() {
        const CHILD: &str = "MIXFLOW_TEST_FULL_DISK";
        if let Ok(folder) = std::env::var(CHILD) {
            let mut trackers = trackers(Path::new(&folder));
            for step in 0..10_000 {
                trackers.track(Entry::Scalars { step, values: &[("loss", 1.0), ("rate", 0.5)] });
            }
            trackers.track(Entry::Finished { success: true });
            let warnings = trackers.warnings();
            assert!(warnings.len() == 2 && trackers.trackers.is_empty(), "{warnings:?}");
            assert!(warnings.iter().all(|warning| warning.starts_with("cannot write")), "{warnings:?}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let test = "tracker::trackers::tests::a_full_disk_stops_no_run_and_leaves_whole_records";
        let mut child = Command::new("sh");
        child.args(["-c", "trap '' XFSZ; ulimit -f 256 && exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
        let done = child.args(["--exact", test]).env(CHILD, folder.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));

        let [board, log] = files(folder.path());
        let events = fs::read(&board).unwrap();
        let mut at = 0;
        while at < events.len() {
            let length = u64::from_le_bytes(events[at..at + 8].try_into().unwrap());
            at += 16 + length as usize;
        }
        assert!(at == events.len() && at > 60_000, "{at} of {}", events.len());
        // It can go on in its log, from which nothing is cut.
        let length = fs::metadata(&log).unwrap().len();
        drop(Wandb::open(folder.path(), &WandbRun::new("digits")).unwrap());
        assert!(fs::metadata(&log).unwrap().len() == length && length > 60_000, "{length}");
    }
}
