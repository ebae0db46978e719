//! How long the parts of a comparison took.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::files::write_atomic;
use crate::report::{Arm, Phase};

/// The phase of an arm's trainings.
pub(super) fn post_training(arm: &Arm) -> String {
    format!("post-training, {}", arm.name())
}

/// A clock for the parts of a study, which outlives its processes in `phases.json`.
#[derive(Debug)]
pub(super) struct Phases {
    file: PathBuf,
    phases: Vec<Phase>,
    /// Which one goes on, since when it was last written down.
    current: Option<(usize, Instant)>,
}

impl Phases {
    /// The clock of the study in a folder.
    pub(super) fn open(folder: &Path) -> Self {
        let file = folder.join("phases.json");
        let phases = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, phases: phases.unwrap_or_default(), current: None }
    }

    /// Ends the part before and begins one; it goes on where an earlier process stopped.
    pub(super) fn begin(&mut self, name: &str) {
        self.save();
        self.current = Some((self.index(name), Instant::now()));
    }

    /// What has passed since the clock was last looked at went into this one of the parts that go on at once.
    pub(super) fn spent(&mut self, name: &str) {
        let since = self.current.map_or_else(Instant::now, |(_, since)| since);
        self.current = Some((self.index(name), since));
        self.pass();
    }

    fn index(&mut self, name: &str) -> usize {
        self.phases.iter().position(|phase| phase.name == name).unwrap_or_else(|| {
            self.phases.push(Phase { name: name.into(), seconds: 0.0 });
            self.phases.len() - 1
        })
    }

    /// Adds what has passed to the current part.
    fn pass(&mut self) {
        let Some((index, since)) = &mut self.current else { return };
        let now = Instant::now();
        self.phases[*index].seconds += (now - std::mem::replace(since, now)).as_secs_f64();
    }

    /// The same for a part that every process does anew: only the last time counts.
    pub(super) fn begin_anew(&mut self, name: &str) {
        self.begin(name);
        if let Some((index, _)) = self.current {
            self.phases[index].seconds = 0.0;
        }
    }

    /// Writes down how long the part has taken until now: what a killed process takes after that is lost, as its steps are.
    pub(super) fn save(&mut self) {
        if self.current.is_none() {
            return;
        }
        self.pass();
        // Times are no reason to stop a training.
        let _ = write_atomic(&self.file, &serde_json::to_vec_pretty(&self.phases).expect("text and numbers are JSON"));
    }

    /// All until now.
    pub(super) fn all(&mut self) -> Vec<Phase> {
        self.save();
        self.phases.clone()
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        self.save();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As if the current part had begun earlier.
    fn pass(phases: &mut Phases, seconds: u64) {
        phases.current.as_mut().unwrap().1 -= Duration::from_secs(seconds);
    }

    fn whole(phases: &mut Phases) -> Vec<(String, u64)> {
        phases.all().into_iter().map(|phase| (phase.name, phase.seconds as u64)).collect()
    }

    #[test]
    fn parts_at_once_share_the_time_that_passes() {
        let root = tempfile::tempdir().unwrap();
        let mut phases = Phases::open(root.path());
        phases.begin("a");
        for (name, seconds) in [("b", 3), ("a", 5), ("b", 4), ("a", 1)] {
            pass(&mut phases, seconds);
            phases.spent(name);
        }
        assert_eq!(whole(&mut phases), [("a".into(), 6), ("b".into(), 7)]);
    }

    #[test]
    fn a_part_counts_the_time_of_all_processes() {
        let root = tempfile::tempdir().unwrap();
        let mut first = Phases::open(root.path());
        first.begin("pre-training");
        pass(&mut first, 100);
        drop(first);
        // This one is killed: nothing after its last checkpoint is written down.
        let mut killed = Phases::open(root.path());
        killed.begin("pre-training");
        pass(&mut killed, 20);
        killed.save();
        pass(&mut killed, 7);
        std::mem::forget(killed);

        let mut last = Phases::open(root.path());
        last.begin("pre-training");
        pass(&mut last, 3);
        for _ in 0..2 {
            last.begin_anew("measuring");
            pass(&mut last, 50);
        }
        let expected = [("pre-training".to_string(), 123), ("measuring".to_string(), 50)];
        assert_eq!(whole(&mut last), expected);
        drop(last);
        assert_eq!(whole(&mut Phases::open(root.path())), expected);
    }
}
