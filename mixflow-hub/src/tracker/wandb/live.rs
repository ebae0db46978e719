//! The thread that streams a run, and what it shares with the tracker that writes the log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::WandbServer;
use super::sent::{self, Sent};
use super::stream::stream;
use crate::tracker::Error;

/// A log that is streamed while it is written. The log is the queue: nothing else waits for the server.
#[derive(Debug)]
pub(super) struct Live {
    shared: Arc<Shared>,
    closing: Duration,
}

/// What the tracker and the thread tell each other.
#[derive(Debug)]
pub(super) struct Shared {
    log: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of the log that change no more, unless it is cut.
    stable: u64,
    /// How often it was cut.
    cuts: u64,
    /// What the server has of it.
    sent: Sent,
    /// Whether nothing is added any more.
    closing: bool,
    /// Whether nobody waits any more, so that nothing may be sent.
    left: bool,
    /// Whether the thread is done.
    done: bool,
    warnings: Vec<String>,
}

/// What the thread sees of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) stable: u64,
    pub(super) cuts: u64,
    pub(super) sent: Sent,
    pub(super) closing: bool,
}

impl Live {
    /// Starts the thread.
    pub(super) fn start(log: &Path, server: WandbServer) -> Result<Self, Error> {
        let state = State { sent: Sent::read(log), ..State::default() };
        let shared = Arc::new(Shared { log: log.into(), state: Mutex::new(state), changed: Condvar::new() });
        let (its, closing) = (shared.clone(), server.closing);
        let work = move || {
            stream(&its, server);
            its.change(|state| state.done = true);
        };
        let thread = std::thread::Builder::new().name("wandb".into()).spawn(work);
        thread.map_err(Error::io("start a thread to stream", log))?;
        Ok(Self { shared, closing })
    }

    /// Up to here the log is complete.
    pub(super) fn publish(&self, stable: u64) {
        self.shared.change(|state| state.stable = stable);
    }

    /// The log is about to be cut behind `end`.
    pub(super) fn rewind(&self, end: u64) -> Result<(), Error> {
        let mut state = self.shared.lock();
        state.cuts += 1;
        state.stable = state.stable.min(end);
        state.sent = Sent::lower(&self.shared.log, end)?;
        Ok(())
    }

    /// Waits until all is sent, or the server has had its time.
    pub(super) fn close(&self) {
        self.shared.change(|state| state.closing = true);
        let waited = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), self.closing, |state| !state.done && !state.left);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.left && state.sent.end < state.stable {
            let folder = self.shared.folder();
            state.warnings.push(format!("not all of the run is sent: `wandb sync {folder}` sends the rest"));
        }
        state.left = true;
        self.shared.changed.notify_all();
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().warnings)
    }
}

impl Shared {
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The run directory, for the user.
    pub(super) fn folder(&self) -> String {
        self.log.parent().unwrap_or(&self.log).display().to_string()
    }

    /// Nothing is sent any more.
    pub(super) fn refuse(&self, text: String) {
        self.change(|state| {
            state.warnings.push(text);
            state.left = true;
        });
    }

    pub(super) fn warn(&self, text: String) {
        self.lock().warnings.push(text);
    }

    /// The log as it is; none if nothing may be sent any more.
    pub(super) fn view(&self) -> Option<View> {
        let state = self.lock();
        (!state.left).then(|| View {
            stable: state.stable,
            cuts: state.cuts,
            sent: state.sent.clone(),
            closing: state.closing,
        })
    }

    /// Waits until the run ends, or some time if it does not.
    pub(super) fn pause(&self, time: Duration) {
        let still = |state: &mut State| !state.closing && !state.left;
        drop(self.changed.wait_timeout_while(self.lock(), time, still));
    }

    /// Waits some time whatever the run does, unless nothing may be sent any more.
    pub(super) fn sleep(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), time, |state| !state.left));
    }

    /// Waits until the log holds more than `view` shows or the run ends, until `due` at most.
    pub(super) fn wait(&self, view: &View, due: Instant) {
        let still =
            |state: &mut State| state.stable <= view.stable && state.cuts == view.cuts && !state.closing && !state.left;
        let time = due.saturating_duration_since(Instant::now());
        drop(self.changed.wait_timeout_while(self.lock(), time, still));
    }

    /// The server at `to` has the log up to `end`, unless it was cut since `view`.
    pub(super) fn acknowledge(&self, view: &View, to: &str, end: u64) {
        let mut state = self.lock();
        if state.cuts == view.cuts && !state.left {
            state.sent = Sent { to: to.into(), end };
            // Where this cannot be kept, the same is sent again to the same place.
            let _ = state.sent.write(&self.log);
        }
    }

    /// The server has all of the log.
    pub(super) fn complete(&self, view: &View) {
        let state = self.lock();
        if state.cuts == view.cuts && !state.left {
            // Only `wandb sync` looks for it.
            let _ = sent::mark(&self.log);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
