//! A large file, out of the store: its chunks, several at once, in the order of the file.

use std::ops::Range;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use ::xet::XetError;
use ::xet::xet_session::{XetDownloadStreamGroup, XetFileInfo, XetSession};

use super::INTERVAL;
use crate::progress::{Progress, TransferProgress};
use crate::request::Subject;
use crate::sync::lock;
use crate::xet_access::{Grant, State};
use crate::{Client, Error};

/// Takes the bytes of the file, in their order.
type Add<'a> = &'a mut (dyn FnMut(&[u8]) -> Result<(), Error> + Send);

/// How many times the longest silence a part may take: it has up to 64 MiB, of which nothing shows before it is whole.
const PART: u32 = 20;

/// Why the store did not give all of a file.
enum StoreError {
    /// The store fails: the rest is fetched without it.
    Store(String),
    /// An error that would come without the store, too.
    Other(Error),
}

/// Fetches a range of a file, whose hash in the store is known, and gives it to `add`. What does not come so is left to be asked
/// for otherwise, and so are all files after it.
pub(crate) fn fill(
    client: &Client,
    subject: &Subject<'_>,
    hash: &str,
    range: Range<u64>,
    add: Add<'_>,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let mut notifying = false;
    let mut watched = |event: TransferProgress<'_>| {
        notifying = true;
        progress(event);
        notifying = false;
    };
    // The caller may be a thread of tokio's, which must not wait for others.
    let come =
        thread::scope(|scope| scope.spawn(|| fill_from_store(client, subject, hash, range, add, &mut watched)).join());
    let reason = match come {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(StoreError::Other(error))) => return Err(error),
        Ok(Err(StoreError::Store(reason))) => reason,
        // That is the caller's.
        Err(panic) if notifying => std::panic::resume_unwind(panic),
        Err(_) => "it panicked".into(),
    };
    if !client.is_stopped() {
        client.xet.close();
    }
    let reason = format!("the store Xet is left, and the rest comes without it: {reason}");
    progress(TransferProgress::Retrying { reason: &reason, wait: Duration::ZERO });
    Ok(())
}

fn fill_from_store(
    client: &Client,
    subject: &Subject<'_>,
    hash: &str,
    range: Range<u64>,
    add: Add<'_>,
    progress: Progress<'_>,
) -> Result<(), StoreError> {
    let Some((session, grant)) = client.open_store(subject, progress)? else { return Ok(()) };
    let said = |error: XetError| StoreError::Store(client.quote(&error.to_string()));
    let group = client.reader(&session, &grant).map_err(said)?;
    let Range { start: mut at, end: size } = range;
    let file = XetFileInfo::new(hash.into(), size);
    thread::scope(|scope| {
        let (arrived, came) = mpsc::sync_channel(1);
        let group = &group;
        scope.spawn(move || {
            let read = || {
                let mut stream = group.download_stream_blocking(file, Some(at..size))?;
                while let Some(part) = stream.blocking_next()? {
                    if arrived.send(Ok(part)).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let _ = read().map_err(|error| arrived.send(Err(error)));
        });
        let mut last = Instant::now();
        let fault = loop {
            let came = came.recv_timeout(INTERVAL);
            if let (Ok(_) | Err(RecvTimeoutError::Timeout), Err(stopped)) = (&came, client.going(grant.store.host())) {
                break StoreError::Other(stopped);
            }
            match came {
                Ok(Ok(part)) if part.len() as u64 > size - at => {
                    break StoreError::Store("more comes than the file has".into());
                }
                Ok(Ok(part)) => {
                    if let Err(error) = add(&part) {
                        break StoreError::Other(error);
                    }
                    (at, last) = (at + part.len() as u64, Instant::now());
                    progress(TransferProgress::Received { file: subject.file.unwrap_or_default(), bytes: at, size });
                }
                Ok(Err(error)) => break said(error),
                Err(RecvTimeoutError::Disconnected) if at == size => return Ok(()),
                // It takes some refusals for the end of the file.
                Err(RecvTimeoutError::Disconnected) => break StoreError::Store("it ends before the file does".into()),
                Err(RecvTimeoutError::Timeout) if last.elapsed() > client.patience.silence * PART => {
                    break StoreError::Store("nothing came for too long".into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        let _ = group.abort();
        Err(fault)
    })
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Store(error.to_string())
    }
}

impl Client {
    /// A session of the store with the right to read; none where the store failed before.
    fn open_store(&self, subject: &Subject<'_>, progress: Progress<'_>) -> Result<Option<(XetSession, Grant)>, Error> {
        // Who comes while it is asked for gets the same answer.
        let mut state = lock(&self.xet.0);
        let from = self.endpoint.grant("read", subject.repository, subject.revision);
        let session = match std::mem::replace(&mut *state, State::Closed) {
            State::Closed => return Ok(None),
            State::Open(session, grant) if grant.from.whole() == from.whole() => {
                *state = State::Open(session.clone(), grant.clone());
                return Ok(Some((session, grant)));
            }
            State::Open(session, _) => session,
            State::Unknown => self.xet_session().map_err(|error| self.store_fault(&from, &error))?,
        };
        let grant = self.grant("read", subject, progress);
        if self.is_stopped() {
            *state = State::Unknown;
        }
        let grant = grant?;
        *state = State::Open(session.clone(), grant.clone());
        Ok(Some((session, grant)))
    }

    /// The group of streams that reads one file.
    fn reader(&self, session: &XetSession, grant: &Grant) -> Result<XetDownloadStreamGroup, XetError> {
        let group = session.new_download_stream_group()?;
        let group = group.with_endpoint(grant.address()).with_token_info(&grant.token, grant.end);
        group.with_token_refresh_url(grant.from.whole(), self.authorization()).build_blocking()
    }
}
