//! A large file, into the store.

use std::sync::{Mutex, PoisonError};
use std::thread;

use ::xet::XetError;
use ::xet::xet_session::header::AUTHORIZATION;
use ::xet::xet_session::{HeaderMap, Sha256Policy, XetCommitReport, XetUploadCommit};

use super::{Grant, INTERVAL};
use crate::lfs::Sending;
use crate::progress::{Tell, TransferProgress};
use crate::request::{Failure, protocol};
use crate::url::Url;
use crate::{Error, Token};

impl Sending<'_> {
    /// Sends the file once. What the store has of it, from this or any other file, is not sent again, nor counted.
    pub(crate) fn send_by_xet(&self, tell: Tell<'_>) -> Result<u64, Failure> {
        // It sends several chunks at once by itself.
        static ONE_FILE: Mutex<()> = Mutex::new(());
        let _one = ONE_FILE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.client.is_stopped() {
            let (host, reason) = (self.client.endpoint.to_string(), "it was stopped".into());
            return Err(Failure::lasting(Error::Network { host, reason }));
        }
        let grants = self.client.endpoint.grant(self.subject.repository, self.subject.revision);
        let (text, _) = self.client.page(&grants, self.subject, tell).map_err(Failure::lasting)?;
        let grant: Grant = serde_json::from_str(&text)
            .map_err(|error| Failure::lasting(protocol(&grants, &format!("it gives no right to write: {error}"))))?;
        let store = self.client.given(&grant.cas_url, &grants)?;
        tell(TransferProgress::Sending { file: &self.file.name, size: self.file.size });
        let fault = |error| self.fault(&store, &error);
        let session = self.client.xet_session().map_err(fault)?;
        let commit = session.new_upload_commit().map_err(fault)?;
        let commit = commit.with_endpoint(grant.cas_url).with_token_info(grant.access_token, grant.exp);
        // A long transfer outlives the right, which is renewed where it came from.
        let token = self.client.token.iter().filter_map(Token::secret_value);
        let headers: HeaderMap = token.map(|value| (AUTHORIZATION, value)).collect();
        let commit = commit.with_token_refresh_url(grants.whole(), headers).build_blocking().map_err(fault)?;
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

    /// Each request was repeated already: it is over.
    fn fault(&self, store: &Url, error: &XetError) -> Failure {
        let reason = self.client.quote(&error.to_string());
        Failure::lasting(match error {
            XetError::Network(_) | XetError::RateLimited(_) | XetError::ServerError(_) | XetError::Timeout(_) => {
                Error::Network { host: store.host().into(), reason }
            }
            _ => protocol(store, &reason),
        })
    }
}
