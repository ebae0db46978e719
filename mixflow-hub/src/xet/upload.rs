//! A large file, into the store.

use std::sync::Mutex;
use std::thread;

use ::xet::XetError;
use ::xet::xet_session::{Sha256Policy, XetCommitReport, XetUploadCommit};

use super::INTERVAL;
use crate::Client;
use crate::digest::Digest;
use crate::progress::{Progress, TransferProgress};
use crate::request::{RequestError, Subject};
use crate::sync::lock;
use crate::upload_file::UploadFile;

/// Sends a file once. What the store has of it, from this or any other file, is not sent again, nor counted.
pub(crate) fn send(
    client: &Client,
    subject: &Subject<'_>,
    (file, digest): (&UploadFile, &Digest),
    progress: Progress<'_>,
) -> Result<u64, RequestError> {
    // The caller may be a thread of tokio's, which must not wait for others.
    let sent = thread::scope(|scope| scope.spawn(|| send_to_store(client, subject, (file, digest), progress)).join());
    sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn send_to_store(
    client: &Client,
    subject: &Subject<'_>,
    (file, digest): (&UploadFile, &Digest),
    progress: Progress<'_>,
) -> Result<u64, RequestError> {
    // It sends several chunks at once by itself.
    static ONE_FILE: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE_FILE);
    client.going(&client.endpoint.to_string()).map_err(RequestError::permanent)?;
    let grant = client.grant("write", subject, progress).map_err(RequestError::permanent)?;
    progress(TransferProgress::Sending { file: &file.name, size: file.size });
    let fault = |error| RequestError::permanent(client.store_fault(&grant.store, &error));
    let session = client.xet_session().map_err(fault)?;
    let commit = session.new_upload_commit().map_err(fault)?;
    let commit = commit.with_endpoint(grant.address()).with_token_info(&grant.token, grant.end);
    let commit = commit.with_token_refresh_url(grant.from.whole(), client.authorization());
    let commit = commit.build_blocking().map_err(fault)?;
    // The hash is taken while it is read, and compared with that which was announced.
    commit.upload_from_path_blocking(file.path.clone(), Sha256Policy::Compute).map_err(fault)?;
    let report = watch(&commit, file, progress).map_err(fault)?;
    let sent = report.uploads.values().next();
    if sent.and_then(|sent| sent.xet_info.sha256.as_deref()) != Some(digest.as_str()) {
        return Err(RequestError::permanent(file.changed()));
    }
    Ok(report.dedup_metrics.new_bytes)
}

/// Waits until the store has all of the file.
fn watch(commit: &XetUploadCommit, local: &UploadFile, progress: Progress<'_>) -> Result<XetCommitReport, XetError> {
    let (file, size) = (local.name.as_str(), local.size);
    thread::scope(|scope| {
        let done = scope.spawn(|| commit.commit_blocking());
        let mut last = 0;
        while !done.is_finished() {
            thread::sleep(INTERVAL);
            let bytes = commit.progress().total_bytes_completed.min(size);
            if bytes > last {
                progress(TransferProgress::Sent { file, bytes, size });
                last = bytes;
            }
        }
        done.join().unwrap_or_else(|_| Err(XetError::Internal("it panicked".into())))
    })
}
