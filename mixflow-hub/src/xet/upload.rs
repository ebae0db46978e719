//! A large file, into the store.

use std::sync::Mutex;
use std::thread;

use ::xet::XetError;
use ::xet::xet_session::{Sha256Policy, XetCommitReport, XetUploadCommit};

use super::INTERVAL;
use crate::Error;
use crate::lfs::Sending;
use crate::progress::{Tell, TransferProgress};
use crate::request::Failure;
use crate::several::held;

impl Sending<'_> {
    /// Sends the file once. What the store has of it, from this or any other file, is not sent again, nor counted.
    pub(crate) fn send_by_xet(&self, tell: Tell<'_>) -> Result<u64, Failure> {
        // The caller may be a thread of tokio's, which must not wait for others.
        let sent = thread::scope(|scope| scope.spawn(|| self.send_to_store(tell)).join());
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn send_to_store(&self, tell: Tell<'_>) -> Result<u64, Failure> {
        // It sends several chunks at once by itself.
        static ONE_FILE: Mutex<()> = Mutex::new(());
        let _one = held(&ONE_FILE);
        if self.client.is_stopped() {
            let (host, reason) = (self.client.endpoint.to_string(), "it was stopped".into());
            return Err(Failure::lasting(Error::Network { host, reason }));
        }
        let grant = self.client.grant("write", self.subject, tell).map_err(Failure::lasting)?;
        tell(TransferProgress::Sending { file: &self.file.name, size: self.file.size });
        let fault = |error| Failure::lasting(self.client.store_fault(&grant.store, &error));
        let session = self.client.xet_session().map_err(fault)?;
        let commit = session.new_upload_commit().map_err(fault)?;
        let commit = commit.with_endpoint(grant.address()).with_token_info(&grant.token, grant.end);
        let commit = commit.with_token_refresh_url(grant.from.whole(), self.client.authorization());
        let commit = commit.build_blocking().map_err(fault)?;
        // The hash is taken while it is read, and compared with that which was announced.
        commit.upload_from_path_blocking(self.file.path.clone(), Sha256Policy::Compute).map_err(fault)?;
        let report = self.watch(&commit, tell).map_err(fault)?;
        let file = report.uploads.values().next();
        if file.and_then(|file| file.xet_info.sha256.as_deref()) != Some(self.digest.as_str()) {
            return Err(Failure::lasting(self.file.changed()));
        }
        Ok(report.dedup_metrics.new_bytes)
    }

    /// Waits until all is there.
    fn watch(&self, commit: &XetUploadCommit, tell: Tell<'_>) -> Result<XetCommitReport, XetError> {
        let (file, size) = (self.file.name.as_str(), self.file.size);
        thread::scope(|scope| {
            let done = scope.spawn(|| commit.commit_blocking());
            let mut last = 0;
            while !done.is_finished() {
                thread::sleep(INTERVAL);
                let bytes = commit.progress().total_bytes_completed.min(size);
                if bytes > last {
                    tell(TransferProgress::Sent { file, bytes, size });
                    last = bytes;
                }
            }
            done.join().unwrap_or_else(|_| Err(XetError::Internal("it panicked".into())))
        })
    }
}
