//! Several large files on their way to the store at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::folder::Local;
use crate::progress::{Tell, TransferProgress};
use crate::request::Subject;
use crate::{Client, Error};

/// Files that are sent at the same time: a store takes long to answer, and seldom all that the line has to give.
const AT_ONCE: usize = 4;

impl Client {
    /// Puts files into the server's store, unless they are there; gives the bytes that had to be sent. Where one fails, the
    /// others stop as soon as they can, and none begins.
    pub(crate) fn store_all(&self, files: &[&Local], subject: &Subject<'_>, tell: Tell<'_>) -> Result<u64, Error> {
        if let [file] = files {
            return self.store(file, subject, tell);
        }
        let client = &self.stoppable();
        let (next, sent, failed) = (&AtomicUsize::new(0), &Mutex::new(0), &Mutex::new(None));
        thread::scope(|scope| {
            let (events, told) = mpsc::sync_channel(0);
            for _ in 0..AT_ONCE.min(files.len()) {
                let events = events.clone();
                scope.spawn(move || {
                    while let Some(&file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Nobody listens any more if whoever is told has panicked.
                        let mut tell = |event: TransferProgress<'_>| drop(events.send((file, Told::from(event))));
                        match client.store(file, subject, &mut tell) {
                            _ if client.is_stopped() => {}
                            Ok(bytes) => *sent.lock().unwrap_or_else(PoisonError::into_inner) += bytes,
                            Err(error) => {
                                client.stop();
                                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            }
                        }
                        if client.is_stopped() {
                            return;
                        }
                    }
                });
            }
            drop(events);
            told.into_iter().for_each(|(file, event): (&Local, Told)| event.tell(file, tell));
        });
        let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or_else(|| Ok(*sent.lock().unwrap_or_else(PoisonError::into_inner)), Err)
    }
}

/// What is told of one file, from one thread to another.
enum Told {
    Sending,
    Sent(u64),
    Stored,
    Retrying(String, Duration),
    /// Nothing else is told of a file on its way.
    Other,
}

impl From<TransferProgress<'_>> for Told {
    fn from(event: TransferProgress<'_>) -> Self {
        match event {
            TransferProgress::Sending { .. } => Self::Sending,
            TransferProgress::Sent { bytes, .. } => Self::Sent(bytes),
            TransferProgress::Stored { .. } => Self::Stored,
            TransferProgress::Retrying { reason, wait } => Self::Retrying(reason.into(), wait),
            _ => Self::Other,
        }
    }
}

impl Told {
    fn tell(&self, file: &Local, tell: Tell<'_>) {
        let (file, size) = (file.name.as_str(), file.size);
        match self {
            Self::Sending => tell(TransferProgress::Sending { file, size }),
            Self::Sent(bytes) => tell(TransferProgress::Sent { file, bytes: *bytes, size }),
            Self::Stored => tell(TransferProgress::Stored { file }),
            Self::Retrying(reason, wait) => tell(TransferProgress::Retrying { reason, wait: *wait }),
            Self::Other => {}
        }
    }
}
