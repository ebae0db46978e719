//! Transfers of several files at the same time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::progress::{Progress, TransferProgress};
use crate::request::Subject;
use crate::sync::lock;
use crate::upload_file::UploadFile;
use crate::{Client, Error};

/// Files that are sent at the same time: a store takes long to answer, and seldom uses the whole line.
const SENT_AT_ONCE: usize = 4;

impl Client {
    /// Does something with each of several files, up to `at_once` at the same time, and gives what comes of it in any order.
    /// Where one fails, the others stop as soon as they can, and none begins.
    pub(crate) fn each<T: Sync, R: Send>(
        &self,
        files: &[T],
        at_once: usize,
        progress: Progress<'_>,
        work: impl Fn(&Self, &T, Progress<'_>) -> Result<R, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        let client = &self.stoppable();
        let progress = &Mutex::new(progress);
        let (next, done, failed) = (&AtomicUsize::new(0), &Mutex::new(vec![]), &Mutex::new(None));
        let one = || {
            while !client.is_stopped()
                && let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed))
            {
                match work(client, file, &mut |event: TransferProgress<'_>| lock(progress)(event)) {
                    Ok(result) => lock(done).push(result),
                    Err(error) => {
                        // What stops because of another's fault says so only after it.
                        lock(failed).get_or_insert(error);
                        client.stop();
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..at_once.min(files.len()) {
                scope.spawn(one);
            }
            one();
        });
        let failed = lock(failed).take();
        failed.map_or_else(|| Ok(std::mem::take(&mut *lock(done))), Err)
    }

    /// Puts files into the server's store, unless they are there; gives the bytes that had to be sent.
    pub(crate) fn store_all(
        &self,
        files: &[&UploadFile],
        subject: &Subject<'_>,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        let sent =
            self.each(files, SENT_AT_ONCE, progress, |client, file, progress| client.store(file, subject, progress))?;
        Ok(sent.iter().sum())
    }
}
