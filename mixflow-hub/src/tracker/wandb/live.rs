//! The thread that streams a run, for the tracker that writes the log.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::WandbServer;
use super::sent::Sent;
use super::shared::{Shared, State, View};
use super::stream::stream;
use crate::tracker::Error;

/// A log that is streamed while it is written. The log is the queue: nothing else waits for the server.
#[derive(Debug)]
pub(super) struct Live {
    shared: Arc<Shared>,
    closing: Duration,
}

impl Live {
    /// Starts the thread.
    pub(super) fn start(log: &Path, server: WandbServer) -> Result<Self, Error> {
        let state = State { view: View { sent: Sent::read(log), ..View::default() }, ..State::default() };
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
        self.shared.change(|state| state.view.stable = stable);
    }

    /// The log is about to be cut behind `end`.
    pub(super) fn rewind(&self, end: u64) -> Result<(), Error> {
        let mut state = self.shared.lock();
        state.view.cuts += 1;
        state.view.stable = state.view.stable.min(end);
        state.view.sent = Sent::lower(&self.shared.log, end)?;
        Ok(())
    }

    /// Waits until all is sent, or the server has had its time.
    pub(super) fn close(&self) {
        self.shared.change(|state| state.view.closing = true);
        let waited = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), self.closing, |state| !state.done && !state.left);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.left && state.view.sent.end < state.view.stable {
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
