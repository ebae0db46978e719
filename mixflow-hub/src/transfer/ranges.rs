//! A large file by several requests at once.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use ureq::http::StatusCode;

use super::{BLOCK, GOOD, Transfer};
use crate::patience::Pace;
use crate::progress::{Progress, TransferProgress};
use crate::request::{Ask, RequestError, Subject, protocol};
use crate::sync::lock;
use crate::{Client, Error};

/// Bytes of one request.
const RANGE: u64 = 16 << 20;

/// One of several connections that fetch ranges of a file.
struct Line<'a, 't> {
    client: &'a Client,
    subject: &'a Subject<'a>,
    name: &'a str,
    size: u64,
    /// Bytes that all connections have fetched, from the file's start.
    received: &'a AtomicU64,
    progress: &'a Mutex<Progress<'t>>,
}

impl Transfer<'_> {
    /// Fetches what is missing by up to `lines` requests at once, as far as the server sends parts; what it does not give so
    /// is left to be asked for as a whole.
    ///
    /// What has come goes into the file in its order, so that the file is the beginning of the content at any time, and
    /// another process can go on with it, one of Python's too. At most `lines` parts wait in memory.
    pub(super) fn fill_by_ranges(&mut self, lines: usize, progress: Progress<'_>) -> Result<(), Error> {
        let (first, size) = (self.held, self.expected.size);
        if lines < 2 || size - first < 2 * RANGE {
            return Ok(());
        }
        let client = &self.client.stoppable();
        let (progress, received) = (&Mutex::new(progress), &AtomicU64::new(first));
        let (next, written, moved) = (&AtomicU64::new(first), &Mutex::new(first), &Condvar::new());
        let subject = &Subject { file: Some(self.name), ..self.subject };
        let line = &Line { client, subject, name: self.name, size, received, progress };
        let mut failed = None;
        thread::scope(|scope| {
            let (arrived, came) = mpsc::channel();
            for _ in 0..lines {
                let arrived = arrived.clone();
                scope.spawn(move || {
                    loop {
                        let start = next.fetch_add(RANGE, Ordering::Relaxed);
                        let mut written = lock(written);
                        while start >= *written + lines as u64 * RANGE && !client.is_stopped() {
                            written = moved.wait(written).unwrap_or_else(PoisonError::into_inner);
                        }
                        drop(written);
                        if start >= size || client.is_stopped() {
                            return;
                        }
                        // Nobody listens any more if whoever does has panicked.
                        let _ = arrived.send((start, line.range(start, size.min(start + RANGE))));
                    }
                });
            }
            drop(arrived);
            let mut early = BTreeMap::new();
            for (start, part) in came {
                let added = part.map_err(Error::from).and_then(|part| {
                    early.insert(start, part);
                    while let Some(part) = early.remove(&self.held) {
                        self.add(&part)?;
                    }
                    Ok(())
                });
                // Whoever waits looks at both under the lock, and misses no word of them.
                let mut written = lock(written);
                *written = self.held;
                if let Err(error) = added {
                    failed.get_or_insert(error);
                    client.stop();
                }
                drop(written);
                moved.notify_all();
            }
        });
        match failed {
            None | Some(Error::Protocol { .. }) => Ok(()),
            Some(error) => Err(error),
        }
    }
}

impl Line<'_, '_> {
    /// The bytes from `start` to before `end`, asked for as often as it takes.
    fn range(&self, start: u64, end: u64) -> Result<Vec<u8>, RequestError> {
        let (mut bytes, mut failures) = (Vec::with_capacity((end - start) as usize), 0);
        while (bytes.len() as u64) < end - start {
            let before = bytes.len() as u64;
            let Err(failure) = self.attempt(start, end, &mut bytes) else { continue };
            failures = if bytes.len() as u64 >= before + GOOD { 1 } else { failures + 1 };
            self.client.wait(failure, failures, &mut |event: TransferProgress<'_>| lock(self.progress)(event))?;
        }
        Ok(bytes)
    }

    /// Sends one request for the bytes of the range that are missing.
    fn attempt(&self, start: u64, end: u64, bytes: &mut Vec<u8>) -> Result<(), RequestError> {
        let Subject { repository, revision, .. } = *self.subject;
        let url = self.client.endpoint.file(repository, revision, self.name);
        let from = start + bytes.len() as u64;
        let answer = self.client.ask(Ask::Part(from, end), &url, self.subject)?;
        let range = format!("bytes {from}-{}/{}", end - 1, self.size);
        if answer.response.status() != StatusCode::PARTIAL_CONTENT || answer.header("content-range") != Some(&range) {
            return Err(RequestError::permanent(protocol(&answer.url, "it sends another part than it was asked for")));
        }
        let host = answer.url.host().to_string();
        let broken = |reason: &str| Error::Interrupted {
            host: host.clone(),
            file: self.name.into(),
            received: self.received.load(Ordering::Relaxed),
            size: self.size,
            reason: reason.into(),
        };
        let mut body = answer.response.into_body().into_reader().take(end - from);
        let (mut block, mut pace) = (vec![0; BLOCK], Pace::new(from));
        while start + (bytes.len() as u64) < end {
            self.client.going(&host).map_err(RequestError::permanent)?;
            let count = body.read(&mut block).map_err(|error| RequestError::transient(broken(&error.to_string())))?;
            if count == 0 {
                return Err(RequestError::transient(broken("the answer ended")));
            }
            bytes.extend_from_slice(&block[..count]);
            let mut progress = lock(self.progress);
            let received = self.received.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
            progress(TransferProgress::Received { file: self.name, bytes: received, size: self.size });
            drop(progress);
            if pace.is_too_slow(start + bytes.len() as u64, self.client.patience.silence) {
                return Err(RequestError::transient(broken("less than 1 KiB a second came")));
            }
        }
        Ok(())
    }
}
