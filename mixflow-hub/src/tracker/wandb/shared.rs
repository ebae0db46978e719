//! What the tracker that writes a log shares with the thread that streams it.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::sent::{self, Sent};
use crate::sync::lock;

/// The state that the tracker and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) log: PathBuf,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) view: View,
    /// Whether nobody waits any more, so that nothing may be sent.
    pub(super) left: bool,
    /// Whether the thread is done.
    pub(super) done: bool,
    pub(super) warnings: Vec<String>,
}

/// What the thread sees of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Bytes of the log that change no more unless the log is cut.
    pub(super) stable: u64,
    /// How often the log was cut.
    pub(super) cuts: u64,
    /// How far the server has the log.
    pub(super) sent: Sent,
    /// Whether the run has ended: nothing is added any more.
    pub(super) closing: bool,
}

impl Shared {
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The run directory, for the user.
    pub(super) fn folder(&self) -> String {
        self.log.parent().unwrap_or(&self.log).display().to_string()
    }

    /// Ends the streaming, with a warning.
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
        (!state.left).then(|| state.view.clone())
    }

    /// Waits until the run ends, or some time if it does not.
    pub(super) fn pause(&self, time: Duration) {
        let still = |state: &mut State| !state.view.closing && !state.left;
        drop(self.changed.wait_timeout_while(self.lock(), time, still));
    }

    /// Waits some time whatever the run does, unless nothing may be sent any more.
    pub(super) fn sleep(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), time, |state| !state.left));
    }

    /// Waits until the log holds more than `view` shows or the run ends, until `due` at most.
    pub(super) fn wait(&self, view: &View, due: Instant) {
        let still = |state: &mut State| {
            state.view.stable <= view.stable && state.view.cuts == view.cuts && !state.view.closing && !state.left
        };
        let time = due.saturating_duration_since(Instant::now());
        drop(self.changed.wait_timeout_while(self.lock(), time, still));
    }

    /// The server at `to` has the log up to `end`, unless it was cut since `view`.
    pub(super) fn acknowledge(&self, view: &View, to: &str, end: u64) {
        let mut state = self.lock();
        if state.view.cuts == view.cuts && !state.left {
            state.view.sent = Sent { to: to.into(), end };
            // Where this cannot be kept, the same is sent again to the same place.
            let _ = state.view.sent.write(&self.log);
        }
    }

    /// The server has all of the log.
    pub(super) fn complete(&self, view: &View) {
        let state = self.lock();
        if state.view.cuts == view.cuts && !state.left {
            // Only `wandb sync` looks for it.
            let _ = sent::mark(&self.log);
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
