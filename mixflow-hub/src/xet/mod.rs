//! Large files, by Xet: the Hub's own store, which keeps chunks of files, and each but once. Hugging Face's crate speaks
//! to it; whom, with which right and how long is said here.

mod download;
mod upload;

use std::io;
use std::time::Duration;

use ::xet::XetError;
use ::xet::xet_session::header::AUTHORIZATION;
use ::xet::xet_session::{HeaderMap, HeaderValue, XetConfig, XetSession, XetSessionBuilder};
use serde::Deserialize;

use crate::progress::Progress;
use crate::request::{Subject, protocol};
use crate::url::Url;
use crate::xet_access::Grant;
use crate::{Client, Error, Token};

pub(crate) use download::fill;
pub(crate) use upload::send;

/// How often the progress is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrantAnswer {
    cas_url: String,
    access_token: String,
    exp: u64,
}

impl Client {
    fn grant(&self, right: &str, subject: &Subject<'_>, progress: Progress<'_>) -> Result<Grant, Error> {
        let from = self.endpoint.grant(right, subject.repository, subject.revision);
        let (text, _) = self.page(&from, subject, progress)?;
        let granted: GrantAnswer = serde_json::from_str(&text)
            .map_err(|error| protocol(&from, &format!("it gives no right to {right}: {error}")))?;
        let store = self.given(&granted.cas_url, &from)?;
        Ok(Grant { from, store, token: granted.access_token, end: granted.exp })
    }

    /// Headers with which a transfer that outlives its right gets another one.
    fn authorization(&self) -> HeaderMap {
        let token = self.token.iter().filter_map(Token::secret_value);
        token.map(|value| (AUTHORIZATION, value)).collect()
    }

    /// A session with the store, as patient as the client. It sends no telemetry, whatever the environment says.
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
            // Its own may be a quarter of the memory.
            ("reconstruction.download_buffer_size", "64mb".into()),
            ("reconstruction.download_buffer_perfile_size", "8mb".into()),
            ("reconstruction.download_buffer_limit", "128mb".into()),
        ];
        let mut config = XetConfig::new();
        for (name, value) in settings {
            config = config.with_config(name, value).map_err(|error| XetError::Configuration(error.to_string()))?;
        }
        XetSessionBuilder::new_with_config(config).with_cache_dir(&self.xet_folder).build()
    }

    /// An error of the store, whose requests were repeated already.
    fn store_fault(&self, store: &Url, error: &XetError) -> Error {
        let reason = self.quote(&error.to_string());
        match error {
            XetError::Network(_) | XetError::RateLimited(_) | XetError::ServerError(_) | XetError::Timeout(_) => {
                Error::Network { host: store.host().into(), reason }
            }
            XetError::Io(_) => Error::io("use", &self.xet_folder)(io::Error::other(reason)),
            _ => protocol(store, &reason),
        }
    }
}

impl Token {
    /// Value of the header that sends the token, which `Debug` hides.
    fn secret_value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.header()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
