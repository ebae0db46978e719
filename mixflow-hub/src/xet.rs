//! Large files, by Xet: the Hub's own store, which keeps chunks of files, and each but once. Hugging Face's crate speaks
//! to it; whom, with which right and how long is said here.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ::xet::XetError;
use ::xet::xet_session::header::AUTHORIZATION;
use ::xet::xet_session::{
    HeaderMap, HeaderValue, Sha256Policy, XetCommitReport, XetConfig, XetSession, XetSessionBuilder, XetUploadCommit,
};
use serde::Deserialize;

use crate::lfs::Sending;
use crate::progress::{Tell, TransferProgress};
use crate::request::{Failure, protocol};
use crate::url::Url;
use crate::{Client, Error, Token};

/// How often the progress is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// The right to write to the store, for a while.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grant {
    cas_url: String,
    access_token: String,
    exp: u64,
}

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

impl Client {
    /// What speaks to the store, as patient as we are. It reports to nobody, whatever the environment says.
    fn xet_session(&self) -> Result<XetSession, XetError> {
        // Another part of the program may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let span = |time: Duration| format!("{}ms", time.as_millis().max(1));
        let settings = [
            ("telemetry.enabled", "false".into()),
            ("client.retry_max_attempts", self.patience.attempts.to_string()),
            ("client.retry_base_delay", span(self.patience.first_wait)),
            ("client.retry_max_duration", span(self.patience.longest_wait)),
            ("client.connect_timeout", span(self.patience.connect)),
            ("client.read_timeout", span(self.patience.silence * crate::send::LONGER)),
        ];
        let mut config = XetConfig::new();
        for (name, value) in settings {
            config = config.with_config(name, value).map_err(|error| XetError::Configuration(error.to_string()))?;
        }
        let folder: PathBuf = self.cache.folder().join(".xet");
        XetSessionBuilder::new_with_config(config).with_cache_dir(folder).build()
    }
}

impl Token {
    /// The header that sends it, which shows itself to nobody.
    fn secret_value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.header()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
