//! All trackers of a run, on a thread of their own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::owned_entry::OwnedEntry;
use super::resumed::go_on;
use super::{Entry, TensorBoard, Tracker, Wandb, WandbMode, WandbRun};
use crate::sync::lock;
use crate::tracker::Error;

/// Bytes of entries that may wait for a slow disk.
const WAITING: usize = 16 << 20;

/// How long a run that ended waits for its trackers.
const PATIENCE: Duration = Duration::from_secs(150);

/// All trackers of a run. One that fails is left out from then on, which is said once; the run never notices.
///
/// A thread tells them, from a queue of 16 MiB: [`track`](Self::track) never waits. Where a disk is so slow that the queue
/// is full, numbers, images and histograms are missing in the trackers, which is said; the run's own `metrics.jsonl` has
/// all. [`finish`](Self::finish), or else dropping it, waits until all is kept, but for two and a half
/// minutes at most.
#[derive(Default)]
pub struct Trackers {
    thread: Option<Background>,
    /// Warnings for the user, from the thread too.
    warnings: Warnings,
    /// Entries that found the queue full.
    missing: u64,
}

type Warnings = Arc<Mutex<Vec<String>>>;

enum Message {
    Add(Box<dyn Tracker + Send>),
    Entry(OwnedEntry),
    Log(PathBuf),
    /// Entries that take time to find, which the thread does.
    #[cfg(feature = "pipeline")]
    Work(Work),
}

/// Finds entries, and tells them one by one.
#[cfg(feature = "pipeline")]
type Work = Box<dyn FnOnce(&mut dyn FnMut(Entry<'_>)) + Send>;

/// The thread, and the channels to and from it.
struct Background {
    messages: Sender<Message>,
    /// Bytes of entries that wait.
    waiting: Arc<AtomicUsize>,
    /// Disconnected when the thread ends.
    end: Receiver<()>,
    handle: JoinHandle<()>,
}

impl Trackers {
    /// Adds a tracker; one that could not be opened becomes a warning.
    pub fn add(&mut self, tracker: Result<impl Tracker + Send + 'static, Error>) {
        match tracker {
            Ok(tracker) => self.send(Message::Add(Box::new(tracker))),
            Err(error) => left_out(&self.warnings, &error),
        }
    }

    /// The trackers of a run in a folder, by its name: event files for `TensorBoard` in `tensorboard/`, and a run of Weights
    /// & Biases in `wandb/`, streamed or not as the environment says. [`event`](Self::event) tells them a training.
    ///
    /// # Errors
    /// If a variable of the environment cannot be what it is.
    pub fn of_run(folder: &Path, name: &str) -> Result<Self, Error> {
        let mut trackers = Self::default();
        trackers.add(TensorBoard::open(&folder.join("tensorboard")));
        trackers.add_wandb(folder, &WandbRun::from_env(name), &WandbMode::from_env()?);
        trackers.log(&folder.join("metrics.jsonl"));
        Ok(trackers)
    }

    /// Adds Weights & Biases in a mode: the run directory in `folder`, streamed where it is online.
    pub fn add_wandb(&mut self, folder: &Path, run: &WandbRun, mode: &WandbMode) {
        match mode {
            WandbMode::Disabled => {}
            WandbMode::Offline => self.add(Wandb::open(folder, run)),
            WandbMode::Online(server) => self.add(Wandb::open(folder, run).and_then(|run| run.live(server.clone()))),
        }
    }

    /// Names the run's own log, `metrics.jsonl`: when the run goes on, trackers are told from there what an earlier process
    /// was killed before it could tell.
    pub fn log(&mut self, metrics: &Path) {
        if self.thread.is_some() {
            self.send(Message::Log(metrics.into()));
        }
    }

    /// Tells an entry to all trackers.
    pub fn track(&mut self, entry: Entry<'_>) {
        let Some(thread) = &self.thread else { return };
        let entry = OwnedEntry::from(entry);
        let size = entry.size().unwrap_or_default();
        if size > 0 && thread.waiting.load(Ordering::Relaxed) + size > WAITING {
            if self.missing == 0 {
                warn(&self.warnings, "trackers cannot keep up: some of the run is missing there".into());
            }
            self.missing += 1;
            return;
        }
        thread.waiting.fetch_add(size, Ordering::Relaxed);
        self.send(Message::Entry(entry));
    }

    /// Lets the thread find entries, and tell them to all trackers.
    #[cfg(feature = "pipeline")]
    pub(super) fn work(&mut self, work: impl FnOnce(&mut dyn FnMut(Entry<'_>)) + Send + 'static) {
        if self.thread.is_some() {
            self.send(Message::Work(Box::new(work)));
        }
    }

    /// What went wrong since the last call, for the user.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.warnings))
    }

    /// Waits until all is kept, for two and a half minutes at most; and what went wrong since the last call of
    /// [`warnings`](Self::warnings).
    pub fn finish(mut self) -> Vec<String> {
        self.close(PATIENCE);
        self.warnings()
    }

    fn send(&mut self, message: Message) {
        let warnings = &self.warnings;
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => match Background::start(warnings.clone()) {
                Ok(thread) => thread,
                Err(error) => return warn(warnings, format!("cannot start a thread for trackers: {error}")),
            },
        };
        // A thread that panicked is told of when it is waited for.
        let _ = thread.messages.send(message);
        self.thread = Some(thread);
    }

    fn close(&mut self, patience: Duration) {
        let Some(Background { messages, end, handle, .. }) = self.thread.take() else { return };
        drop(messages);
        if self.missing > 0 {
            warn(
                &self.warnings,
                format!("{} entries are missing in the trackers; metrics.jsonl has all", self.missing),
            );
        }
        if end.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            let waited = patience.as_secs();
            warn(&self.warnings, format!("trackers are still not done after {waited} s: their end is missing"));
        } else if handle.join().is_err() {
            warn(&self.warnings, "trackers stopped by a fault of theirs".into());
        }
    }
}

impl Background {
    fn start(warnings: Warnings) -> std::io::Result<Self> {
        let (messages, received) = mpsc::channel();
        let (alive, end) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        let work = move || {
            track_messages(&received, &left, &warnings);
            drop(alive);
        };
        let handle = std::thread::Builder::new().name("trackers".into()).spawn(work)?;
        Ok(Self { messages, waiting, end, handle })
    }
}

/// Tells trackers everything that comes, until nothing can come any more.
fn track_messages(messages: &Receiver<Message>, waiting: &AtomicUsize, warnings: &Warnings) {
    let (mut trackers, mut log): (Vec<Box<dyn Tracker + Send>>, Option<PathBuf>) = (vec![], None);
    for message in messages {
        match (message, &log) {
            (Message::Add(tracker), _) => trackers.push(tracker),
            (Message::Log(path), _) => log = Some(path),
            (Message::Entry(OwnedEntry::Started { step }), Some(log)) => {
                each(&mut trackers, warnings, |tracker| go_on(tracker, log, step));
            }
            (Message::Entry(entry), _) => {
                entry.borrowed(|entry| track_all(&mut trackers, entry, warnings));
                waiting.fetch_sub(entry.size().unwrap_or_default(), Ordering::Relaxed);
            }
            #[cfg(feature = "pipeline")]
            (Message::Work(work), _) if !trackers.is_empty() => {
                work(&mut |entry| track_all(&mut trackers, entry, warnings))
            }
            #[cfg(feature = "pipeline")]
            (Message::Work(_), _) => {}
        }
    }
}

/// Tells an entry to each tracker.
fn track_all(trackers: &mut Vec<Box<dyn Tracker + Send>>, entry: Entry<'_>, warnings: &Warnings) {
    each(trackers, warnings, |tracker| tracker.track(entry));
}

/// Calls `work` with each tracker; one that fails is left out from then on.
fn each(
    trackers: &mut Vec<Box<dyn Tracker + Send>>,
    warnings: &Warnings,
    mut work: impl FnMut(&mut dyn Tracker) -> Result<(), Error>,
) {
    trackers.retain_mut(|tracker| {
        let kept = work(&mut **tracker);
        tracker.warnings().into_iter().for_each(|text| warn(warnings, text));
        kept.map_err(|error| left_out(warnings, &error)).is_ok()
    });
}

fn warn(warnings: &Warnings, text: String) {
    lock(warnings).push(text);
}

fn left_out(warnings: &Warnings, error: &Error) {
    warn(warnings, format!("{error}; the run goes on without this tracker"));
}

impl Drop for Trackers {
    fn drop(&mut self) {
        self.close(PATIENCE);
    }
}

impl fmt::Debug for Trackers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trackers").field("running", &self.thread.is_some()).field("missing", &self.missing).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tracker::{End, Png};

    fn trackers(folder: &Path) -> Trackers {
        let mut trackers = Trackers::default();
        trackers.add(TensorBoard::open(&folder.join("board")));
        trackers.add(Wandb::open(folder, &WandbRun::new("digits")));
        trackers
    }

    fn only(folder: &Path, name: &str) -> PathBuf {
        let mut entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.to_str().unwrap().contains(name)).unwrap()
    }

    fn log(folder: &Path) -> PathBuf {
        only(&only(&folder.join("wandb"), "offline-run-"), ".wandb")
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
        let log = log(folder.path());
        let begun = fs::metadata(&log).unwrap().len();
        assert_eq!(trackers.finish(), Vec::<String>::new());
        assert!(fs::metadata(&log).unwrap().len() > begun);
    }

    #[test]
    fn one_that_fails_is_reported_once_and_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut trackers = trackers(folder.path());
        let run = log(folder.path()).parent().unwrap().to_owned();
        fs::write(run.join("files/media"), "in the way").unwrap();
        let picture = [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &[0; 8][..]].concat();
        for step in 0..3 {
            trackers.track(Entry::Image { step, name: "samples", png: Png::new(&picture).unwrap() });
        }
        let warnings = trackers.finish();
        assert!(warnings.len() == 1 && warnings[0].contains("media"), "{warnings:?}");
        // All three pictures are in the other one.
        assert!(fs::metadata(only(&folder.path().join("board"), "tfevents")).unwrap().len() > 3 * 70);
        assert!(Png::new(b"GIF89a").is_none());
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
            trackers.track(Entry::Finished(End::Done));
            let warnings = trackers.finish();
            assert!(warnings.len() == 2, "{warnings:?}");
            assert!(warnings.iter().all(|warning| warning.starts_with("cannot write")), "{warnings:?}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let test = "tracker::trackers::tests::a_full_disk_stops_no_run_and_leaves_whole_records";
        let mut child = std::process::Command::new("sh");
        child.args(["-c", "trap '' XFSZ; ulimit -f 256 && exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
        let done = child.args(["--exact", test]).env(CHILD, folder.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));

        let (board, log) = (only(&folder.path().join("board"), "tfevents"), log(folder.path()));
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

    /// Hears nothing before it may; then keeps what it hears.
    struct Slow {
        gate: Receiver<()>,
        heard: Arc<Mutex<Vec<String>>>,
    }

    impl Tracker for Slow {
        fn track(&mut self, entry: Entry<'_>) -> Result<(), Error> {
            let _ = self.gate.recv();
            self.heard.lock().unwrap().push(format!("{entry:?}"));
            Ok(())
        }
    }

    fn slow() -> (Trackers, Sender<()>, Arc<Mutex<Vec<String>>>) {
        let (open, gate) = mpsc::channel();
        let heard = Arc::new(Mutex::new(vec![]));
        let mut trackers = Trackers::default();
        trackers.add(Ok(Slow { gate, heard: heard.clone() }));
        (trackers, open, heard)
    }

    #[test]
    fn a_run_does_not_wait_for_a_tracker_and_is_told_what_is_missing_there() {
        let (mut trackers, open, heard) = slow();
        let picture = [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &[0; 1 << 20][..]].concat();
        trackers.track(Entry::Started { step: 0 });
        for step in 0..20 {
            trackers.track(Entry::Image { step, name: "samples", png: Png::new(&picture).unwrap() });
        }
        trackers.track(Entry::Finished(End::Stopped));
        // The tracker has kept nothing so far, and the run got here.
        assert!(heard.lock().unwrap().is_empty());
        assert_eq!(trackers.warnings(), ["trackers cannot keep up: some of the run is missing there"]);
        drop(open);
        assert_eq!(trackers.finish(), ["5 entries are missing in the trackers; metrics.jsonl has all"]);
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 17);
        assert!(heard[0] == "Started { step: 0 }" && heard[16] == "Finished(Stopped)");
        assert!(heard[15].starts_with("Image { step: 14,"));
    }

    #[test]
    fn the_wait_for_trackers_has_an_end() {
        let (mut trackers, open, heard) = slow();
        trackers.track(Entry::Flush);
        trackers.close(Duration::from_millis(1));
        let warnings = trackers.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("still not done"), "{warnings:?}");
        assert!(heard.lock().unwrap().is_empty());
        drop(open);
    }

    #[test]
    fn a_tracker_that_panics_takes_no_run_with_it() {
        struct Faulty;
        impl Tracker for Faulty {
            fn track(&mut self, _: Entry<'_>) -> Result<(), Error> {
                panic!("on purpose");
            }
        }
        let mut trackers = Trackers::default();
        trackers.add(Ok(Faulty));
        trackers.track(Entry::Flush);
        trackers.track(Entry::Flush);
        assert_eq!(trackers.finish(), ["trackers stopped by a fault of theirs"]);
    }
}
